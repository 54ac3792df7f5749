"""A server as a process of its own: loads a plan and keys, answers every request of a folder.

python bench/deep_server.py PLAN KEYS FOLDER

Reads FOLDER/*.enc in the order of their names, writes FOLDER/*.out, and prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import hec
from hec.compiler.memory import DEFAULT_MAX_RAM, server_memory
from hec.runtime.trace import Trace
from process import peak_bytes, timed


def main(plan_file: Path, keys: Path, folder: Path) -> None:
    """Answer every request; print seconds and peak memory."""
    plan = hec.Plan.load(plan_file)
    limit = max(DEFAULT_MAX_RAM, server_memory(plan.server.program).least)
    server, load_seconds = timed(lambda: hec.Server(plan, keys, max_ram=limit, workers=1))
    seconds, cpu, trace = [], time.process_time(), Trace()
    for request in sorted(folder.glob("*.enc")):
        reply, elapsed = timed(
            lambda request=request: server.run(request.read_bytes(), trace=trace)
        )
        request.with_suffix(".out").write_bytes(reply)
        seconds.append(elapsed)
        print(f"{request.name}: {elapsed:.1f} s", file=sys.stderr, flush=True)
    cpu = time.process_time() - cpu
    result = {
        "load_seconds": load_seconds,
        "run_seconds": seconds,
        "cpu_seconds": cpu / max(len(seconds), 1),
        "server_peak_bytes": peak_bytes(),
        "efficiency": trace.efficiency,  # of the last prediction
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
