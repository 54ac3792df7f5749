"""Advice: what to change in a network or its options, each change compiled and measured.

No rule of thumb: every `Change` is compiled as the network was. Its seconds and its memory are the
forecast's; its agreement is that of its fitted outputs, with the errors that encryption is
predicted to add, with the exact network's on the calibration samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, TypeAlias

import numpy as np

from hec.compiler.alternative import Alternative
from hec.compiler.alternatives import Change, changes
from hec.compiler.ckks_ir import Output
from hec.compiler.errors import CompileError, HecWarning, warn
from hec.compiler.evaluate import evaluate
from hec.compiler.fidelity import fidelity
from hec.compiler.forecast import bootstrap_count
from hec.compiler.memory import server_memory
from hec.compiler.onnx_import import import_onnx
from hec.compiler.pipeline import Compilation, Model, choose
from hec.compiler.program_depth import depth
from hec.compiler.python_models import Samples
from hec.compiler.strategies import Candidate, Libraries, Strategies
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Array, TensorGraph

Progress: TypeAlias = Callable[[str, int, int], None]  # what is tried, how many were, of how many
FASTER: Final = 1.05  # gains from which a change is worth telling: seconds before over after
SMALLER: Final = 1.1  # memory before over after
CLOSER: Final = 0.005  # more agreement
LOST: Final = 0.05  # agreement that an option may cost
_ABOUT: Final = 0.98  # ratio of costs that are as good as equal
_CLOSE: Final = 0.002  # difference of shares that are
_LARGEST: Final = 1e30  # no scale and modulus hold 100 bits of a value
BUDGET: Final = 600.0  # seconds after which no further change is tried


def advice(
    model: Model,
    calibration: Samples | None = None,
    target: Target | None = None,
    progress: Progress = lambda what, done, total: None,
    budget: float = BUDGET,
) -> tuple[Alternative, ...]:
    """Return the changes of an ONNX network that make it cheaper or more exact, the best first.

    `calibration` and `target` are as for `compile`, and so are the errors; but a network that needs
    OpenFHE is compared with its program there, installed or not. Without calibration data nothing
    is known of agreement. No change is begun after `budget` seconds.
    """
    progress("the network itself", 0, 0)
    return advice_on(_made(model, calibration, target or Target()), progress, budget)


def _made(model: Model, samples: Samples | None, target: Target) -> Compilation:
    try:
        return choose(model, samples, target)
    except CompileError as error:
        if target.backend == "openfhe":
            raise
        try:
            made = choose(model, samples, replace(target, backend="openfhe"))
        except CompileError:
            raise error from None
    anywhere = replace(made.libraries, openfhe_error=lambda: None)
    return replace(made, target=target, libraries=anywhere)


def advice_on(
    made: Compilation,
    progress: Progress = lambda what, done, total: None,
    budget: float = BUDGET,
) -> tuple[Alternative, ...]:
    """Return the advice on a network that is compiled already."""
    start, found, left = monotonic(), list[Alternative](), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HecWarning)  # of networks that nobody asked for
        warnings.simplefilter("ignore", RuntimeWarning)  # of values that overflow
        measure = _Measure(made)
        before, wanted = measure.costs(made.chosen), changes(made)
        for done, change in enumerate(wanted):
            if monotonic() - start > budget:
                left = len(wanted) - done
                break
            progress(change.what, done, len(wanted))
            if _overflows(change):
                continue
            try:
                chosen = _compiled(change, made.libraries)
            except (CompileError, np.linalg.LinAlgError):  # it cannot be run, or it overflows
                continue
            found.append(_compared(change, chosen, before, measure.costs(chosen)))
    if left:
        warn(
            f"time was up after {budget:.0f} s: {left} of {len(wanted)} changes were not tried",
            made.imported.name,
            "compile on an idle machine, or with fewer calibration samples",
        )
    gains = [each for each in found if _is_gain(each)]
    kept = [each for each in gains if not any(_is_better(other, each) for other in gains)]
    return tuple(sorted(kept, key=lambda each: -each.seconds_ratio))


def _overflows(change: Change) -> bool:
    """Tell whether values of a changed network grow beyond all that could be fitted or encrypted.

    Sums of their squares would overflow, and LAPACK would complain of them on the terminal.
    """
    if change.kind != "model" or change.calibration.samples is None:
        return False
    with np.errstate(all="ignore"):
        values = evaluate(change.graph, change.calibration.samples)
    return not all(np.abs(x).max(initial=0.0) < _LARGEST for x in values)


def _compiled(change: Change, known: Libraries) -> Candidate:
    return Strategies(
        change.graph, change.calibration, change.target, known, lambda step: None
    ).best()


@dataclass(frozen=True)
class _Costs:
    levels: int
    bootstraps: int
    seconds: float
    memory: int
    samples: int
    agreement: float | None
    error: float | None


class _Measure:
    """Costs of candidates, and how far they are from the exact network on all samples."""

    def __init__(self, made: Compilation) -> None:
        self.samples = made.calibration.samples
        self.exact = _exact(made)
        self.wanted = _outputs(self.exact, self.samples) if self.samples is not None else ()

    def costs(self, candidate: Candidate) -> _Costs:
        program = candidate.choice.lowered.program
        agreement, error, count = self._fidelity(candidate)
        return _Costs(
            depth(program),
            bootstrap_count(program),
            candidate.seconds,
            server_memory(program).peak,
            count,
            agreement,
            error,
        )

    def _fidelity(self, candidate: Candidate) -> tuple[float | None, float | None, int]:
        if self.samples is None:
            return None, None, 0
        noise = np.random.default_rng(0)
        found = [
            values + deviation * noise.standard_normal(values.shape)
            for values, deviation in zip(
                _outputs(candidate.graph, self.samples), _deviations(candidate), strict=True
            )
        ]
        measured = fidelity(self.exact, self.wanted, found)
        return measured.agreement, measured.error, len(found[0])


def _exact(made: Compilation) -> TensorGraph:
    """Return the network itself, also where averages were asked for in place of MaxPool."""
    if made.target.maxpool == "average":
        return import_onnx(made.network, replace(made.target, maxpool="approximate")).graph
    return made.imported.graph


def _outputs(graph: TensorGraph, samples: dict[str, Array]) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):  # a changed network may overflow
        values = evaluate(graph, samples)
    return tuple(output.factor * values[output.operand] for output in graph.outputs)


def _deviations(candidate: Candidate) -> list[float]:
    """Return the standard deviation of each output's error from encryption, as predicted."""
    errors = candidate.choice.forecast.deviations
    made = {
        x.name: errors[position] * abs(x.factor)
        for position, x in enumerate(candidate.choice.lowered.program.instructions)
        if isinstance(x, Output)
    }
    return [made[output.name] for output in candidate.graph.outputs]


