"""Fidelity: whether a graph of fits still says what the exact one says, on samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hec.compiler.goals import tells_class
from hec.compiler.plan_parts import CalibrationResult
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Array, TensorGraph
from hec.passes.sensitivities import output_error
from hec.passes.trials import ALL_AGREE, DEFAULT_ERROR, DISAGREEING, Limits, classes


@dataclass(frozen=True)
class Fidelity:
    """What fits do to the outputs, the worst of them where there are several."""

    error: float  # root mean square, as a share of the output's
    disagreement: float  # share of samples with another class
    tells: bool = True  # whether an output tells a class at all

    @property
    def agreement(self) -> float | None:
        """Return the share of samples with the same class; None where no output tells one."""
        return 1 - self.disagreement if self.tells else None

    def result(self, samples: int) -> CalibrationResult | None:
        """Return what a plan keeps of this, measured on `samples`; None if it is not finite."""
        if not np.isfinite(self.error):
            return None
        return CalibrationResult(samples, self.agreement, self.error)

    def keeps(self, target: Target) -> bool:
        """Tell whether this is what `target` asks for."""
        limits = _limits(target)
        return self.error <= limits.error and self.disagreement <= limits.disagreement


def fidelity(exact: TensorGraph, wanted: Sequence[Array], found: Sequence[Array]) -> Fidelity:
    """Return how far the outputs `found` are from those `wanted`, which `exact` has on samples.

    Each output is (samples, elements), in the order of the graph's outputs.
    """
    disagreements = [
        float(np.mean(classes(theirs) != classes(mine)))
        for output, theirs, mine in zip(exact.outputs, wanted, found, strict=True)
        if tells_class(exact, output)
    ]
    numbers = range(len(wanted))
    error = output_error(dict(enumerate(found)), dict(enumerate(wanted)), numbers)
    return Fidelity(error, max(disagreements, default=0.0), bool(disagreements))


def _limits(target: Target) -> Limits:
    if target.min_agreement is not None:
        return Limits(disagreement=max(1 - target.min_agreement, ALL_AGREE))
    if target.max_error is not None:
        return Limits(target.max_error)
    return Limits(DEFAULT_ERROR, DISAGREEING)
