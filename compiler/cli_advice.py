"""What the command line says about alternatives to a network: `hec compile` and `hec report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from hec.compiler.cli_errors import printable
from hec.compiler.cli_terminal import progress, show_story

if TYPE_CHECKING:
    from hec.compiler.alternative import Alternative
    from hec.compiler.cli_arrays import AnyArray
    from hec.compiler.plan import Plan
    from hec.compiler.report import Report
    from hec.compiler.target import Target

    AnySamples: TypeAlias = AnyArray | Mapping[str, AnyArray]


def compile_with_advice(model: Path, samples: AnySamples | None, target: Target) -> Plan:
    """Return the plan of a network, with advice.

    Where it cannot be compiled, print what would help, and raise its `CompileError`.
    """
    from hec.compiler.advice import advice, advice_on
    from hec.compiler.errors import CompileError
    from hec.compiler.pipeline import choose

    with progress() as show:
        try:
            made = choose(model, samples, target, lambda step: show(step, 0, 0))
        except CompileError as error:
            found = _advice_anyway(lambda: advice(model, samples, target, show))
            for each in found:
                typer.echo(printable(f"advice: {each}"), err=True)
            raise error from None
        return made.plan(advice_on(made, show))


def _advice_anyway(find: Callable[[], tuple[Alternative, ...]]) -> tuple[Alternative, ...]:
    from hec.compiler.errors import CompileError

    try:
        return find()
    except CompileError:  # the network itself is at fault
        return ()


def with_advice(path: Path, told: Report, model: Path | None, calibration: Path | None) -> Report:
    """Return the report of the plan in `path` with advice on the network in `model`, if given.

    Raise `CompileError` where the file holds no whole plan, or the plan is of another network.
    """
    from dataclasses import replace

    from hec.compiler.cli_files import load_whole_plan
    from hec.compiler.errors import fail

    if model is not None:
        return replace(told, advice=advise(load_whole_plan(path), model, calibration))
    if calibration is None:
        return told
    raise fail(
        "samples are for the advice, and no network to advise on is given",
        f"--calibration {calibration}",
        "give the network, too: --advice model.onnx",
    )


def advise(plan: Plan, model: Path, calibration: Path | None) -> tuple[Alternative, ...]:
    """Return the advice on a plan, of the network in `model` that it was compiled from.

    Raise `CompileError` where the network is another.
    """
    from dataclasses import replace

    from hec.compiler.advice import advice
    from hec.compiler.annotate import require_same_network
    from hec.compiler.cli_arrays import load_arrays
    from hec.compiler.onnx_model import load_model
    from hec.compiler.target import Target

    require_same_network(plan, load_model(model).proto.graph, str(model))
    asked = plan.server.target or Target()
    shapes = {item.name: item.shape for item in plan.client.inputs}
    target = replace(asked, input_shapes=shapes)
    samples = None if calibration is None else load_arrays(calibration)
    with progress() as show:
        return advice(model, samples, target, show)


def show_advice(found: Sequence[Alternative]) -> None:
    """Print the advice, the best first."""
    if not found:
        show_story([("advice", "none: no change that was tried makes the network cheaper")])
        return
    show_story([("advice" if not number else "", str(each)) for number, each in enumerate(found)])


def plain(found: Sequence[Alternative]) -> list[dict[str, object]]:
    """Return the advice for JSON, each with its text."""
    return [{**asdict(each), "text": str(each)} for each in found]
