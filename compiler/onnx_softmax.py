"""Softmax and LogSoftmax: the client's where they are last, else exp, a sum, and its reciprocal.

Softmax does not change when all its inputs move by the same amount. So their mean is subtracted,
which is linear, in place of the largest, which encrypted numbers cannot tell: exp then meets the
narrowest inputs that a linear layer can give it. `narrow_softmax` does more where it has to.
"""

from __future__ import annotations

from hec.compiler import onnx_epilogue
from hec.compiler.functions import Function
from hec.compiler.onnx_movement import check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_statistics import Axes, applied, centred, minus, summed, times
from hec.compiler.onnx_values import GraphBuilder, Value


def convert_softmax(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Softmax or LogSoftmax inside a network into activations around a sum."""
    if node.is_final:
        return onnx_epilogue.convert_softmax(builder, node)
    x, origin = node.encrypted(0), node.origin
    axes = _axes(node, len(x.shape))
    level = centred(builder, x, axes, origin)
    powers = applied(builder, Function("exp"), level, origin)
    total = summed(builder, powers, axes, origin)
    if node.operator == "LogSoftmax":
        return [minus(builder, level, applied(builder, Function("log"), total, origin), origin)]
    share = applied(builder, Function("reciprocal"), total, origin)
    return [times(builder, powers, share, origin)]


def _axes(node: Node, rank: int) -> Axes:
    """Return the axes that the shares add up over: all from the first before opset 13."""
    axis = check_axis(node.integer("axis", 1 if node.opset < 13 else -1), rank)
    return (axis,) if node.opset >= 13 else tuple(range(axis, rank))
