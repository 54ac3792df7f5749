"""`hec lint`: what cannot be compiled in networks, and what costs levels."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hec.compiler.cli_compile import MaxPool, Shapes
from hec.compiler.cli_errors import CHECK_FAILED
from hec.compiler.cli_terminal import progress, show_facts, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hec.compiler.findings import Finding
    from hec.compiler.lint import Lint

_WIDTH: Final = 100  # columns


def lint(
    models: Annotated[list[Path], typer.Argument(help="networks, .onnx files")],
    calibration: Annotated[
        Path | None, typer.Option(help="samples of the one network, for the ranges of its values")
    ] = None,
    inputs: Shapes = None,
    maxpool: MaxPool = None,
    strict: Annotated[bool, typer.Option("--strict", help="costly choices fail, too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Find what in networks does not compile, or costs levels.

    Nothing is compiled for it. Prices are least ones, against what the help proposes. The exit code
    is 1 if a network cannot be compiled; with --strict, also if a choice is costly.

    \b
    Example:
      hec lint model.onnx
    """
    found = _inspect(models, calibration, inputs or (), maxpool)
    passed = all(each.is_cheap if strict else each.compiles for each in found)
    if as_json:
        told = [{**asdict(each), "compiles": each.compiles} for each in found]
        show_json({"models": told, "passed": passed})
    else:
        for each in found:
            _show(each)
    if not passed:
        raise typer.Exit(CHECK_FAILED)


def _inspect(
    models: Sequence[Path], calibration: Path | None, inputs: Sequence[str], maxpool: str | None
) -> list[Lint]:
    from hec.compiler.cli_arrays import load_arrays
    from hec.compiler.cli_options import CompileOptions, target_of
    from hec.compiler.errors import fail
    from hec.compiler.lint import inspect

    if calibration is not None and len(models) > 1:
        raise fail(
            f"samples belong to one network, and there are {len(models)}",
            f"--calibration {calibration}",
            "lint this network alone",
        )
    options = CompileOptions(
        "auto", 128, None, None, None, inputs, None, calibration is not None, maxpool=maxpool
    )
    target = target_of(options)
    _check_exist(models)
    samples = None if calibration is None else load_arrays(calibration)
    found = []
    with progress() as show:
        for number, model in enumerate(models):
            show(model.name, number, len(models))
            found.append(inspect(model, samples, target))
    return found


def _check_exist(models: Sequence[Path]) -> None:
    from hec.compiler.errors import CompileError, Problem

    missing = [
        Problem(
            f"the model file {'is a folder' if path.is_dir() else 'does not exist'}",
            str(path),
            "give the path of an .onnx file",
        )
        for path in models
        if path.is_dir() or not path.exists()
    ]
    if missing:
        raise CompileError(*missing)


def _show(found: Lint) -> None:
    show_facts([("model", found.model), ("result", _result(found)), ("depth", _depth(found))])
    if found.findings:
        _show_findings(found.findings)
    else:
        typer.echo()


def _result(found: Lint) -> str:
    counts = {
        kind: sum(finding.severity == kind for finding in found.findings)
        for kind in ("error", "costly", "note")
    }
    told = [f"{count} {kind}{'s' * (count > 1 and kind != 'costly')}"
            for kind, count in counts.items() if count]  # fmt: skip
    return ": ".join(
        ["can be compiled" if found.compiles else "cannot be compiled", ", ".join(told) or "clean"]
    )


def _depth(found: Lint) -> str:
    if found.levels is None:
        return "not known: a part of the network cannot be compiled"
    room = f"{found.levels} levels or more, and the largest modulus has room for"
    how = "a leveled program may do" if found.is_leveled else "only bootstraps will do"
    return f"{room} {found.most_levels}: {how}"


def _show_findings(findings: Sequence[Finding]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hec.compiler.errors import Problem

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("")
    table.add_column("finding", overflow="fold")
    table.add_column("costs at least", justify="right", max_width=16, overflow="fold")
    for finding in findings:
        text = str(Problem(finding.message, finding.place, finding.help))
        price = "" if finding.price is None else str(finding.price)
        table.add_row(finding.severity, Text(text), price)
    console = Console(file=sys.stdout, highlight=False)
    width = min(console.width, _WIDTH) if sys.stdout.isatty() else _WIDTH
    Console(file=sys.stdout, width=width, highlight=False).print(table)
