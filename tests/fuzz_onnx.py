"""Fuzz the import of ONNX models for as long as you like: `make fuzz`, or this file with --help.

Workers import mutated models, each in a process of its own with a limit on memory; one that raises
anything but `CompileError`, dies, or takes too long leaves its model in the folder of findings. The
short form of this is `test_onnx_fuzz.py`, in every run of the tests.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from onnx_fuzzing import lowered_limits, outcome
from onnx_mutations import corpus, mutated

MEMORY = 3 * 10**9  # bytes of address space of a worker
BATCH = 200  # models that one worker process tries
SEED_BYTES = 4_000_000  # the largest model that is taken from --models


def main() -> None:
    """Fuzz until the time is over; the exit code is 1 if anything was found."""
    options = _options()
    seeds = corpus() + _models(options.models)
    options.findings.mkdir(parents=True, exist_ok=True)
    end, number, found = time.monotonic() + options.seconds, options.seed, 0
    told: Counter[str] = Counter()
    while time.monotonic() < end:
        found += _batch(seeds, number, options, told)
        number += 1
    tried = sum(told.values())
    sys.stdout.write(f"{tried:,} models, {found} findings in {options.findings}\n")
    for what, count in told.most_common(40):
        sys.stdout.write(f"{count:8,}  {what}\n")
    sys.exit(1 if found else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0, help="number of the first batch")
    parser.add_argument("--limit", type=int, default=20, help="seconds of computation for a model")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of more models")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    return parser.parse_args()


def _models(folders: list[Path]) -> list[bytes]:
    paths = [path for folder in folders for path in sorted(folder.rglob("*.onnx"))]
    return [path.read_bytes() for path in paths if path.stat().st_size <= SEED_BYTES]


def _batch(seeds: list[bytes], number: int, options: argparse.Namespace, told: Counter[str]) -> int:
    """Try one batch in a process of its own; keep what it was at when it failed."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    worker = context.Process(target=_work, args=(seeds, number, options.limit, theirs))
    worker.start()
    theirs.close()
    found, done = 0, 0
    while done < BATCH:
        finding = ""
        try:
            if not mine.poll(10 * options.limit):
                finding = "hang"
            else:
                what, failure = mine.recv()
                told[what] += 1
                finding = failure
        except EOFError:
            worker.join()
            finding = f"died with code {worker.exitcode}"
        if finding:
            found += 1
            name = f"{number}-{done}"
            (options.findings / f"{name}.onnx").write_bytes(example(seeds, number, done))
            (options.findings / f"{name}.txt").write_text(finding, encoding="utf-8")
            sys.stdout.write(f"{name}: {finding.strip().splitlines()[-1]}\n")
            sys.stdout.flush()
        done += 1
        if finding == "hang" or finding.startswith("died"):
            break
    worker.kill()
    worker.join()
    return found


def example(seeds: list[bytes], number: int, index: int) -> bytes:
    """Return the model of a batch: the same for the same numbers and corpus."""
    source = Random(f"{number}/{index}")
    return mutated(source.choice(seeds), seeds, source)


def _work(seeds: list[bytes], number: int, limit: float, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("error")
    with lowered_limits():
        for index in range(BATCH):
            data = example(seeds, number, index)
            begin = time.process_time()
            try:
                what, failure = outcome(data), ""
            except Exception:
                what, failure = "finding", traceback.format_exc()
            seconds = time.process_time() - begin
            if not failure and seconds > limit:
                failure = f"slow: {seconds:.1f} s of computation"
            pipe.send((what, failure))


if __name__ == "__main__":
    main()
