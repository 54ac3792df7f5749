"""Activate polynomials: squares and polynomials become functions that a bootstrap can evaluate."""

from __future__ import annotations

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.functions import Function, Power
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)
from hec.passes.matrices import diagonal_matrix
from hec.passes.rewriting import Rebuilt


def activate_polynomials(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace squares and Chebyshev polynomials by `Activation`, for `refresh_activations`.

    Pays where every activation is a bootstrap anyway: it evaluates the polynomial at no further
    level. A polynomial whose elements have coefficients of their own becomes a sum of functions
    that they share: the Chebyshev polynomials. A product of two different tensors stays. Where
    there is one, squares stay products too: the levels that it needs between two bootstraps are
    cheaper than a bootstrap for every square.

    Source: none. Cost: linear in the operations.
    """
    rebuilt = Rebuilt()
    keeps_squares = has_products(graph)
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Multiply) and not (keeps_squares or is_product(operation)):
            operand = rebuilt.positions[operation.left]
            activation = Activation(operand, _power(2), operation.shape, operation.origin)
            rebuilt.positions[position] = rebuilt.add(activation)
        elif isinstance(operation, Polynomial) and len(operation.coefficients) > 2:
            operand = rebuilt.positions[operation.operand]
            rebuilt.positions[position] = _append(operation, operand, rebuilt)
        else:
            rebuilt.keep(position, operation)
    return rebuilt.finish(graph.outputs)


def has_products(graph: TensorGraph) -> bool:
    """Return whether two different tensors are multiplied anywhere."""
    return any(map(is_product, graph.operations))


def is_product(operation: TensorOperation) -> bool:
    """Return whether `operation` is the product of two different tensors."""
    return isinstance(operation, Multiply) and operation.left != operation.right


def _power(exponent: int) -> Function:
    return Function(f"power {exponent}", (), (Power(0, (0.0,) * exponent + (1.0,)),))


def _append(operation: Polynomial, operand: int, rebuilt: Rebuilt) -> int:
    coefficients, shape, origin = operation.coefficients, operation.shape, operation.origin
    is_chebyshev = operation.basis == "chebyshev"
    if coefficients.ndim == 1:
        function = _polynomial(coefficients, is_chebyshev)
        return rebuilt.add(Activation(operand, function, shape, origin))
    terms, matrices = [operand], [diagonal_matrix(coefficients[1])]
    for degree in range(2, len(coefficients)):
        function = _polynomial(np.eye(degree + 1)[degree], is_chebyshev)
        terms.append(rebuilt.add(Activation(operand, function, shape, origin)))
        matrices.append(diagonal_matrix(coefficients[degree]))
    return rebuilt.add(Linear(tuple(terms), tuple(matrices), coefficients[0], shape, origin))


def _polynomial(coefficients: Array, is_chebyshev: bool) -> Function:
    step = Power(0, tuple(map(float, coefficients)), is_chebyshev)
    return Function(f"polynomial of degree {len(coefficients) - 1}", (), (step,))
