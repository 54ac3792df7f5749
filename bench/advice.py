"""What each network would gain from changes: the advice, with the time that it takes.

python bench/advice.py [MODEL ...] --data FOLDER

Nothing is encrypted, and OpenFHE is not needed: a network that only bootstraps can run is compared
with its program on OpenFHE.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hec.compiler.advice import advice
from hec.compiler.alternative import Alternative
from hec.compiler.target import Target
from models import Model, data_folder, select

SAMPLES = 256  # for calibration
DEFAULT = ("lenet", "hls4ml-three-layer", "heman-lenet5", "cntk-op8", "ezkl-layernorm")
HEADER = "| network | change | levels | bootstraps | faster | less memory | agreement % |"


def rows(model: Model, folder: Path) -> list[str]:
    """Return a row for each piece of advice, and one for the time that all took."""
    samples = model.samples(folder).calibration[:SAMPLES]
    target = Target(maxpool=model.maxpool, max_error=model.max_error)
    start = time.perf_counter()
    found = advice(folder / "models" / model.path, samples, target)
    seconds = time.perf_counter() - start
    return [*(row(model.name, each) for each in found), f"| {model.name} | ({seconds:.0f} s) |"]


def row(name: str, told: Alternative) -> str:
    """Return one line of the table."""
    before, after = told.agreement_before, told.agreement_after
    quality = "-" if before is None or after is None else f"{100 * before:.1f} → {100 * after:.1f}"
    tuned = " (train first)" if told.needs_tuning else ""
    return (
        f"| {name} | {told.change} | {told.levels:+d} | {told.bootstraps:+d} "
        f"| {told.seconds_ratio:.3g}× | {told.memory_ratio:.3g}× | {quality}{tuned} |"  # noqa: RUF001
    )


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names; a few without any")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
) -> None:
    """Compile what could be changed in networks."""
    folder = data_folder(data)
    lines = [HEADER, "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for model in select(list(models or DEFAULT)):
        lines += rows(model, folder)
        typer.echo("\n".join(lines[-1:]), err=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "advice.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
