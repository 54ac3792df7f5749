"""Complete squares: a x^2 + b x + c becomes a (x + h)^2 + c', one level instead of two."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

import numpy as np

from hec.compiler.calibration import Calibration, Range
from hec.compiler.errors import fail
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Array,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    size,
)
from hec.passes.matrices import diagonal_matrix
from hec.passes.rewriting import Rebuilt

FEW = 8  # samples that tell whether squares are numbers
LARGEST = 1e100  # of usual values: their squares, and sums of those, are still numbers
LARGEST_GAIN = 16.0  # a (x + h)^2 may be this many times the polynomial: 4 bits of precision


def complete_squares(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Replace polynomials of degree 2 by a shift, a square, and an affine step; lower ones by that.

    Always pays: shift and affine step fuse into the layers around, so the square's level is all.
    Where a is so small that the shift h = b / 2a would drown the result in (x + h)^2, that element
    keeps h = 0 and its b x is added by the affine step, as a second operand.

    Source: algorithms.md, 7 (HerPN, PAPER). Cost: one evaluation of the graph, on few samples where
    there is nothing to shift.
    """
    ranges: list[Range] = []
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        if not _is_quadratic(operation):
            rebuilt.keep(position, operation)
            continue
        ranges = ranges or _ranges(graph, calibration)
        operand = rebuilt.positions[operation.operand]
        rebuilt.positions[position] = _completed(
            operation, operand, ranges[operation.operand], rebuilt
        )
    return rebuilt.finish(graph.outputs)


def _ranges(graph: TensorGraph, calibration: Calibration) -> list[Range]:
    quadratics = filter(_is_quadratic, graph.operations)
    if calibration.samples is None or any(_power_coefficients(x)[1].any() for x in quadratics):
        return calibration.ranges(graph)
    few = {name: values[:FEW] for name, values in calibration.samples.items()}
    return replace(calibration, samples=few).ranges(graph)


def _is_quadratic(operation: TensorOperation) -> TypeGuard[Polynomial]:
    return isinstance(operation, Polynomial) and len(operation.coefficients) <= 3


def _completed(operation: Polynomial, operand: int, seen: Range, rebuilt: Rebuilt) -> int:
    shape, origin = operation.shape, operation.origin
    constant, slope, square = _power_coefficients(operation)
    if not square.any():
        return rebuilt.add(Linear((operand,), (diagonal_matrix(slope),), constant, shape, origin))
    _require_small(seen, origin)
    shift = _shifts(constant, slope, square, seen)
    rest = slope - 2 * square * shift  # zero where the square is complete
    rest[np.abs(rest) <= 1e-14 * np.abs(slope)] = 0.0
    shifted = operand
    if shift.any():
        identity = diagonal_matrix(np.ones(shift.size))
        shifted = rebuilt.add(Linear((operand,), (identity,), shift, shape, origin))
    result = rebuilt.add(Multiply(shifted, shifted, shape, origin, operation.fit))
    if not (rest.any() or constant.any() or shift.any()) and (square == 1).all():
        return result
    operands, matrices = [result], [diagonal_matrix(square)]
    if rest.any():
        operands.append(shifted)
        matrices.append(diagonal_matrix(rest))
    bias = constant - square * shift**2 - rest * shift
    return rebuilt.add(Linear(tuple(operands), tuple(matrices), bias, shape, origin))


def _require_small(seen: Range, origin: tuple[str, ...]) -> None:
    if seen.magnitude() < LARGEST:
        return
    raise fail(
        f"values reach beyond {LARGEST:.0e} before they are squared: nothing can compute with them",
        f"nodes {', '.join(map(repr, origin[:3]))}",
        "give --calibration with real inputs, and let the network keep its values small, by"
        " normalizations or smaller weights",
    )


def _power_coefficients(operation: Polynomial) -> tuple[Array, Array, Array]:
    """Return c, b, a, each (elements,)."""
    rows = np.zeros((3, size(operation)))
    given = operation.coefficients
    rows[: len(given)] = given[:, None] if given.ndim == 1 else given
    if operation.basis == "chebyshev":
        return rows[0] - rows[2], rows[1], 2 * rows[2]
    return rows[0], rows[1], rows[2]


def _shifts(constant: Array, slope: Array, square: Array, seen: Range) -> Array:
    """Return h for each element: b / 2a, or 0 where that would drown the result."""
    reach = max(seen.magnitude(), 1e-30)
    largest = np.abs(slope) * reach + np.abs(square) * reach**2
    limit = np.sqrt(LARGEST_GAIN * largest.max() / np.abs(square).max())
    shift = np.divide(slope, 2 * square, out=np.full_like(slope, np.inf), where=square != 0)
    return np.where(np.abs(shift) + reach <= limit, shift, 0.0)
