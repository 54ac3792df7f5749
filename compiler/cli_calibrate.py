"""`hec calibrate-host`: measure this machine, so that forecasts are in its seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hec.compiler.cli_terminal import progress, share, show_facts, show_json, show_table

if TYPE_CHECKING:
    from hec.compiler.cost_table import CostTable, OpenfheSteps, SealSteps
    from hec.runtime.calibrate import Calibration

MOST_SPREAD: Final = 0.1  # of a step's repeats; on an idle machine 0.02 to 0.05
MOST_WAITED: Final = 0.05  # of the time of one thread
_SHOWN_LIMBS: Final = 2


def calibrate_host(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="a file [the folder for settings]")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="show what is stored; measure nothing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    name: Annotated[str, typer.Option(help="what reports call it")] = "this machine",
) -> None:
    """Measure what encrypted computation costs on this machine.

    Takes under two minutes, and wants the machine for itself. Reports then forecast its seconds;
    plans stay as they are: compiling always uses the reference machine's.

    \b
    Example:
      hec calibrate-host
      hec report model.hec
    """
    from hec.compiler import cost_table
    from hec.compiler.cli_files import check_output
    from hec.compiler.host_costs import host_file, stored_table
    from hec.runtime.calibrate import calibrate

    path = output or host_file()
    if show:
        _tell(stored_table(path), path, as_json)
        return
    if output is None:
        _make_folder(path.parent)
    check_output(path)
    with progress() as bar:
        found = calibrate(name, bar)
    cost_table.save(found.table, path)
    _warn(found)
    _tell(found.table, path, as_json)


def _make_folder(folder: Path) -> None:
    from hec.compiler.errors import fail

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"Cannot make the folder: {error.strerror or error}"
        raise fail(message, str(folder), "choose a file with --output") from None


def _warn(found: Calibration) -> None:
    from hec.compiler.errors import warn

    if found.without:
        warn(f"Only SEAL was measured: {found.without}", "", "install hec[openfhe] for both")
    if found.spread > MOST_SPREAD or found.waited > MOST_WAITED:
        warn(
            f"The machine was busy: repeats differ by {share(found.spread)}, and"
            f" {share(found.waited)} of the time went to other programs",
            "",
            "run hec calibrate-host again while nothing else runs",
        )


def _tell(table: CostTable, path: Path, as_json: bool) -> None:
    if as_json:
        show_json(table)
        return
    machine = table.machine
    show_facts(
        [
            ("costs", str(path)),
            ("of", f"{table.name}: {machine}"),
            ("libraries", ", ".join(machine.versions)),
        ]
    )
    columns = ("library, ring degree", "rotate", "multiply_plain", "add", "rescale", "encode")
    rows = [_seal_row(steps) for steps in table.seal]
    rows += [_openfhe_row(steps) for steps in table.openfhe]
    show_table(f"\nMilliseconds at {_SHOWN_LIMBS} limbs", columns, rows)


def _seal_row(steps: SealSteps) -> tuple[str, ...]:
    lines = (steps.key_switch, steps.multiply_plain, steps.add, steps.rescale, steps.encode)
    each = (f"{1000 * line(_SHOWN_LIMBS):.3f}" for line in lines)
    return (f"SEAL, {steps.ring_degree}, one thread", *each)


def _openfhe_row(steps: OpenfheSteps) -> tuple[str, ...]:
    lines = (steps.multiply_plain, steps.add, steps.rescale, steps.encode)
    each = (f"{1000 * line(_SHOWN_LIMBS):.3f}" for line in lines)
    return (f"OpenFHE, {steps.ring_degree}", "", *each)
