"""Seconds and bytes of plans against the size of networks, next to what the arithmetic demands.

python bench/scaling.py                     # forecasts only: nothing is encrypted
python bench/scaling.py width image --runs 3

Networks have random weights (networks.py) and grow along one axis at a time (growth.py): width,
depth, side of the image, channels, and how many inputs are predicted at once. With `--runs` some
are run, client and server as processes of their own. The law of each axis is the exponent of a line
through the points, sizes and costs as logarithms; "large" fits the larger half of the sizes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import growth
import hec
import rows
from hec.compiler.memory import server_memory
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.program_counts import counts_of
from networks import network, products
from process import timed
from serving import serve

SAMPLES = 64  # random inputs that calibrate
PICTURE = Path(__file__).with_name("scaling.png")
COLUMNS = [
    rows.Column("axis:size", "model"),
    rows.Column("products in the clear", "work", rows.whole),
    rows.Column("ring", "ring_degree", rows.whole),
    rows.Column("levels", "levels", rows.whole),
    rows.Column("inputs", "input_ciphertexts", rows.whole),
    rows.Column("key switches", "key_switches", rows.whole),
    rows.Column("plain products", "plain_products", rows.whole),
    rows.Column("forecast s", "forecast_seconds"),
    rows.Column("run s", "run_seconds"),
    rows.Column("forecast MB", "forecast_bytes", rows.megabytes),
    rows.Column("run MB", "server_peak_bytes", rows.megabytes),
    rows.Column("compile s", "compile_seconds"),
]


def power(number: float) -> str:
    """Show an exponent."""
    return f"{number:.2f}"


LAWS = [
    rows.Column("axis", "model"),
    rows.Column("arithmetic", "law", power),
    rows.Column("seconds", "forecast_seconds", power),
    rows.Column("large", "forecast_seconds_upper", power),
    rows.Column("bytes", "forecast_bytes", power),
    rows.Column("large", "forecast_bytes_upper", power),
    rows.Column("key switches", "key_switches", power),
    rows.Column("plain products", "plain_products", power),
    rows.Column("compile s", "compile_seconds", power),
    rows.Column("large", "compile_seconds_upper", power),
    rows.Column("faster than the arithmetic", "faster"),
]
COSTS = ("forecast_seconds", "forecast_bytes", "key_switches", "plain_products", "compile_seconds")


def measure(name: str, backend: str, runs: int) -> rows.Row:
    """Return forecast and counts of AXIS:SIZE, and what client and server then measure."""
    axis, size = growth.axis(name.partition(":")[0]), int(name.partition(":")[2])
    shape, layers = axis.network(size)
    random = np.random.default_rng(1)
    samples = random.normal(size=(SAMPLES, 1, *shape)).astype(np.float32)
    batch = size if axis.batched else 1
    target = hec.Target(backend=backend, batch=batch)
    model = network(shape, layers, gentle=axis.gentle)
    try:
        plan, seconds = timed(lambda: hec.compile(model, calibration=samples, target=target))
    except hec.CompileError as refusal:
        return {"refused": refusal.problems[0].message}
    requests = ceil(batch / plan.client.parameters.batch)
    row: rows.Row = {
        **asdict(counts_of(plan.server.program)),
        "work": products(shape, layers) * batch,
        "compile_seconds": seconds,
        "forecast_seconds": requests * forecast_of(plan.server).total_seconds,
        "forecast_bytes": server_memory(plan.server.program).peak,
    }
    if not runs or size not in axis.run or requests > 1:
        return row
    test = random.normal(size=(runs + 1, batch, *shape))
    with tempfile.TemporaryDirectory(prefix="hec-bench-") as scratch:
        path = Path(scratch) / "model.hec"
        plan.save(path)
        del plan
        served = serve(path, test.astype(np.float32))
    return {**row, **served.measured, "run_seconds": float(np.median(served.seconds[1:]))}


def laws(axis: growth.Axis, table: Sequence[rows.Row]) -> rows.Row:
    """Return the exponents of one axis, those of the larger half of the sizes as KEY_upper."""
    found: rows.Row = {"model": axis.name, "law": axis.law}
    faster = list[str]()
    for cost in COSTS:
        points = [(size, value) for size, value in _points(table, cost) if value > 0]
        sizes, values = [x for x, _ in points], [y for _, y in points]
        found[cost] = growth.exponent(sizes, values) if points else None
        found[f"{cost}_upper"] = growth.upper(sizes, values) if points else None
        if growth.is_faster(growth.upper(sizes, values) if points else None, axis.law):
            faster.append(cost.removeprefix("forecast_").replace("_", " "))
    found["faster"] = ", ".join(faster) or "-"
    return found


def _points(table: Sequence[rows.Row], key: str) -> list[tuple[float, float]]:
    """Return (size, value) of the rows that have a value."""
    return [
        (float(str(row["model"]).partition(":")[2]), float(row[key] or 0))
        for row in table
        if row.get(key) is not None
    ]


def _series(table: Sequence[rows.Row], forecast: str, measured: str, unit: float) -> growth.Series:
    sizes, values = zip(*_points(table, forecast), strict=True)
    runs = _points(table, measured)
    return growth.Series(
        sizes,
        tuple(value / unit for value in values),
        tuple(size for size, _ in runs),
        tuple(value / unit for _, value in runs),
    )


def panels(axes: Sequence[growth.Axis], table: Sequence[rows.Row]) -> list[growth.Panel]:
    """Return what the picture shows of each axis."""
    return [
        growth.Panel(
            axis,
            _series(rows_of(axis, table), "forecast_seconds", "run_seconds", 1.0),
            _series(rows_of(axis, table), "forecast_bytes", "server_peak_bytes", 1e9),
        )
        for axis in axes
    ]


def rows_of(axis: growth.Axis, table: Sequence[rows.Row]) -> list[rows.Row]:
    """Return the rows of one axis."""
    return [row for row in table if str(row["model"]).startswith(f"{axis.name}:")]


def main(
    axes: Annotated[list[str] | None, typer.Argument(help="names; all without any")] = None,
    backend: str = "tenseal",
    runs: Annotated[int, typer.Option(help="predictions after the first; 0: forecasts only")] = 0,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    picture: Annotated[Path, typer.Option(help="where the picture is written")] = PICTURE,
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Show how seconds and bytes grow along each axis."""
    if child:
        rows.hand_over(measure(child, backend, runs))
        return
    chosen = [growth.axis(name) for name in axes or [each.name for each in growth.AXES]]
    names = [f"{each.name}:{size}" for each in chosen for size in each.sizes]
    arguments = [f"--backend={backend}", f"--runs={runs}"]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show({"Sizes": COLUMNS}, table, out / "scaling.md")
    grown = [laws(each, rows_of(each, table)) for each in chosen]
    rows.show({"Exponents": LAWS}, grown, out / "scaling-laws.md")
    growth.draw(panels(chosen, table), picture)
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
