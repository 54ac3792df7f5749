"""Recognize polynomials: elementwise chains such as a*x*x + b*x + c become one `Polynomial`."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from typing_extensions import assert_never

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Origin,
    Polynomial,
    TensorGraph,
    TensorOperation,
    operands,
    size,
)
from hec.passes.matrices import diagonal_matrix, diagonal_of
from hec.passes.rewriting import Rebuilt, merged

LARGEST_DEGREE = 8  # beyond it power coefficients lose more precision than composing gains levels


@dataclass(frozen=True, eq=False)
class Chain:
    """A value as a polynomial of another: per-element power coefficients, (degree + 1, size)."""

    base: int  # the operation it is a polynomial of; itself, when it is none of another
    coefficients: Array
    depth: int = 0  # levels from the base as the model wrote it
    affine_above: int = 0  # 1 when an affine step would cost a level before another product
    origin: Origin = ()

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1


def recognize_polynomials(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace maximal elementwise chains over one value by `Polynomial` in the power basis.

    Pays because a polynomial known as a whole takes the fewest levels (a quadratic takes one),
    and because its steps then need no ranges of their own. A chain is left alone where composing
    would take more levels than the model does: (x^2)^2 takes 2, a polynomial of degree 4 takes 3.

    Source: design.md, 3.1. Cost: linear in operations, times tensor size.
    """
    chains: list[Chain] = []
    for position, operation in enumerate(graph.operations):
        chains.append(_chain(position, operation, chains))
    needed = _needed(graph, chains)
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Input) or (needed[position] and chains[position].base == position):
            rebuilt.keep(position, operation)
        elif needed[position]:
            base = rebuilt.positions[chains[position].base]
            rebuilt.positions[position] = rebuilt.add(_operation(chains[position], base, operation))
    return rebuilt.finish(graph.outputs)


def levels(degree: int) -> int:
    """Return the levels that a polynomial takes once the affine layers around it take a share."""
    return {0: 0, 1: 0, 2: 1}.get(degree, ceil(log2(degree + 1)))


def _needed(graph: TensorGraph, chains: list[Chain]) -> list[bool]:
    needed = [False] * len(chains)
    for output in graph.outputs:
        needed[output.operand] = True
    for position in reversed(range(len(chains))):
        if needed[position]:
            base = chains[position].base
            sources = operands(graph.operations[position]) if base == position else (base,)
            for source in sources:
                needed[source] = True
    return needed


def _operation(chain: Chain, base: int, old: TensorOperation) -> TensorOperation:
    coefficients = chain.coefficients
    if chain.degree <= 1:
        slope = coefficients[1] if chain.degree else np.zeros(size(old))
        matrix = diagonal_matrix(slope)
        return Linear((base,), (matrix,), coefficients[0], old.shape, chain.origin)
    if (coefficients == coefficients[:, :1]).all():
        coefficients = coefficients[:, 0]
    return Polynomial(base, coefficients, "power", old.shape, chain.origin)


def _chain(position: int, operation: TensorOperation, chains: list[Chain]) -> Chain:
    itself = Chain(position, np.repeat([[0.0], [1.0]], size(operation), axis=1))
    match operation:
        case Input() | Activation() | Bootstrap():
            return itself
        case Linear():
            chain = _affine(operation, [chains[operand] for operand in operation.operands])
        case Multiply():
            chain = _product(operation, chains[operation.left], chains[operation.right])
        case Polynomial():
            chain = _composed(operation, chains[operation.operand])
        case _:
            assert_never(operation)
    if chain is None or chain.degree > LARGEST_DEGREE or levels(chain.degree) > chain.depth:
        return itself
    return chain


def _affine(linear: Linear, parts: list[Chain]) -> Chain | None:
    diagonals = [diagonal_of(matrix) for matrix in linear.matrices]
    if len({part.base for part in parts}) != 1:
        return None
    total = linear.bias[None, :]
    for diagonal, part in zip(diagonals, parts, strict=True):
        if diagonal is None:
            return None
        total = _sum(total, diagonal * part.coefficients)
    return Chain(
        parts[0].base,
        _trimmed(total),
        max(part.depth for part in parts),
        int(any(part.depth for part in parts)),  # below the first product it merges with the base
        merged(*(part.origin for part in parts), linear.origin),
    )


def _product(multiply: Multiply, left: Chain, right: Chain) -> Chain | None:
    if left.base != right.base:
        return None
    coefficients = np.zeros((left.degree + right.degree + 1, left.coefficients.shape[1]))
    for power, row in enumerate(left.coefficients):
        coefficients[power : power + right.degree + 1] += row * right.coefficients
    depth = 1 + max(left.depth + left.affine_above, right.depth + right.affine_above)
    origin = merged(left.origin, right.origin, multiply.origin)
    return Chain(left.base, _trimmed(coefficients), depth, 0, origin)


def _composed(operation: Polynomial, inner: Chain) -> Chain | None:
    if operation.basis != "power" or (len(operation.coefficients) - 1) * inner.degree > 64:
        return None
    outer = operation.coefficients
    count = inner.coefficients.shape[1]
    total = np.zeros((1, count))
    for row in outer[::-1]:  # Horner
        product = np.zeros((len(total) + inner.degree, count))
        for power, coefficient in enumerate(inner.coefficients):
            product[power : power + len(total)] += coefficient * total
        product[0] += row
        total = product
    own = levels(len(outer) - 1)
    depth = inner.depth + inner.affine_above + own if own else inner.depth
    origin = merged(inner.origin, operation.origin)
    return Chain(inner.base, _trimmed(total), depth, int(depth > 0), origin)


def _sum(left: Array, right: Array) -> Array:
    total = np.zeros((max(len(left), len(right)), right.shape[1]))
    total[: len(left)] += left
    total[: len(right)] += right
    return total


def _trimmed(coefficients: Array) -> Array:
    used = np.flatnonzero((coefficients != 0).any(axis=1))
    return coefficients[: used[-1] + 1 if used.size else 1]
