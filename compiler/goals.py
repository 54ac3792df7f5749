"""Goals of fitted activations: what the user may ask of the outputs, and what makes no sense."""

from __future__ import annotations

from collections.abc import Sequence

from hec.compiler.errors import Problem, fail
from hec.compiler.tensor_ir import Output, TensorGraph, size


def agreement_problems(
    min_agreement: float | None,
    max_error: float | None,
    degree: int | None,
    has_calibration: bool,
) -> list[Problem]:
    """Return what is wrong with asking for an agreement beside the other options."""
    if min_agreement is None:
        return []
    place, problems = f"--min-agreement {min_agreement:g}", list[Problem]()
    if not 0 < min_agreement <= 1:
        what = f"an agreement of {min_agreement:g} is not a share that can be reached"
        problems.append(Problem(what, place, "give a share of the samples up to 1, such as 0.99"))
    if max_error is not None:
        what = "an agreement and an error are two goals for the same choice of degrees"
        hint = "leave out one of the two options"
        problems.append(Problem(what, f"{place} --max-error {max_error:g}", hint))
    if degree is not None:
        what = "where the degree is given nothing can be chosen to reach an agreement"
        hint = "leave out one of the two options"
        problems.append(Problem(what, f"{place} --degree {degree}", hint))
    if not has_calibration:
        what = "an agreement is measured on samples, and there are none"
        hint = "pass --calibration with a few hundred real inputs, or use --max-error"
        problems.append(Problem(what, place, hint))
    return problems


def require_classes(graph: TensorGraph, min_agreement: float | None, model_name: str) -> None:
    """Raise `CompileError` if an agreement is asked for and no output tells a class."""
    if min_agreement is None or any(tells_class(graph, output) for output in graph.outputs):
        return
    raise fail(
        "no output tells a class, so that predictions cannot agree or disagree",
        f"{model_name}: outputs {_names(graph.outputs)}",
        "use --max-error instead of --min-agreement",
    )


def tells_class(graph: TensorGraph, output: Output) -> bool:
    """Return whether the output tells a class: several numbers, or one before a sigmoid."""
    sigmoid = any(step.name == "sigmoid" for step in output.epilogue)
    return size(graph.operations[output.operand]) > 1 or sigmoid


def _names(outputs: Sequence[Output]) -> str:
    return ", ".join(f"'{output.name}'" for output in outputs)
