"""Evaluate a TensorGraph in numpy on many samples: the exact meaning of the graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler.fourier import series
from hec.compiler.many_samples import times_samples
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)


def evaluate(graph: TensorGraph, samples: Mapping[str, NDArray[np.floating]]) -> list[Array]:
    """Return the value of every operation as a (samples, elements) array.

    `samples` maps each input's name to a (samples, elements) array, the input's prologue done.
    """
    values: list[Array] = []
    for operation in graph.operations:
        values.append(value(operation, values, samples))
    return values


def value(
    operation: TensorOperation, values: list[Array], samples: Mapping[str, NDArray[np.floating]]
) -> Array:
    """Return the value of one operation, given those of all before it."""
    match operation:
        case Input():
            return np.asarray(samples[operation.name], np.float64) / operation.divisor
        case Linear():
            total = np.tile(operation.bias, (_count(samples), 1))
            for operand, matrix in zip(operation.operands, operation.matrices, strict=True):
                total += times_samples(matrix, values[operand])
            return total
        case Multiply():
            return values[operation.left] * values[operation.right]
        case Activation():
            return operation.function(values[operation.operand])
        case Polynomial():
            return polynomial(operation, values[operation.operand])
        case Bootstrap():
            return series(operation.coefficients, values[operation.operand])
        case _:
            assert_never(operation)


def polynomial(operation: Polynomial, x: Array) -> Array:
    """Return the polynomial's values at `x`, a (samples, elements) array."""
    shared = operation.coefficients.ndim == 1
    coefficients = operation.coefficients[:, None] if shared else operation.coefficients
    if operation.basis == "power":
        values = np.polynomial.polynomial.polyval(x, coefficients[:, None, :], tensor=False)
    else:
        values = np.polynomial.chebyshev.chebval(x, coefficients[:, None, :], tensor=False)
    return np.asarray(values, np.float64)


def _count(samples: Mapping[str, NDArray[np.floating]]) -> int:
    return len(next(iter(samples.values())))
