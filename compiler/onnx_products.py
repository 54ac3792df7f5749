"""MatMul and Gemm with a constant on one side, BatchNormalization, and sums along axes."""

from __future__ import annotations

from math import prod
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.onnx_matrices import (
    Indices,
    compressed,
    element_numbers,
    gather,
    lines_along,
    select,
)
from hec.compiler.onnx_movement import check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import (
    Encrypted,
    GraphBuilder,
    NodeError,
    Term,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.tensor_ir import Array, Shape

Number = TypeVar("Number", np.integer, np.float64)


def convert_matmul(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn MatMul with a constant on either side, of any rank, into one matrix."""
    x = node.required(0)
    if isinstance(x, Encrypted):
        matrix, shape = _times_constant(element_numbers(x.shape), node.weights(1))
    else:
        x = node.encrypted(1)
        matrix, shape = _constant_times(node.weights(0), element_numbers(x.shape))
    return [builder.linear([(x.position, matrix)], 0.0, shape, node.origin)]


def _times_constant(numbers: Indices, weights: Array) -> tuple[sp.csr_array, Shape]:
    """Return the matrix and the result shape of numbers @ weights, as numpy's matmul has it."""
    shape = product_shape(numbers.shape, weights.shape)
    rows = numbers if numbers.ndim > 1 else numbers[None, :]
    columns = weights if weights.ndim > 1 else weights[:, None]
    return _product(rows[..., :, None, :], columns.swapaxes(-1, -2)[..., None, :, :]), shape


def _constant_times(weights: Array, numbers: Indices) -> tuple[sp.csr_array, Shape]:
    shape = product_shape(weights.shape, numbers.shape)
    rows = weights if weights.ndim > 1 else weights[None, :]
    columns = numbers if numbers.ndim > 1 else numbers[:, None]
    return _product(columns.swapaxes(-1, -2)[..., None, :, :], rows[..., :, None, :]), shape


def product_shape(left: Shape, right: Shape) -> Shape:
    """Return the shape of numpy's matmul; raise `NodeError` if there is none."""
    mismatch = NodeError(f"cannot multiply matrices of shapes {left} and {right}")
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        raise mismatch
    try:
        batch = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        raise mismatch from None
    return check_shape((*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())))


def _product(numbers: Indices, weights: Array) -> sp.csr_array:
    """Return the matrix whose rows are all axes of the two arrays broadcast, but the last."""
    shape = np.broadcast_shapes(numbers.shape, weights.shape)
    check_nonzeros(prod(shape))
    columns = np.broadcast_to(numbers, shape).reshape(-1)
    data = np.broadcast_to(weights, shape).reshape(-1)
    indptr = np.arange(prod(shape[:-1]) + 1, dtype=np.int32) * np.int32(shape[-1])
    return compressed(data, columns, indptr, numbers.size)


def convert_gemm(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn alpha * A @ B + beta * C, with A or B constant, into one `Linear`."""
    a, b = node.required(0), node.required(1)
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    terms: list[Term] = []
    bias: Array | float = 0.0
    if isinstance(a, Encrypted):
        numbers = transposed(node, element_numbers(a.shape), "transA")
        matrix, shape = _times_constant(
            numbers, alpha * transposed(node, node.weights(1), "transB")
        )
        terms.append((a.position, matrix))
    elif isinstance(b, Encrypted):
        numbers = transposed(node, element_numbers(b.shape), "transB")
        matrix, shape = _constant_times(
            alpha * transposed(node, node.weights(0), "transA"), numbers
        )
        terms.append((b.position, matrix))
    else:
        left = transposed(node, node.weights(0), "transA")
        right = transposed(node, node.weights(1), "transB")
        shape = product_shape(left.shape, right.shape)
        bias = alpha * left @ right
    c = node.input(2)
    if isinstance(c, Encrypted):
        terms.append((c.position, broadcast_matrix(c.shape, shape, beta)))
    elif c is not None:
        bias = bias + beta * broadcast(node.weights(2), shape)
    return [builder.linear(terms, bias, shape, node.origin)]


def transposed(node: Node, matrix: NDArray[Number], attribute: str) -> NDArray[Number]:
    """Return a factor of Gemm, transposed if the node's attribute says so."""
    if matrix.ndim != 2:
        raise NodeError(f"Gemm of a tensor of shape {matrix.shape}: the rank must be 2")
    return matrix.T if node.integer(attribute, 0) else matrix


def broadcast(array: Array, shape: Shape) -> Array:
    """Return `array` in `shape`; raise `NodeError` if it does not broadcast to it."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise NodeError(f"shape {array.shape} does not broadcast to {shape}") from None


def broadcast_matrix(source: Shape, shape: Shape, weights: Array | float = 1.0) -> sp.csr_array:
    """Return the matrix that broadcasts a tensor to `shape`, then scales by `weights`."""
    try:
        columns = np.broadcast_to(element_numbers(source), shape)
    except ValueError:
        raise NodeError(f"shape {source} does not broadcast to {shape}") from None
    return select(columns, prod(source), np.broadcast_to(weights, shape))


def convert_batch_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn BatchNormalization with its stored statistics into a scaling per channel."""
    x = node.encrypted(0)
    if node.integer("training_mode", 0):
        raise NodeError(
            "BatchNormalization in training mode is not supported",
            "export the network in inference mode, model.eval() in PyTorch",
        )
    per_pixel = node.opset < 9 and not node.integer("spatial", 1)
    normalized = x.shape[1:] if per_pixel else x.shape[1:2] or (1,)
    statistics = [node.weights(k) for k in range(1, 5)]
    for values in statistics:
        if values.shape != normalized:
            raise NodeError(f"statistics of shape {values.shape} do not fit {x.shape}")
    scale, shift, mean, variance = statistics
    with np.errstate(all="ignore"):  # the builder reports what is not finite
        factor = scale / np.sqrt(variance + node.real("epsilon", 1e-5))
    view = normalized + (1,) * (len(x.shape) - 1 - len(normalized))
    matrix = broadcast_matrix(x.shape, x.shape, factor.reshape(view))
    bias = (shift - mean * factor).reshape(view)
    return [builder.linear([(x.position, matrix)], bias, x.shape, node.origin)]


def convert_reduction(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn ReduceSum or ReduceMean, over the axes given as input or attribute, into one matrix."""
    x = node.encrypted(0)
    axes = reduced_axes(node, len(x.shape))
    keep, mean = bool(node.integer("keepdims", 1)), node.operator == "ReduceMean"
    return [reduce_axes(builder, node, x, axes, keep, mean)]


def convert_global_average_pool(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn GlobalAveragePool into the mean over the spatial axes."""
    x = node.encrypted(0)
    return [reduce_axes(builder, node, x, tuple(range(2, len(x.shape))), True, True)]


def reduced_axes(node: Node, rank: int) -> tuple[int, ...]:
    """Return the axes, in order, that a reduction has as its input or as its attribute."""
    given = node.constant(1)
    axes = node.integers("axes", ()) if given is None else tuple(int(a) for a in given.reshape(-1))
    if not axes and not node.integer("noop_with_empty_axes", 0):
        return tuple(range(rank))
    return tuple(sorted({check_axis(axis, rank) for axis in axes}))


def reduce_axes(
    builder: GraphBuilder,
    node: Node,
    x: Encrypted,
    axes: tuple[int, ...],
    keep: bool,
    mean: bool = False,
) -> Encrypted:
    """Return the sum or the mean along `axes`, which stay with size 1 if `keep`."""
    columns = lines_along(x.shape, axes)
    weight = 1.0 / columns.shape[1] if mean else 1.0
    sizes = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    shape = tuple(size for axis, size in enumerate(sizes) if keep or axis not in axes)
    matrix = gather(columns, weight, prod(x.shape))
    return builder.linear([(x.position, matrix)], 0.0, shape, node.origin)
