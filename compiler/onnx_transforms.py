"""CumSum and DFT: one dense matrix along an axis."""

from __future__ import annotations

from math import prod

import numpy as np
import scipy.sparse as sp

from hec.compiler.onnx_einsum import Labeled, contraction
from hec.compiler.onnx_matrices import along_axis
from hec.compiler.onnx_movement import check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import GraphBuilder, NodeError, Value, check_nonzeros, check_shape
from hec.compiler.tensor_ir import Array

_NOISE = 1e-12  # sines and cosines below are zeros


def convert_cumulative_sum(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn CumSum into a triangle of ones along its axis."""
    x = node.encrypted(0)
    axis = _axis(node, 1, 0, len(x.shape))
    size = x.shape[axis]
    check_nonzeros(size * (size + 1) // 2 * (prod(x.shape) // size))
    exclusive = 1 if node.integer("exclusive", 0) else 0
    ones = np.tri(size, k=-exclusive)
    if node.integer("reverse", 0):
        ones = ones.T
    matrix = along_axis(sp.csr_array(ones), x.shape, axis)
    return [builder.linear([(x.position, matrix)], 0.0, x.shape, node.origin)]


def convert_fourier_transform(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn DFT into one matrix; the last axis holds real and imaginary parts."""
    x = node.encrypted(0)
    rank = len(x.shape)
    axis = (
        check_axis(node.integer("axis", 1), rank) if node.opset < 20 else _axis(node, 2, -2, rank)
    )
    if rank < 2 or axis == rank - 1 or x.shape[-1] not in (1, 2):
        raise NodeError(f"DFT along axis {axis} of a tensor of shape {x.shape} is not possible")
    inverse, onesided = bool(node.integer("inverse", 0)), bool(node.integer("onesided", 0))
    half = inverse and onesided
    default = 2 * (x.shape[axis] - 1) if half else x.shape[axis]
    given = node.constant(1)
    length = default if given is None else int(given.item())
    if length < 1:
        raise NodeError(f"DFT of length {length} is not possible")
    results = length // 2 + 1 if onesided and not inverse else length
    shape = list(x.shape)
    shape[axis], shape[-1] = results, 1 if half else 2
    check_shape(shape)
    check_nonzeros(prod(shape) * x.shape[axis] * x.shape[-1])
    turns = _turns(results, x.shape[axis], length, -1 if inverse else 1)
    parts = _parts(turns)[:, : shape[-1], :, : x.shape[-1]]
    if half:
        parts = parts * _mirrored(x.shape[axis], length)[:, None]
    labels, kept = tuple(range(rank)), tuple(range(rank))
    result = (*kept[:axis], rank, *kept[axis + 1 : -1], rank + 1)
    sizes = {**dict(zip(labels, x.shape, strict=True)), rank: results, rank + 1: shape[-1]}
    factor = Labeled(parts / (length if inverse else 1), (rank, rank + 1, axis, rank - 1))
    matrix = contraction(x.shape, labels, factor, result, sizes)
    return [builder.linear([(x.position, matrix)], 0.0, tuple(shape), node.origin)]


def _turns(results: int, size: int, length: int, sign: int) -> Array:
    """Return (results, size) numbers in [0, 1): by which part of a turn each element rotates.

    NaN for elements beyond `length`, which are cut off.
    """
    k, n = np.arange(results)[:, None], np.arange(size)
    turns = -sign * (k * n) % length / length
    return np.where(n < length, turns, np.nan)


def _parts(turns: Array) -> Array:
    """Return the rotations as a (results, 2, size, 2) array of real 2x2 matrices."""
    cosines, sines = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    rows = np.stack([np.stack([cosines, -sines], -1), np.stack([sines, cosines], -1)], 1)
    return np.where(abs(np.nan_to_num(rows)) < _NOISE, 0.0, np.nan_to_num(rows))


def _mirrored(size: int, length: int) -> Array:
    """Return how often each frequency of a half spectrum counts: twice where it has a mirror."""
    n = np.arange(size)
    return np.where(2 * n > length, 0.0, np.where((n == 0) | (2 * n == length), 1.0, 2.0))


def _axis(node: Node, index: int, default: int, rank: int) -> int:
    given = node.constant(index)
    return check_axis(default if given is None else int(given.item()), rank)
