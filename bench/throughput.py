"""Images per second of plans for batches, with keys and encoded weights already in memory.

python bench/throughput.py [MODEL ...] --data FOLDER --images 4096 --runs 3

Each network in a process of its own; the median of the runs after one that warms up. Seconds are
the server's, from the bytes of a request to those of its reply; the client's are told apart.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import hec
import rows
import session
from models import data_folder, select

NETWORKS = ("lola", "mlp")
COLUMNS = [
    rows.Column("network", "model"),
    rows.Column("backend", "backend"),
    rows.Column("images", "images", rows.whole),
    rows.Column("in a ciphertext", "batch", rows.whole),
    rows.Column("images a second", "images_per_second"),
    rows.Column("forecast", "forecast_per_second"),
    rows.Column("server s (median)", "run_seconds"),
    rows.Column("fastest", "run_fastest"),
    rows.Column("server cpu s", "cpu_seconds"),
    rows.Column("client encrypt s", "encrypt_seconds"),
    rows.Column("client decrypt s", "decrypt_seconds"),
    rows.Column("compile s", "compile_seconds"),
    rows.Column("load s", "load_seconds"),
    rows.Column("request MB", "request_bytes", rows.megabytes),
    rows.Column("peak MB", "peak_bytes", rows.megabytes),
    rows.Column("error, rms", "error_rms"),
    rows.Column("agreement %", "agreement", rows.percent),
]


def measure(name: str, folder: Path, backend: str, images: int, runs: int) -> rows.Row:
    """Return the times of `runs` times `images` predictions."""
    (model,) = select([name])
    samples = model.samples(folder)
    plan, compile_seconds = session.compile_model(model, folder, samples, backend, images)
    batch = plan.client.parameters.batch
    given = repeated(samples.test, images)
    parts = [given[start : start + batch] for start in range(0, images, batch)]
    client = hec.Client(plan)
    server, load_seconds = session.timed(lambda: hec.Server(plan, client.evaluation_keys()))
    requests, encrypt = session.timed(lambda: [client.encrypt(part) for part in parts])
    times: list[tuple[float, float]] = []  # run, its processor's
    for _ in range(runs + 1):
        cpu = time.process_time()
        replies, seconds = session.timed(lambda: [server.run(request) for request in requests])
        times.append((seconds, time.process_time() - cpu))
    outputs, decrypt = session.timed(lambda: [client.decrypt(reply) for reply in replies])
    found = np.concatenate(
        [session.as_matrix(y, len(part)) for y, part in zip(outputs, parts, strict=True)]
    )
    clear = session.clear_outputs(folder / "models" / model.path, given)
    warm = np.array(times[1:])
    run, cpu = np.median(warm, axis=0).tolist()
    forecast = hec.report(plan).server.seconds * len(parts)
    return {
        "backend": plan.client.backend,
        "images": images,
        "batch": batch,
        "images_per_second": images / run,
        "forecast_per_second": images / forecast,
        "run_seconds": run,
        "run_fastest": float(warm[:, 0].min()),
        "cpu_seconds": cpu,
        "encrypt_seconds": encrypt,
        "decrypt_seconds": decrypt,
        "compile_seconds": compile_seconds,
        "load_seconds": load_seconds,
        "request_bytes": sum(map(len, requests)),
        "peak_bytes": session.peak_bytes(),
        "error_rms": session.rms(found - clear),
        "agreement": session.agreement(found, clear),
    }


def repeated(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `count` samples, the same ones again where there are fewer."""
    return samples[np.arange(count) % len(samples)]


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names [lola mlp]")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    backend: str = "auto",
    images: Annotated[int, typer.Option(min=2, help="predicted together")] = 4096,
    runs: Annotated[int, typer.Option(min=1, help="after the first")] = 3,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the throughput of each network."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, backend, images, runs))
        return
    arguments = [f"--data={folder}", f"--backend={backend}", f"--runs={runs}"]
    arguments.append(f"--images={images}")
    names = [model.name for model in select(models or list(NETWORKS))]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show({"Throughput": COLUMNS}, table, out / "throughput.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
