"""Normalize polynomials: those of degree 3 and more to the Chebyshev basis on [-1, 1]."""

from __future__ import annotations

from math import comb

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Array, Linear, Polynomial, TensorGraph, size
from hec.passes.matrices import diagonal_matrix
from hec.passes.rewriting import Rebuilt


def normalize_polynomials(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Scale the operand to [-1, 1] and rewrite the coefficients exactly; trim zero powers.

    Always pays: Chebyshev coefficients stay small where power coefficients cancel, and no
    intermediate exceeds 1. The scaling fuses into the layer before. Degrees up to 2 are left to
    `complete_squares`, which needs no interval.

    Source: algorithms.md, 7. Cost: one evaluation of the graph, if there is such a polynomial.
    """
    ranges = None
    rebuilt = Rebuilt()
    for position, old in enumerate(graph.operations):
        operation = _trimmed(old) if isinstance(old, Polynomial) else old
        if (
            not isinstance(operation, Polynomial)
            or operation.basis == "chebyshev"
            or len(operation.coefficients) <= 3
        ):
            rebuilt.keep(position, operation)
            continue
        ranges = ranges or calibration.ranges(graph)
        low, high = ranges[operation.operand].interval(calibration.margin)
        centre, radius = (low + high) / 2, (high - low) / 2 or 1.0
        count, shape, origin = size(operation), operation.shape, operation.origin
        scaling = diagonal_matrix(np.full(count, 1 / radius))
        operand = rebuilt.positions[operation.operand]
        shift = np.full(count, -centre / radius)
        scaled = rebuilt.add(Linear((operand,), (scaling,), shift, shape, origin))
        coefficients = _to_chebyshev(operation.coefficients, centre, radius)
        rebuilt.positions[position] = rebuilt.add(
            Polynomial(scaled, coefficients, "chebyshev", shape, origin, operation.fit)
        )
    return rebuilt.finish(graph.outputs)


def _trimmed(operation: Polynomial) -> Polynomial:
    coefficients = operation.coefficients
    used = np.flatnonzero(coefficients.reshape(len(coefficients), -1).any(axis=1))
    kept = coefficients[: used[-1] + 1 if used.size else 1]
    return Polynomial(
        operation.operand,
        kept,
        operation.basis,
        operation.shape,
        operation.origin,
        operation.fit,
    )


def _to_chebyshev(coefficients: Array, centre: float, radius: float) -> Array:
    """Return Chebyshev coefficients in t of sum c_k (centre + radius t)^k."""
    count = len(coefficients)
    expand = np.zeros((count, count))  # powers of x to powers of t: the binomial theorem
    for power in range(count):
        for term in range(power + 1):
            expand[term, power] = comb(power, term) * centre ** (power - term) * radius**term
    basis = np.zeros((count, count))  # powers of t to Chebyshev polynomials
    for power in range(count):
        column = np.polynomial.chebyshev.poly2cheb(np.eye(count)[power])
        basis[: len(column), power] = column
    return np.asarray(basis @ expand @ coefficients, np.float64)
