"""What a plan's forecast says, against what client and server then measure.

python bench/forecast.py [MODEL ...] --data FOLDER --runs 5

Every network on both backends where it can, as MODEL:BACKEND; deep ones, by name, on OpenFHE only.
Client and server are processes of their own. Seconds are the median of the runs after one that
warms up. As machines drift, what the forecast takes for this one's steps is measured right before
those runs and right after, in the ring of the network; `--costs host` takes what
`hec calibrate-host` stored. Goals: seconds within 25 %, memory within 15 %, the error of the
outputs, root mean square, within 1 bit.
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import hec
import rows
import session
from hec.compiler.ckks_ir import Output
from hec.compiler.cost_table import CostTable
from hec.compiler.host_costs import chosen_table
from hec.compiler.memory import DEFAULT_MAX_RAM, server_memory
from hec.compiler.plan_forecast import forecast_of
from hec.runtime.calibrate import calibrate_ring
from hec.runtime.simulate import run_clear
from models import data_folder, select
from serving import serve

SMALL = "accuracy"  # the bench whose networks are measured without names
NETWORK = rows.Column("network", "model")


def ratio(number: float) -> str:
    """Show a forecast over a measurement."""
    return f"{number:.2f}"


TABLES = {
    "Seconds of one prediction": [
        NETWORK,
        rows.Column("ring", "ring_degree", rows.whole),
        rows.Column("levels", "levels", rows.whole),
        rows.Column("costs of", "costs"),
        rows.Column("forecast s", "forecast_seconds"),
        rows.Column("server s", "run_seconds"),
        rows.Column("forecast / server", "seconds_ratio", ratio),
        rows.Column("fastest", "run_fastest"),
        rows.Column("slowest", "run_slowest"),
        rows.Column("cpu s", "cpu_seconds"),
        rows.Column("efficiency", "efficiency", lambda number: f"{number:.3f}"),
    ],
    "Memory of the server, and error of the outputs": [
        NETWORK,
        rows.Column("forecast MB", "forecast_bytes", rows.megabytes),
        rows.Column("server peak MB", "server_peak_bytes", rows.megabytes),
        rows.Column("forecast / peak", "bytes_ratio", ratio),
        rows.Column("forecast error", "forecast_error"),
        rows.Column("measured error", "noise_measured"),
        rows.Column("bits apart", "error_bits", lambda number: f"{number:+.1f}"),
    ],
}


def measure(name: str, folder: Path, runs: int, costs: str | None) -> rows.Row:
    """Return forecast and measurement of MODEL:BACKEND, over `runs` predictions after the first."""
    title, _, backend = name.partition(":")
    (model,) = select([title])
    samples = model.samples(folder)
    plan = _raw(session.compile_model(model, folder, samples, backend)[0])
    test = samples.test[: runs + 1]
    exact = session.as_matrix(run_clear(plan, test).outputs, len(test))
    before = _table(plan, costs)
    with tempfile.TemporaryDirectory(prefix="hec-bench-") as scratch:
        path = Path(scratch) / "model.hec"
        plan.save(path)
        row = session.parameters(plan)
        del plan, samples  # the processes to come need the memory
        served = serve(path, test)
        plan = hec.Plan.load(path)
    predicted = _predicted(plan, before, _table(plan, costs))
    warm = served.seconds[1:] if runs else served.seconds
    error, seconds = session.rms(served.outputs - exact), float(np.median(warm))
    peak = served.measured["server_peak_bytes"]
    return {
        **row,
        **predicted,
        **served.measured,
        "run_seconds": seconds,
        "run_fastest": float(warm.min()),
        "run_slowest": float(warm.max()),
        "noise_measured": error,
        "seconds_ratio": predicted["forecast_seconds"] / seconds,
        "bytes_ratio": predicted["forecast_bytes"] / peak,
        "error_bits": float(np.log2(predicted["forecast_error"] / error)),
        "costs": before.name,
    }


def _raw(plan: hec.Plan) -> hec.Plan:
    """Return the plan without what the client does after decrypting: a softmax hides errors."""
    outputs = tuple(replace(each, epilogue=()) for each in plan.client.outputs)
    return hec.Plan.of(replace(plan.client, outputs=outputs), plan.server)


def _table(plan: hec.Plan, costs: str | None) -> CostTable:
    parameters = plan.client.parameters
    return chosen_table(costs, plan.client.backend) if costs else calibrate_ring(parameters)


def _predicted(plan: hec.Plan, *tables: CostTable) -> dict[str, float]:
    program = plan.server.program
    found = [forecast_of(plan.server, table) for table in tables]
    memory = server_memory(program)
    position, output = next(
        (i, x) for i, x in enumerate(program.instructions) if isinstance(x, Output)
    )
    return {
        "forecast_seconds": float(np.mean([each.total_seconds for each in found])),
        "forecast_bytes": min(memory.peak, max(memory.least, DEFAULT_MAX_RAM)),
        "forecast_error": found[0].deviations[position] * abs(output.factor),
    }


def _names(models: list[str], backends: list[str]) -> list[str]:
    return [
        f"{model.name}:{backend}"
        for model in select(models, None if models else SMALL)
        for backend in backends
        if backend == "openfhe" or model.bench != "deep"
    ]


def _backends() -> list[str]:
    return ["tenseal", *(["openfhe"] if importlib.util.find_spec("openfhe") else [])]


def main(
    models: Annotated[
        list[str] | None, typer.Argument(help="names; small ones without any")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="tenseal, openfhe; both if there")
    ] = None,
    runs: Annotated[int, typer.Option(help="predictions after the first")] = 5,
    costs: Annotated[
        str | None, typer.Option(help="reference, host, or a file; measured anew without")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Compare forecasts with measurements, network by network."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, runs, costs))
        return
    arguments = [f"--data={folder}", f"--runs={runs}", *([f"--costs={costs}"] if costs else [])]
    names = _names(models or [], backend or _backends())
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show(TABLES, table, out / "forecast.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
