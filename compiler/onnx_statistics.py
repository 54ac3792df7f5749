"""Sums along axes, and products with what was summed: the parts of Softmax and normalizations.

A sum keeps its axes, with size 1, so that it broadcasts back to the tensor it came from.
"""

from __future__ import annotations

from math import prod

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.onnx_matrices import element_numbers, gather, lines_along
from hec.compiler.onnx_products import broadcast_matrix
from hec.compiler.onnx_values import Encrypted, GraphBuilder, check_nonzeros
from hec.compiler.tensor_ir import Activation, Array, Multiply, Origin, Shape

# Weights of one matrix that subtracts means; beyond, the means come first.
_LARGEST_CENTRING = 2**22

Axes = tuple[int, ...]  # counted from the front, in order


def summed(
    builder: GraphBuilder,
    x: Encrypted,
    axes: Axes,
    origin: Origin,
    weight: float = 1.0,
    bias: float = 0.0,
) -> Encrypted:
    """Return weight * the sum of `x` along `axes`, plus bias, in a shape with size 1 there."""
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    matrix = gather(lines_along(x.shape, axes), weight, prod(x.shape))
    return builder.linear([(x.position, matrix)], bias, shape, origin)


def averaged(
    builder: GraphBuilder, x: Encrypted, axes: Axes, origin: Origin, bias: float = 0.0
) -> Encrypted:
    """Return the mean of `x` along `axes`, plus bias, in a shape with size 1 there."""
    return summed(builder, x, axes, origin, 1.0 / count(x.shape, axes), bias)


def centred(builder: GraphBuilder, x: Encrypted, axes: Axes, origin: Origin) -> Encrypted:
    """Return `x` minus its mean along `axes`: one matrix, where that is not too large."""
    many = count(x.shape, axes)
    if prod(x.shape) * many > _LARGEST_CENTRING:
        return minus(builder, x, averaged(builder, x, axes, origin), origin)
    groups = lines_along(x.shape, axes)
    columns = np.empty((prod(x.shape), many), groups.dtype)
    columns[groups] = groups[:, None, :]
    weights = np.where(columns == np.arange(prod(x.shape))[:, None], 1.0, 0.0) - 1.0 / many
    matrix = gather(columns, weights, prod(x.shape))
    return builder.linear([(x.position, matrix)], 0.0, x.shape, origin)


def count(shape: Shape, axes: Axes) -> int:
    """Return how many elements one sum along `axes` adds up."""
    return prod(shape[axis] for axis in axes)


def minus(builder: GraphBuilder, x: Encrypted, y: Encrypted, origin: Origin) -> Encrypted:
    """Return x - y, where y broadcasts to x."""
    matrices = broadcast_matrix(x.shape, x.shape), broadcast_matrix(y.shape, x.shape, -1.0)
    return builder.linear(
        zip((x.position, y.position), matrices, strict=True), 0.0, x.shape, origin
    )


def times(builder: GraphBuilder, x: Encrypted, y: Encrypted, origin: Origin) -> Encrypted:
    """Return the product of x and y, where y broadcasts to x."""
    spread = [(y.position, broadcast_matrix(y.shape, x.shape))]
    factor = builder.linear(spread, 0.0, x.shape, origin)
    return builder.add(Multiply(x.position, factor.position, x.shape, origin))


def squared(builder: GraphBuilder, x: Encrypted, origin: Origin) -> Encrypted:
    """Return the square of every element."""
    return builder.add(Multiply(x.position, x.position, x.shape, origin))


def applied(builder: GraphBuilder, function: Function, x: Encrypted, origin: Origin) -> Encrypted:
    """Return `function` of every element."""
    return builder.add(Activation(x.position, function, x.shape, origin))


def affine(
    builder: GraphBuilder, x: Encrypted, scale: Array | float, shift: Array | float, origin: Origin
) -> Encrypted:
    """Return scale * x + shift, both of which broadcast to x."""
    matrix = broadcast_matrix(x.shape, x.shape, scale)
    return builder.linear([(x.position, matrix)], shift, x.shape, origin)


def windowed(
    builder: GraphBuilder,
    x: Encrypted,
    reach: tuple[int, int],
    scale: tuple[float, float],
    origin: Origin,
) -> Encrypted:
    """Return factor * the sum over channels c - before ... c + after, plus bias, for each c."""
    (before, after), (factor, bias) = reach, scale
    channels = x.shape[1]
    check_nonzeros(prod(x.shape) * (before + after + 1))
    numbers = np.moveaxis(element_numbers(x.shape), 1, -1)
    taps = np.arange(channels)[:, None] + np.arange(-before, after + 1)
    inside = (taps >= 0) & (taps < channels)
    columns = np.where(inside, numbers[..., np.clip(taps, 0, channels - 1)], -1)
    rows = np.moveaxis(columns, -2, 1).reshape(-1, before + after + 1)
    matrix = gather(rows, factor, prod(x.shape))
    return builder.linear([(x.position, matrix)], bias, x.shape, origin)
