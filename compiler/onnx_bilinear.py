"""MatMul and Gemm of two encrypted tensors: expand both, multiply elementwise, sum up.

C[i, j] = sum over l of A[i, l] B[l, j] takes one product for each (i, j, l). Only the larger of j
and l comes first among the axes of the expanded factors, and it comes rotated: t stands for
(i + t) mod its size. So one expansion repeats a factor as a whole, the other moves whole rows by
one of two distances for each t, and the sum adds neighbours or repetitions: as matrices of
diagonals all three have about as many diagonals as that axis is long, instead of as many as there
are results. Tokens come before heads, as in the tensors that attention splits into heads.

Source: Jiang et al., "Secure Outsourced Matrix Computation" (CCS 2018), rotated indices; measured:
docs/design/007-products-of-encrypted-tensors.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from hec.compiler import onnx_products
from hec.compiler.onnx_matrices import Indices, element_numbers, gather, select
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_products import broadcast_matrix, product_shape, transposed
from hec.compiler.onnx_values import (
    MAX_ELEMENTS,
    TOO_LARGE,
    Encrypted,
    GraphBuilder,
    NodeError,
    Term,
    Value,
)
from hec.compiler.tensor_ir import Multiply, Origin, Shape


@dataclass(frozen=True, eq=False)
class Factor:
    """An encrypted tensor, and the numbers of its elements in the shape that is multiplied."""

    position: int
    numbers: Indices


def convert_matmul(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn MatMul of any ranks into one matrix, or into matrices around a product."""
    a, b = node.required(0), node.required(1)
    if not (isinstance(a, Encrypted) and isinstance(b, Encrypted)):
        return onnx_products.convert_matmul(builder, node)
    left, right = (Factor(x.position, element_numbers(x.shape)) for x in (a, b))
    term, shape = _product(builder, (left, right), 1.0, node.origin)
    return [builder.linear([term], 0.0, shape, node.origin)]


def convert_gemm(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn alpha * A @ B + beta * C into one `Linear`, or into matrices around a product."""
    a, b, c = node.required(0), node.required(1), node.input(2)
    if not (isinstance(a, Encrypted) and isinstance(b, Encrypted)):
        return onnx_products.convert_gemm(builder, node)
    left = Factor(a.position, transposed(node, element_numbers(a.shape), "transA"))
    right = Factor(b.position, transposed(node, element_numbers(b.shape), "transB"))
    term, shape = _product(builder, (left, right), node.real("alpha", 1.0), node.origin)
    beta, terms = node.real("beta", 1.0), [term]
    if isinstance(c, Encrypted):
        terms.append((c.position, broadcast_matrix(c.shape, shape, beta)))
    if not isinstance(c, np.ndarray):
        return [builder.linear(terms, 0.0, shape, node.origin)]
    bias = beta * onnx_products.broadcast(node.weights(2), shape)
    return [builder.linear(terms, bias, shape, node.origin)]


def _product(
    builder: GraphBuilder, factors: tuple[Factor, Factor], weight: float, origin: Origin
) -> tuple[Term, Shape]:
    """Add the expansions and the product; return the sum as a term, and the result's shape."""
    left, right = factors[0].numbers, factors[1].numbers
    shape = product_shape(left.shape, right.shape)
    a, b = _batches(
        left if left.ndim > 1 else left[None, :], right if right.ndim > 1 else right[:, None]
    )
    _check_size(len(a) * a.shape[1] * b.shape[1] * b.shape[2], left.shape, right.shape)
    expanded = _by_columns(a, b) if b.shape[2] >= b.shape[1] else _by_sums(a, b)
    positions = []
    for factor, columns in zip(factors, (expanded.left, expanded.right), strict=True):
        matrix = select(columns, factor.numbers.size)
        terms = [(factor.position, matrix)]
        positions.append(builder.linear(terms, 0.0, expanded.shape, origin).position)
    product = builder.add(Multiply(positions[0], positions[1], expanded.shape, origin))
    return (product.position, gather(expanded.sums, weight, prod(expanded.shape))), shape


def _batches(left: Indices, right: Indices) -> tuple[Indices, Indices]:
    """Return the factors as (batch, rows, columns), with one batch axis that they share."""
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    a = np.broadcast_to(left, (*batch, *left.shape[-2:]))
    b = np.broadcast_to(right, (*batch, *right.shape[-2:]))
    return a.reshape(-1, *left.shape[-2:]), b.reshape(-1, *right.shape[-2:])


def _check_size(count: int, left: Shape, right: Shape) -> None:
    if count > MAX_ELEMENTS:
        raise NodeError(
            f"the product of encrypted matrices of shapes {left} and {right} takes {count:,} "
            f"multiplications; the limit is {MAX_ELEMENTS:,}",
            TOO_LARGE,
        )


@dataclass(frozen=True, eq=False)
class _Expanded:
    """Which element of its factor each element of the expanded factors is, and what is summed."""

    shape: Shape  # (turns, 1, rows, batch * inner)
    left: Indices
    right: Indices
    sums: Indices  # (results, terms): elements of the product, in the order of the results


def _by_columns(a: Indices, b: Indices) -> _Expanded:
    """Expand to (turn, i, batch, l), turn t of row i standing for the column j = (i + t) mod m."""
    batch, n, k = a.shape
    m = b.shape[2]
    column = _turned(n, m)
    left = np.broadcast_to(a.transpose(1, 0, 2), (m, n, batch, k))
    right = b.transpose(2, 0, 1)[column]  # (m, n, batch, k)
    shape = (m, 1, n, batch * k)
    turn = (np.arange(m) - np.arange(n)[:, None]) % m  # of result (i, j)
    product = element_numbers((m, n, batch, k))[turn, np.arange(n)[:, None]]  # (n, m, batch, k)
    return _Expanded(shape, left, right, product.transpose(2, 0, 1, 3).reshape(-1, k))


def _by_sums(a: Indices, b: Indices) -> _Expanded:
    """Expand to (turn, i, batch, j), turn t of row i standing for the summand l = (i + t) mod k."""
    batch, n, k = a.shape
    m = b.shape[2]
    summand = _turned(n, k)
    left = a.transpose(2, 1, 0)[summand, np.arange(n)]  # (k, n, batch)
    right = b.transpose(1, 0, 2)[summand]  # (k, n, batch, m)
    spread = np.broadcast_to(left[..., None], (k, n, batch, m))
    product = element_numbers((k, n, batch, m))
    return _Expanded(
        (k, 1, n, batch * m), spread, right, product.transpose(2, 1, 3, 0).reshape(-1, k)
    )


def _turned(rows: int, size: int) -> Indices:
    """Return (i + t) mod `size` for each turn t and row i, (size, rows)."""
    return (np.arange(size)[:, None] + np.arange(rows)) % size
