"""Seconds of one encrypted prediction, with keys and encoded weights already in memory.

python bench/latency.py [MODEL ...] --data FOLDER --runs 9

Each network in a process of its own; the median of the runs after one that warms up.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import hec
import rows
import session
from models import data_folder, select

COLUMNS = [
    rows.Column("network", "model"),
    rows.Column("server s (median)", "run_seconds"),
    rows.Column("fastest", "run_fastest"),
    rows.Column("slowest", "run_slowest"),
    rows.Column("processes", "workers"),
    rows.Column("server cpu s", "cpu_seconds"),
    rows.Column("first run s", "first_seconds"),
    rows.Column("client encrypt s", "encrypt_seconds"),
    rows.Column("client decrypt s", "decrypt_seconds"),
    rows.Column("load s", "load_seconds"),
    rows.Column("peak MB", "peak_bytes", rows.megabytes),
    rows.Column("error bits", "error_bits"),
]


def measure(name: str, folder: Path, backend: str, runs: int, workers: int | None) -> rows.Row:
    """Return the times of `runs` predictions on different samples."""
    (model,) = select([name])
    samples = model.samples(folder)
    plan, _ = session.compile_model(model, folder, samples, backend)
    client = hec.Client(plan)
    keys = client.evaluation_keys()
    server, load_seconds = session.timed(lambda: hec.Server(plan, keys, workers=workers))
    test = samples.test[: runs + 1]
    clear = session.clear_outputs(folder / "models" / model.path, test)
    times: list[tuple[float, float, float, float]] = []  # encrypt, run, run's cpu, decrypt
    errors = []
    for sample, expected in zip(test, clear, strict=True):
        request, encrypt = session.timed(lambda sample=sample: client.encrypt(sample[None]))
        cpu = time.process_time()
        reply, run = session.timed(lambda request=request: server.run(request))
        cpu = time.process_time() - cpu
        output, decrypt = session.timed(lambda reply=reply: client.decrypt(reply))
        errors.append(np.abs(session.as_matrix(output, 1)[0] - expected).mean())
        times.append((encrypt, run, cpu, decrypt))
    processes = server.workers
    server.close()
    warm = np.array(times[1:])
    encrypt, run, cpu, decrypt = np.median(warm, axis=0).tolist()
    return {
        "workers": processes,
        "run_seconds": run,
        "run_fastest": float(warm[:, 1].min()),
        "run_slowest": float(warm[:, 1].max()),
        "cpu_seconds": cpu,
        "first_seconds": times[0][1],
        "encrypt_seconds": encrypt,
        "decrypt_seconds": decrypt,
        "load_seconds": load_seconds,
        "peak_bytes": session.peak_bytes(),
        "error_bits": float(-np.log2(max(np.mean(errors), 2.0**-60))),
    }


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names; all without any")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    backend: str = "auto",
    runs: Annotated[int, typer.Option(min=1, help="predictions after the first")] = 9,
    workers: Annotated[
        int | None, typer.Option(help="processes at most; for SEAL [all cores]")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the latency of each network."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, backend, runs, workers))
        return
    arguments = [f"--data={folder}", f"--backend={backend}", f"--runs={runs}"]
    arguments += [] if workers is None else [f"--workers={workers}"]
    names = [model.name for model in select(models or [], "accuracy")]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show({"Latency": COLUMNS}, table, out / "latency.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
