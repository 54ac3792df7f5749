"""Every network, whoever made it: does it compile, how, what would it cost, does it agree.

python bench/zoo.py [MODEL ...] --data FOLDER --simulated 1000

Nothing is encrypted. Needs OpenFHE for the deep networks; each network in a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import hec
import rows
import session
from hec.compiler.report import report
from hec.runtime.simulate import run_simulated
from models import Model, data_folder, select

TABLES = {
    "Every network": [
        rows.Column("network", "model"),
        rows.Column("how", "how"),
        rows.Column("levels", "levels", rows.whole),
        rows.Column("ring degree", "ring_degree", rows.whole),
        rows.Column("compile s", "compile_seconds", rows.tenths),
        rows.Column("forecast s", "forecast_seconds"),
        rows.Column("forecast GB", "forecast_bytes", lambda number: f"{number / 1e9:.2f}"),
        rows.Column("samples", "samples", rows.whole),
        rows.Column("agreement %", "agreement", rows.percent),
        rows.Column("error / rms", "relative_error"),
        rows.Column("clear top-1 %", "clear_accuracy", rows.percent),
    ]
}


def measure(name: str, folder: Path, simulated: int) -> rows.Row:
    """Compile and simulate; a refusal is a result too."""
    (model,) = select([name])
    samples = model.samples(folder)
    try:
        plan, seconds = session.compile_model(model, folder, samples, "auto")
    except hec.CompileError as refusal:
        return {"how": "refused: " + "; ".join(each.message for each in refusal.problems)}
    test = samples.test[:simulated]
    clear = session.clear_outputs(folder / "models" / model.path, test)
    simulation = run_simulated(plan, test)
    predicted = session.as_matrix(simulation.outputs, len(test))
    width = plan.client.outputs[0].shape[-1]
    found, expected = predicted.reshape(-1, width), clear.reshape(-1, width)
    row: rows.Row = {
        "compile_seconds": seconds,
        "samples": len(test),
        "relative_error": session.rms(found - expected) / session.rms(expected),
        **session.parameters(plan),
        **_cost(plan, model),
    }
    if width > 1 and model.classifies:
        row["agreement"] = session.agreement(found, expected)
    if samples.labels is not None:
        labels = samples.labels[: len(expected)]
        row["clear_accuracy"] = float((expected.argmax(axis=1) == labels).mean())
    return row


def _cost(plan: hec.Plan, model: Model) -> rows.Row:
    server = report(plan).server
    if server is None:
        raise SystemExit("the plan has no server's part")
    how = f"leveled, {plan.client.backend}"
    if server.bootstraps is not None:
        how = f"{server.bootstraps.count} bootstraps"
    if model.maxpool:
        how += f", --maxpool {model.maxpool}"
    if model.max_error:
        how += f", --max-error {model.max_error:g}"
    return {
        "how": how,
        "forecast_seconds": server.seconds,
        "forecast_bytes": server.memory.peak,
    }


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names; all without any")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    simulated: Annotated[int, typer.Option(min=1, help="samples in the simulator")] = 1000,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Compile every network, and predict in the simulator."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, simulated))
        return
    arguments = [f"--data={folder}", f"--simulated={simulated}"]
    names = [model.name for model in select(models or [])]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show(TABLES, table, out / "zoo.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
