"""Normalizations: mean, variance, inverse square root, and a product with it.

The inverse square root is one activation of a positive variable, so a normalization costs two
products, one fitted function, and the matrices between. Stored statistics cost nothing instead:
BatchNormalization is in `onnx_products`.
"""

from __future__ import annotations

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.onnx_movement import check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_statistics import (
    Axes,
    affine,
    applied,
    averaged,
    centred,
    squared,
    summed,
    times,
    windowed,
)
from hec.compiler.onnx_values import Encrypted, GraphBuilder, NodeError, Value
from hec.compiler.tensor_ir import Array, Origin, Shape

_INVERSE_ROOT = Function("power", (-0.5,))
_STATED_EPSILON = 1e-5  # of every operator that has the attribute
_TINY = 1e-18  # keeps quotients finite, beside numbers of any use


def convert_layer_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn LayerNormalization into products; its outputs are the result, mean, and 1/deviation."""
    x, origin = node.encrypted(0), node.origin
    axes = _from(node, x)
    mean = averaged(builder, x, axes, origin)
    level = centred(builder, x, axes, origin)
    inverse = _inverse_root(builder, level, axes, _epsilon(node), origin)
    result = times(builder, level, inverse, origin)
    shape = x.shape[axes[0] :]
    scale, shift = _weights(node, 1, shape, 1.0), _weights(node, 2, shape, 0.0)
    scaled = affine(builder, result, scale, shift, origin)
    results: list[Value] = [scaled, mean, inverse]
    return results[: len(node.proto.output)]


def convert_rms_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn RMSNormalization into products."""
    x, origin = node.encrypted(0), node.origin
    axes = _from(node, x)
    inverse = _inverse_root(builder, x, axes, _epsilon(node), origin)
    scale = _weights(node, 1, x.shape[axes[0] :], 1.0)
    return [affine(builder, times(builder, x, inverse, origin), scale, 0.0, origin)]


def convert_instance_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn InstanceNormalization into products, each channel normalized by itself."""
    x = _image(node)
    result = _standardized(builder, x, tuple(range(2, len(x.shape))), _epsilon(node), node.origin)
    return [_by_channel(builder, node, result)]


def convert_group_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn GroupNormalization into products; before opset 21 scale and bias are per group."""
    x = _image(node)
    batch, channels, groups = x.shape[0], x.shape[1], node.integer("num_groups", 0)
    if groups < 1 or channels % groups:
        raise NodeError(f"'num_groups' {groups} does not divide {channels} channels")
    grouped = Encrypted(x.position, (batch, groups, channels // groups, *x.shape[2:]))
    axes = tuple(range(2, len(grouped.shape)))
    result = _standardized(builder, grouped, axes, _epsilon(node), node.origin)
    if node.opset < 21:
        return [Encrypted(_by_channel(builder, node, result).position, x.shape)]
    return [_by_channel(builder, node, Encrypted(result.position, x.shape))]


def convert_mean_variance_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn MeanVarianceNormalization into products."""
    x = node.encrypted(0)
    given = node.integers("axes", (0, 2, 3))
    axes = tuple(sorted({check_axis(axis, len(x.shape)) for axis in given}))
    return [_standardized(builder, x, axes, _TINY, node.origin)]


def convert_lp_normalization(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn LpNormalization into a product with the inverse of the norm."""
    x, origin, power = node.encrypted(0), node.origin, node.integer("p", 2)
    axes = (check_axis(node.integer("axis", -1), len(x.shape)),)
    if power not in (1, 2):
        raise NodeError(f"LpNormalization with p {power} does not exist in ONNX", "use p 1 or 2")
    if power == 2:
        total, function = summed(builder, squared(builder, x, origin), axes, origin), _INVERSE_ROOT
    else:
        sizes = applied(builder, Function("abs"), x, origin)
        total, function = summed(builder, sizes, axes, origin), Function("reciprocal")
    total = affine(builder, total, 1.0, _TINY, origin)  # of zeros ONNX gives zeros
    return [times(builder, x, applied(builder, function, total, origin), origin)]


def convert_lrn(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn LRN into a product with a power of a sum of squares over neighbouring channels."""
    x, origin, size = _image(node), node.origin, node.integer("size", 0)
    if size < 1:
        raise NodeError(f"'size' {size} of LRN must be a positive number")
    reach = ((size - 1) // 2, size // 2)
    scale = (node.real("alpha", 1e-4) / size, node.real("bias", 1.0))
    total = windowed(builder, squared(builder, x, origin), reach, scale, origin)
    power = Function("power", (-node.real("beta", 0.75),))
    return [times(builder, x, applied(builder, power, total, origin), origin)]


def _standardized(
    builder: GraphBuilder, x: Encrypted, axes: Axes, epsilon: float, origin: Origin
) -> Encrypted:
    """Return `x` minus its mean along `axes`, divided by its deviation."""
    level = centred(builder, x, axes, origin)
    inverse = _inverse_root(builder, level, axes, epsilon, origin)
    return times(builder, level, inverse, origin)


def _inverse_root(
    builder: GraphBuilder, x: Encrypted, axes: Axes, epsilon: float, origin: Origin
) -> Encrypted:
    """Return 1 / sqrt(mean of x^2 along `axes`, plus epsilon)."""
    variance = averaged(builder, squared(builder, x, origin), axes, origin, epsilon)
    return applied(builder, _INVERSE_ROOT, variance, origin)


def _epsilon(node: Node) -> float:
    epsilon = node.real("epsilon", _STATED_EPSILON)
    if not 0 <= epsilon < np.inf:
        raise NodeError(f"'epsilon' {epsilon:g} of {node.operator} must not be negative")
    return epsilon


def _from(node: Node, x: Encrypted) -> Axes:
    """Return the axes from the attribute 'axis' on."""
    return tuple(range(check_axis(node.integer("axis", -1), len(x.shape)), len(x.shape)))


def _image(node: Node) -> Encrypted:
    x = node.encrypted(0)
    if len(x.shape) < 3:
        raise NodeError(
            f"{node.operator} of an input of shape {x.shape}: the rank must be 3 or more"
        )
    return x


def _weights(node: Node, index: int, shape: Shape, default: float) -> Array:
    """Return a constant input that must broadcast to `shape`, `default` if it is left out."""
    if node.input(index) is None:
        return np.full(shape, default)
    given = node.weights(index)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise NodeError(
            f"{node.operator}: weights of shape {given.shape} do not fit {shape}"
        ) from None


def _by_channel(builder: GraphBuilder, node: Node, x: Encrypted) -> Encrypted:
    """Return x scaled and shifted by inputs 1 and 2, which have one value for each of axis 1."""
    channels, others = x.shape[1], (1,) * (len(x.shape) - 2)
    values = [node.weights(1), node.weights(2)]
    for each in values:
        if each.shape != (channels,):
            raise NodeError(f"{node.operator}: weights of shape {each.shape} do not fit {x.shape}")
    scale, shift = (each.reshape(channels, *others) for each in values)
    return affine(builder, x, scale, shift, node.origin)
