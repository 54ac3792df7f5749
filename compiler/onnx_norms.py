"""Norms and their like: a function of each element, a sum, a function of the sum.

ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum, ReduceLogSumExp over axes; LpPool over windows;
GlobalLpPool over images. Squares are exact; absolute values, roots, exp and log are activations.
"""

from __future__ import annotations

from math import prod

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.onnx_elementwise import apply
from hec.compiler.onnx_matrices import gather, repeat_diagonally
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_products import reduce_axes, reduced_axes
from hec.compiler.onnx_values import (
    Encrypted,
    GraphBuilder,
    NodeError,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.onnx_windows import tap_pixels, window_of
from hec.compiler.tensor_ir import Multiply, Polynomial

_MOST = 8  # the largest p of a pool


def convert_norm(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a reduction that is more than a sum into functions around a sum."""
    x = node.encrypted(0)
    axes, keep = reduced_axes(node, len(x.shape)), bool(node.integer("keepdims", 1))
    match node.operator:
        case "ReduceL1":
            x = _absolute_power(builder, node, x, 1)
        case "ReduceL2" | "ReduceSumSquare":
            x = _absolute_power(builder, node, x, 2)
        case "ReduceLogSumExp":
            x = apply(builder, node, x, Function("exp"))
    total = reduce_axes(builder, node, x, axes, keep)
    match node.operator:
        case "ReduceL2":
            total = _root(builder, node, total, 2)
        case "ReduceLogSum" | "ReduceLogSumExp":
            total = apply(builder, node, total, Function("log"))
    return [total]


def convert_global_lp_pool(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn GlobalLpPool into the norm of each channel of an image."""
    x, power = node.encrypted(0), _power(node)
    if len(x.shape) < 3:
        raise NodeError(f"GlobalLpPool of an input of shape {x.shape}: the rank must be 3 or more")
    powers = _absolute_power(builder, node, x, power)
    total = reduce_axes(builder, node, powers, tuple(range(2, len(x.shape))), True)
    return [_root(builder, node, total, power)]


def convert_lp_pool(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn LpPool into the norm of each window."""
    x, power = node.encrypted(0), _power(node)
    if len(x.shape) < 3:
        raise NodeError(f"LpPool of an input of shape {x.shape}: the rank must be 3 or more")
    window = window_of(node, x.shape[2:], node.integers("kernel_shape"))
    shape = check_shape((*x.shape[:2], *window.output))
    check_nonzeros(prod(shape) * prod(window.kernel))
    block = gather(tap_pixels(window), 1.0, prod(window.image))
    matrix = repeat_diagonally(block, prod(x.shape[:2]))
    powers = _absolute_power(builder, node, x, power)
    total = builder.linear([(powers.position, matrix)], 0.0, shape, node.origin)
    return [_root(builder, node, total, power)]


def _power(node: Node) -> int:
    power = node.integer("p", 2)
    if not 1 <= power <= _MOST:
        raise NodeError(
            f"{node.operator} with p = {power} is not supported",
            f"use a whole p from 1 to {_MOST}",
        )
    return power


def _absolute_power(builder: GraphBuilder, node: Node, x: Encrypted, power: int) -> Encrypted:
    """Return |x|^power."""
    if power == 2:
        return builder.add(Multiply(x.position, x.position, x.shape, node.origin))
    if power % 2:
        x = apply(builder, node, x, Function("abs"))
    if power == 1:
        return x
    coefficients = np.zeros(power + 1)
    coefficients[-1] = 1.0
    return builder.add(Polynomial(x.position, coefficients, "power", x.shape, node.origin))


def _root(builder: GraphBuilder, node: Node, x: Encrypted, degree: int) -> Encrypted:
    if degree == 1:
        return x
    root = Function("sqrt") if degree == 2 else Function("power", (1.0 / degree,))
    return apply(builder, node, x, root)
