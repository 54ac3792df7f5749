"""Fidelity: whether a graph of fits still says what the exact one says, on samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.goals import tells_class
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Array, TensorGraph
from hec.passes.trials import ALL_AGREE, DEFAULT_ERROR, DISAGREEING, Limits, classes


@dataclass(frozen=True)
class Fidelity:
    """What fits do to the outputs, the worst of them where there are several."""

    error: float  # root mean square, as a share of the output's
    disagreement: float  # share of samples with another class

    def keeps(self, target: Target) -> bool:
        """Tell whether this is what `target` asks for."""
        limits = _limits(target)
        return self.error <= limits.error and self.disagreement <= limits.disagreement


def fidelity(exact: TensorGraph, fitted: TensorGraph, calibration: Calibration) -> Fidelity:
    """Return how far the outputs of `fitted` are from those of `exact`, on the samples there are.

    Both graphs have the same inputs and outputs. Without samples nothing is known to be wrong.
    """
    if calibration.samples is None:
        return Fidelity(0.0, 0.0)
    errors, disagreements = [0.0], [0.0]
    pairs = zip(_outputs(exact, calibration), _outputs(fitted, calibration), strict=True)
    for output, (wanted, found) in zip(exact.outputs, pairs, strict=True):
        scale = float(np.sqrt(np.mean(wanted**2))) or 1.0
        errors.append(float(np.sqrt(np.mean((found - wanted) ** 2))) / scale)
        if tells_class(exact, output):
            disagreements.append(float(np.mean(classes(found) != classes(wanted))))
    return Fidelity(max(errors), max(disagreements))


def _limits(target: Target) -> Limits:
    if target.min_agreement is not None:
        return Limits(disagreement=max(1 - target.min_agreement, ALL_AGREE))
    if target.max_error is not None:
        return Limits(target.max_error)
    return Limits(DEFAULT_ERROR, DISAGREEING)


def _outputs(graph: TensorGraph, calibration: Calibration) -> list[Array]:
    values = evaluate(graph, calibration.samples or {})
    return [output.factor * values[output.operand] for output in graph.outputs]
