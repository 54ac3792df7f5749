"""Seconds of one encrypted prediction on SEAL, by one process and by several, in one sitting.

python bench/workers.py [MODEL ...] --data FOLDER --workers 2 --runs 15

Each network in a process of its own, which holds two servers. They predict in turn, so that what
else the machine does meets both; the fastest run of each stands for a quiet machine. On a busy one
look at processor seconds: those of the busiest process are what several would take on free cores.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import hec
import rows
import session
from hec.compiler.worker_schedule import Work, shared_out
from models import data_folder, select

COLUMNS = [
    rows.Column("network", "model"),
    rows.Column("one process s (fastest)", "alone_fastest"),
    rows.Column("forecast", "alone_forecast"),
    rows.Column("median", "alone_median"),
    rows.Column("several s (fastest)", "several_fastest"),
    rows.Column("forecast", "several_forecast"),
    rows.Column("median", "several_median"),
    rows.Column("times faster (fastest)", "ratio"),
    rows.Column("(median)", "median_ratio"),
    rows.Column("one process cpu s", "alone_cpu"),
    rows.Column("busiest of several", "several_cpu"),
    rows.Column("processes", "workers"),
    rows.Column("memory of the others MB", "worker_bytes", rows.megabytes),
    rows.Column("start s", "start_seconds"),
    rows.Column("load", "load"),
]


def measure(name: str, folder: Path, workers: int, runs: int) -> rows.Row:
    """Return the times of both, after one run each that warms up; answers must be equal."""
    (model,) = select([name])
    samples = model.samples(folder)
    plan, _ = session.compile_model(model, folder, samples, "tenseal")
    client = hec.Client(plan)
    keys, request = client.evaluation_keys(), client.encrypt(samples.test[:1])
    alone, alone_start = session.timed(lambda: hec.Server(plan, keys, workers=1))
    several, start = session.timed(lambda: hec.Server(plan, keys, workers=workers))
    work = Work.of(plan.server.program)
    with several:
        if alone.run(request) != several.run(request):
            raise SystemExit(f"{name}: several processes answer something else")
        servers = (alone, several)
        taken = np.array([[measured(server, request) for server in servers] for _ in range(runs)])
        found, memory = several.workers, private_bytes()
    fastest, median = taken.min(axis=0).tolist(), np.median(taken, axis=0).tolist()
    shared = shared_out(work, found).total_seconds if found > 1 else sum(work.seconds)
    return {
        "workers": found,
        "alone_fastest": fastest[0][0],
        "alone_median": median[0][0],
        "alone_cpu": fastest[0][1],
        "alone_forecast": sum(work.seconds),
        "several_fastest": fastest[1][0],
        "several_median": median[1][0],
        "several_cpu": fastest[1][1],
        "several_forecast": shared,
        "ratio": fastest[0][0] / fastest[1][0],
        "median_ratio": median[0][0] / median[1][0],
        "worker_bytes": memory,
        "start_seconds": start - alone_start,
        "load": os.getloadavg()[0],
    }


def measured(server: hec.Server, request: bytes) -> tuple[float, float]:
    """Return the seconds of one prediction, and the processor's of the busiest process."""
    group = [os.getpid(), *children()]
    before, start = [processor_seconds(process) for process in group], time.perf_counter()
    server.run(request)
    taken = time.perf_counter() - start
    after = [processor_seconds(process) for process in group]
    return taken, max(late - early for early, late in zip(before, after, strict=True))


def processor_seconds(process: int) -> float:
    """Return how long a process has run on any core."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def children() -> list[int]:
    """Return the processes that this one has started."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(number) for number in file.read_text(encoding="ascii").split()]


def private_bytes() -> float:
    """Return the memory of all child processes that they share with nobody."""
    lines = [
        line.split()
        for child in children()
        for line in Path(f"/proc/{child}/smaps_rollup").read_text(encoding="ascii").splitlines()
    ]
    return sum(1024.0 * int(line[1]) for line in lines if line[0].startswith("Private_"))


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names; all without any")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    workers: Annotated[int, typer.Option(min=2, help="processes at most")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="predictions of each after the first")] = 15,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure what several processes gain on each network."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, workers, runs))
        return
    arguments = [f"--data={folder}", f"--workers={workers}", f"--runs={runs}"]
    names = [model.name for model in select(models or [], "accuracy")]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show({"Worker processes": COLUMNS}, table, out / "workers.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
