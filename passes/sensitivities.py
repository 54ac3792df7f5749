"""Sensitivities: what the error of one activation's fit does to the outputs, all else being exact.

They are measured: the network runs on samples with one activation replaced by its stand-in. Errors
of several fits add up like independent ones, about: as the root of the sum of squares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from hec.compiler.calibration import nonzeros
from hec.compiler.evaluate import evaluate
from hec.compiler.tensor_ir import Array, Input, TensorGraph, TensorOperation, operands
from hec.passes.rewriting import with_operands

MULTIPLICATIONS: Final = 1_500_000_000  # spent on the sensitivities of a network: about a second
FEWEST, MOST = 4, 128  # samples that they are measured on, where there are as many


@dataclass(frozen=True)
class Sensitivity:
    """One activation's fit, alone in an exact network."""

    fit_error: float  # root mean square, in units of the activation
    output_error: float  # root mean square, as a share of that of the output

    @property
    def ratio(self) -> float:
        """The error of the outputs for each unit of error of the fit."""
        return self.output_error / self.fit_error if self.fit_error else 0.0


def enough_samples(graph: TensorGraph, layers: int) -> int:
    """Return on how many samples `layers` sensitivities are measured."""
    work = max(layers, 1) * max(nonzeros(graph), 1) // 2 + 1
    return int(np.clip(MULTIPLICATIONS // work, FEWEST, MOST))


def sensitivity(
    graph: TensorGraph, exact: list[Array], position: int, values: Array
) -> Sensitivity:
    """Return what happens if the operation at `position` has `values`, and all others are exact.

    `values` are those of the first samples of `exact`.
    """
    count = len(values)
    changed = {position: values}
    for later in range(position + 1, len(graph.operations)):
        operation = graph.operations[later]
        if any(operand in changed for operand in operands(operation)):
            known = {i: changed.get(i, exact[i][:count]) for i in operands(operation)}
            changed[later] = value_of(operation, known, count)
    fit_error = _rms(values - exact[position][:count])
    read = [output.operand for output in graph.outputs]
    found = {i: changed.get(i, exact[i][:count]) for i in read}
    return Sensitivity(fit_error, output_error(found, {i: exact[i][:count] for i in read}, read))


def output_error(
    found: Mapping[int, Array], exact: Mapping[int, Array], positions: Iterable[int]
) -> float:
    """Return the largest error of the values at `positions`: root mean square, over their own."""
    errors = [0.0]
    for position in positions:
        scale = _rms(exact[position]) or 1.0
        errors.append(_rms(found[position] - exact[position]) / scale)
    return max(errors) if np.isfinite(errors).all() else np.inf


def value_of(operation: TensorOperation, known: Mapping[int, Array], count: int) -> Array:
    """Evaluate one operation on the values of its operands, for `count` samples."""
    sources = tuple(dict.fromkeys(operands(operation)))
    named = {str(source): known[source] for source in sources}
    stubs = tuple(Input(name, value.shape[1:]) for name, value in named.items())
    graph = TensorGraph((*stubs, with_operands(operation, sources.index)), ())
    return evaluate(graph, named or {"": np.zeros((count, 0))})[-1]


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
