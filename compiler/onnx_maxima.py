"""Max, Min, ReduceMax, ReduceMin, MaxPool and GlobalMaxPool.

Comparing is the most expensive thing on encrypted numbers. Two tensors are compared without
asking; for what compares more, a pool or a reduction, the user chooses: `Target.maxpool`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from hec.compiler.onnx_matrices import Indices, element_numbers, select
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_products import convert_global_average_pool, reduced_axes
from hec.compiler.onnx_tournament import Tournament, rounds
from hec.compiler.onnx_values import (
    MAX_ELEMENTS,
    TOO_LARGE,
    Encrypted,
    GraphBuilder,
    NodeError,
    Value,
)
from hec.compiler.onnx_windows import Window, convert_average_pool, tap_pixels, window_of
from hec.compiler.tensor_ir import Array, Shape

POOLS = frozenset({"MaxPool", "GlobalMaxPool"})
_SMALLEST = frozenset({"Min", "ReduceMin"})


def convert_extremum(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Max or Min of encrypted tensors and constants into comparisons in pairs."""
    tournament = _tournament(builder, node)
    players: dict[tuple[int, Shape], Encrypted] = {}
    constants: list[Array] = []
    for index in range(len(node.inputs)):
        value = node.required(index)
        if isinstance(value, Encrypted):
            players[value.position, value.shape] = value
        else:
            constants.append(node.weights(index))
    _check_broadcast(node, [*(shape for _, shape in players), *(c.shape for c in constants)])
    left = list(players.values())
    if len(left) + bool(constants) > 2:
        total = len(left) + bool(constants)
        _require_comparisons(builder, node, (total - 1).bit_length(), total)
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=False)
        left = [tournament.winner(a, b) for a, b in pairs] + left[len(left) & ~1 :]
    if not constants:
        return [left[0]]
    best = constants[0]
    for constant in constants[1:]:
        best = (np.minimum if node.operator in _SMALLEST else np.maximum)(best, constant)
    return [tournament.winner_of_constant(left[0], best)]


def _check_broadcast(node: Node, shapes: Sequence[Shape]) -> None:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(shape) for shape in shapes)
        raise NodeError(f"{node.operator} of shapes {listed}: they do not broadcast") from None


def convert_reduction(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn ReduceMax or ReduceMin into a tournament over the elements of its axes."""
    x = node.encrypted(0)
    axes = reduced_axes(node, len(x.shape))
    return [_reduced(builder, node, x, axes, bool(node.integer("keepdims", 1)))]


def convert_global_max_pool(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn GlobalMaxPool into a tournament over each channel, or into its mean."""
    x = node.encrypted(0)
    if builder.maxpool == "average":
        return convert_global_average_pool(builder, node)
    return [_reduced(builder, node, x, tuple(range(2, len(x.shape))), True)]


def _reduced(
    builder: GraphBuilder, node: Node, x: Encrypted, axes: Sequence[int], keep: bool
) -> Encrypted:
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    count = prod(x.shape[axis] for axis in axes)
    _require_comparisons(builder, node, (count - 1).bit_length(), count)
    lines = element_numbers(x.shape).transpose(*kept, *axes)
    lines = lines.reshape(*(x.shape[axis] for axis in kept), count)
    matrix = select(lines, prod(x.shape))
    gathered = builder.linear([(x.position, matrix)], 0.0, lines.shape, node.origin)
    every = np.arange(count)[None]
    winners = _tournament(builder, node).along(gathered, lines.ndim - 1, every)
    shape = lines.shape[:-1]
    if keep:
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    return replace(winners, shape=shape)


def convert_max_pool(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn MaxPool into one tournament for each spatial axis, or into AveragePool.

    A kernel of one pixel is a selection, and needs no choice.
    """
    x = node.encrypted(0)
    if len(x.shape) < 3:
        raise NodeError(f"MaxPool of an input of shape {x.shape}: the rank must be 3 or more")
    if any(node.proto.output[1:]):
        raise NodeError(
            "the output 'Indices' of MaxPool is not supported",
            "encrypted numbers cannot tell which pixel is the largest",
        )
    window = window_of(node, x.shape[2:], node.integers("kernel_shape"))
    taps = [_axis_taps(window, axis) for axis in range(len(window.image))]
    if builder.maxpool == "average":
        return convert_average_pool(builder, node)
    _require_comparisons(builder, node, sum(map(rounds, taps)), prod(window.kernel))
    tournament = _tournament(builder, node)
    for axis in reversed(range(len(taps))):
        x = tournament.along(x, axis + 2, taps[axis])
    return [x]


def _axis_taps(window: Window, axis: int) -> Indices:
    """Return the (outputs, taps) that windows read along one axis, -1 in the padding."""
    sizes = (window.image, window.kernel, window.strides, window.dilations)
    ends = (window.begins, window.ends, window.output)
    one = Window(*((size[axis],) for size in (*sizes, *ends)))
    count = one.output[0] * one.kernel[0]
    if count > MAX_ELEMENTS:
        raise NodeError(
            f"its windows read {count:,} pixels along one axis; the limit is {MAX_ELEMENTS:,}",
            TOO_LARGE,
        )
    taps = tap_pixels(one)
    if (taps < 0).all(axis=1).any():
        raise NodeError("a window of MaxPool lies in the padding alone", "use less padding")
    return taps


def _tournament(builder: GraphBuilder, node: Node) -> Tournament:
    return Tournament(builder, node.origin, -1.0 if node.operator in _SMALLEST else 1.0)


def require_choice(builder: GraphBuilder, node: Node) -> None:
    """Raise `NodeError` if the node needs a choice, whatever its unknown input is."""
    if builder.maxpool is not None:
        return
    if node.operator == "MaxPool":
        kernel = node.integers("kernel_shape")
        _require_comparisons(builder, node, sum((k - 1).bit_length() for k in kernel), prod(kernel))
    if node.operator == "GlobalMaxPool":
        raise _undecided(node, "GlobalMaxPool", "fitted activations, one after another")


def _require_comparisons(builder: GraphBuilder, node: Node, count: int, numbers: int) -> None:
    """Raise `NodeError` if the user has to choose what stands for comparisons in `count` rounds."""
    if count and builder.maxpool != "approximate":
        what = f"{node.operator} of {numbers} numbers"
        raise _undecided(node, what, f"{count} fitted activations, one after another")


def _undecided(node: Node, what: str, cost: str) -> NodeError:
    help = f"--maxpool approximate compares them in pairs: {cost}"
    if node.operator in POOLS:
        help += (
            "; --maxpool average takes their mean: a matrix that merges with its neighbours, but "
            "another network, so hec tells how many classes change"
        )
    return NodeError(f"{what} needs comparisons, and encrypted numbers have none", help)
