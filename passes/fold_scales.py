"""Fold scales: every value that is multiplied or leaves the graph lies in [-1, 1]."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from typing_extensions import assert_never

from hec.compiler.calibration import Calibration, Range
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    size,
)
from hec.passes.matrices import diagonal_matrix, scaled, uniform_factor
from hec.passes.rewriting import Rebuilt

ROUNDING = 1e-15  # relative, of a factor that is wanted and one that is there


def fold_scales(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Divide every tensor by its largest magnitude, exactly, at no cost.

    A tensor's factor goes into the matrices that make and read it, into a polynomial's
    coefficients, into the client's `Input.divisor` and `Output.factor`. A product's factor is that
    of its operands; the next matrix takes it. Pays precision: in CKKS the error is absolute, so a
    value of 0.01 has seven bits less than one of 1, and one beyond 1 may overflow.

    Source: algorithms.md, 7 and 9; EVA's scale analysis. Cost: one evaluation of the graph.
    """
    ranges = calibration.ranges(graph)
    wanted = _wanted_factors(graph)
    factors: list[float] = []  # the value that the model means, over the value computed here
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        source = _scaled_source(operation, wanted.get(position), factors)
        if source is not None:
            rebuilt.positions[position] = rebuilt.positions[source[0]]
            factors.append(source[1])
            continue
        free = ranges[position].magnitude(calibration.margin) or 1.0
        wish = wanted.get(position, free)
        factor, divided = _normalized(operation, wish, factors, ranges[position], calibration)
        factors.append(factor)
        if (
            isinstance(divided, Polynomial | Activation | Bootstrap)
            and factors[divided.operand] != 1.0
        ):
            restored = _restored(divided, factors[divided.operand], rebuilt)
            rebuilt.positions[position] = rebuilt.add(replace(divided, operand=restored))
        else:
            rebuilt.keep(position, divided)
    outputs = [
        replace(output, factor=output.factor * factors[output.operand]) for output in graph.outputs
    ]
    return rebuilt.finish(outputs)


def _wanted_factors(graph: TensorGraph) -> dict[int, float]:
    """Return the factors that readers insist on: a polynomial takes its operand as it is."""
    wanted: dict[int, float] = {}
    for position in reversed(range(len(graph.operations))):
        operation = graph.operations[position]
        if isinstance(operation, Polynomial | Activation | Bootstrap):
            wanted[operation.operand] = 1.0
        elif isinstance(operation, Linear) and (factor := uniform_factor(operation)) is not None:
            source = operation.operands[0]
            free = isinstance(graph.operations[source], Input | Linear)
            if position in wanted and free:
                wanted.setdefault(source, wanted[position] / factor)
    return wanted


def _scaled_source(
    operation: TensorOperation, wanted: float | None, factors: list[float]
) -> tuple[int, float] | None:
    """Return the operand and factor that stand for an operation which only scales it, or None."""
    if not isinstance(operation, Linear):
        return None
    by = uniform_factor(operation)
    if by is None:
        return None
    factor = by * factors[operation.operands[0]]
    if wanted is not None and abs(factor - wanted) > ROUNDING * abs(wanted):
        return None
    return operation.operands[0], factor if wanted is None else wanted


def _restored(
    operation: Polynomial | Activation | Bootstrap, factor: float, rebuilt: Rebuilt
) -> int:
    """Return a layer that undoes the factor of a product, which no matrix could take."""
    matrix = diagonal_matrix(np.full(size(operation), factor))
    bias = np.zeros(size(operation))
    operand = rebuilt.positions[operation.operand]
    return rebuilt.add(Linear((operand,), (matrix,), bias, operation.shape, operation.origin))


def _normalized(
    operation: TensorOperation,
    factor: float,
    factors: list[float],
    seen: Range,
    calibration: Calibration,
) -> tuple[float, TensorOperation]:
    """Return the operation's factor, and the operation computing its value divided by that."""
    match operation:
        case Input():
            low, high = (end * operation.divisor for end in seen.interval(calibration.margin))
            divisor = operation.divisor * factor
            return factor, replace(operation, divisor=divisor, interval=(low, high))
        case Linear():
            pairs = zip(operation.operands, operation.matrices, strict=True)
            matrices = tuple(scaled(m, 1.0, factors[i] / factor) for i, m in pairs)
            return factor, replace(operation, matrices=matrices, bias=operation.bias / factor)
        case Multiply():
            return factors[operation.left] * factors[operation.right], operation
        case Polynomial() | Bootstrap():
            return factor, replace(operation, coefficients=operation.coefficients / factor)
        case Activation():
            return 1.0, operation
        case _:
            assert_never(operation)
