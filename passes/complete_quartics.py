"""Complete quartics: a polynomial of degree 4 becomes two squares, two levels instead of three."""

from __future__ import annotations

from math import comb

import numpy as np

from hec.compiler.calibration import Calibration, Range
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    size,
)
from hec.passes.matrices import diagonal_matrix, diagonal_of, diagonals
from hec.passes.rewriting import Rebuilt, consumers

NARROW = 256  # diagonals of a next layer that may be evaluated on t, t^2, and t^4 to save a level
LARGEST_GAIN = 16.0  # a (x + h)^4 may be this many times the polynomial: 4 bits of precision


def complete_quartics(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Replace degree 4 by t = x + h, s = t^2, q = s^2, and an affine step a q + b s + c t + d.

    The shift h removes the cubic term; the affine step fuses into the next layer, which then
    reads up to three operands. Pays where that layer is narrow (`NARROW`), or where q is all that
    is left. Elsewhere, or if the shift would drown the result, the polynomial stays.

    Source: measured: LeNet-5 with ReLU at 98.5 % agreement takes a level less for each activation
    that can be a quartic. Cost: one evaluation of the graph, if there is such a polynomial.
    """
    ranges: list[Range] = []
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        steps: Array | None = None
        if isinstance(operation, Polynomial) and len(operation.coefficients) == 5:
            ranges = ranges or calibration.ranges(graph)
            steps = _completed(operation, ranges[operation.operand])
            if steps is not None and steps[1:3].any() and not feeds_narrow_layers(graph, position):
                steps = None
        if isinstance(operation, Polynomial) and steps is not None:
            operand = rebuilt.positions[operation.operand]
            rebuilt.positions[position] = _append(operation, operand, steps, rebuilt)
        else:
            rebuilt.keep(position, operation)
    return rebuilt.finish(graph.outputs)


def feeds_narrow_layers(graph: TensorGraph, position: int) -> bool:
    """Return whether all that reads the tensor, scaled or not, is layers of few diagonals."""
    if any(output.operand == position for output in graph.outputs):
        return False
    for reader in consumers(graph)[position]:
        operation = graph.operations[reader]
        if not isinstance(operation, Linear):
            return False
        matrix = operation.matrices[operation.operands.index(position)]
        elementwise = diagonal_of(matrix) is not None
        if elementwise and not feeds_narrow_layers(graph, reader):
            return False
        if not elementwise and diagonals(matrix) > NARROW:
            return False
    return True


def is_quartic_like(activation: Activation) -> bool:
    """Return whether the activation's fit of degree 4 is likely to be completable: as ReLU's."""
    t = np.linspace(-4.0, 4.0, 65)
    fitted = np.polynomial.polynomial.polyfit(t, activation.function(t), 4)
    return bool(abs(fitted[3]) <= 2 * abs(fitted[4]))  # h at most 0.5


def is_completable(operation: Polynomial, seen: Range) -> bool:
    """Return whether completing a polynomial of degree 4 keeps its precision on that range."""
    return _completed(operation, seen) is not None


def _completed(operation: Polynomial, seen: Range) -> Array | None:
    """Return rows a, b, c, d, h, each (elements,), or None where completing loses precision."""
    power = _power_coefficients(operation)
    cubic, quartic = power[3], power[4]
    if not quartic.all():
        return None
    shift = cubic / (4 * quartic)
    reach = max(seen.magnitude(), 1e-30)
    largest = (np.abs(power) * reach ** np.arange(5.0)[:, None]).sum(axis=0).max()
    with np.errstate(over="ignore"):
        gain = (np.abs(quartic) * (np.abs(shift) + reach) ** 4).max() / largest
    if gain > LARGEST_GAIN:
        return None
    rows = np.zeros_like(power)  # coefficients in t, by the binomial theorem with x = t - h
    for k in range(5):
        for term in range(k + 1):
            rows[term] += power[k] * comb(k, term) * (-shift) ** (k - term)
    return np.stack([rows[4], rows[2], rows[1], rows[0], shift])


def _power_coefficients(operation: Polynomial) -> Array:
    given = operation.coefficients
    rows = np.repeat(given[:, None], size(operation), axis=1) if given.ndim == 1 else given
    if operation.basis == "power":
        return rows
    columns = [np.polynomial.chebyshev.cheb2poly(np.eye(5)[k]) for k in range(5)]
    basis = np.stack([np.pad(column, (0, 5 - len(column))) for column in columns], axis=1)
    return np.asarray(basis @ rows, np.float64)


def _append(operation: Polynomial, operand: int, steps: Array, rebuilt: Rebuilt) -> int:
    shape, origin, shift = operation.shape, operation.origin, steps[4]
    if shift.any():
        identity = diagonal_matrix(np.ones(shift.size))
        operand = rebuilt.add(Linear((operand,), (identity,), shift, shape, origin))
    square = rebuilt.add(Multiply(operand, operand, shape, origin))
    fourth = rebuilt.add(Multiply(square, square, shape, origin, operation.fit))
    terms = [
        (i, row) for i, row in zip((fourth, square, operand), steps, strict=False) if row.any()
    ]
    matrices = tuple(diagonal_matrix(row) for _, row in terms)
    return rebuilt.add(Linear(tuple(i for i, _ in terms), matrices, steps[3], shape, origin))