def _compared(change: Change, chosen: Candidate, before: _Costs, after: _Costs) -> Alternative:
    return Alternative(
        change.what,
        change.kind,
        chosen.backend,
        after.levels - before.levels,
        after.bootstraps - before.bootstraps,
        after.seconds,
        before.seconds / after.seconds,
        after.memory,
        before.memory / after.memory,
        after.samples,
        before.agreement,
        after.agreement,
        before.error,
        after.error,
    )


def _is_gain(found: Alternative) -> bool:
    """Tell whether a change is worth telling; an option must not cost much of the agreement."""
    gained = 0.0
    if found.agreement_before is not None and found.agreement_after is not None:
        gained = found.agreement_after - found.agreement_before
    if found.kind != "model" and gained < -LOST:
        return False
    return found.seconds_ratio >= FASTER or found.memory_ratio >= SMALLER or gained >= CLOSER


def _is_better(one: Alternative, other: Alternative) -> bool:
    """Tell whether `one`, of the same kind, gains all that `other` does and more, for no more."""
    if one.kind != other.kind or (one.needs_tuning and not other.needs_tuning):
        return False
    mine, theirs = _quality(one), _quality(other)
    costs = [
        (one.seconds_ratio, other.seconds_ratio),
        (one.memory_ratio, other.memory_ratio),
    ]
    if mine < theirs - _CLOSE or any(a < b * _ABOUT for a, b in costs):
        return False
    return mine > theirs + _CLOSE or any(a * _ABOUT > b for a, b in costs)


def _quality(found: Alternative) -> float:
    """Return what is the better, the larger it is; an error counts where no classes are told."""
    if found.agreement_after is not None:
        return found.agreement_after
    return -(found.error_after or 0.0)
