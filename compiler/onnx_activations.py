"""Operators that are a function of each element: which function, with which parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from hec.compiler.functions import SELU_ALPHA, SELU_GAMMA, Function
from hec.compiler.onnx_elementwise import apply
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_products import broadcast_matrix
from hec.compiler.onnx_values import GraphBuilder, NodeError, Value, check_shape


def convert_activation(builder: GraphBuilder, node: Node) -> list[Value]:
    """Apply the function of `FUNCTIONS` to every element."""
    return [apply(builder, node, node.encrypted(0), FUNCTIONS[node.operator](node))]


def convert_prelu(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn PRelu into LeakyRelu; several slopes s into s x + (1 - s) relu(x)."""
    x, slopes = node.encrypted(0), node.weights(1)
    if slopes.size == 1:
        return [apply(builder, node, x, Function("leaky_relu", (float(slopes.item()),)))]
    try:
        shape = check_shape(np.broadcast_shapes(x.shape, slopes.shape))
    except ValueError:
        shape = ()
    if shape != x.shape:
        raise NodeError(f"PRelu of shape {x.shape}: slopes {slopes.shape} do not broadcast to it")
    relu = apply(builder, node, x, Function("relu"))
    terms = [
        (x.position, broadcast_matrix(x.shape, shape, slopes)),
        (relu.position, broadcast_matrix(x.shape, shape, 1.0 - slopes)),
    ]
    return [builder.linear(terms, 0.0, shape, node.origin)]


def _elu(node: Node) -> Function:
    return Function("elu", (node.real("alpha", 1.0),))


def _celu(node: Node) -> Function:
    alpha = node.real("alpha", 1.0)
    if not alpha:
        raise NodeError("Celu with alpha 0 divides by it", "use Relu")
    return Function("celu", (alpha,))


def _selu(node: Node) -> Function:
    alpha, gamma = node.real("alpha", SELU_ALPHA), node.real("gamma", SELU_GAMMA)
    return Function("selu", (alpha, gamma))


def _gelu(node: Node) -> Function:
    form = node.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise NodeError(f"Gelu with approximate '{form}' is not supported", "use 'none' or 'tanh'")
    return Function("gelu" if form == "none" else "gelu_tanh")


def _swish(node: Node) -> Function:
    alpha = node.real("alpha", 1.0)
    return Function("silu") if alpha == 1.0 else Function("silu", (alpha,))


def _hard_sigmoid(node: Node) -> Function:
    return Function("hard_sigmoid", (node.real("alpha", 0.2), node.real("beta", 0.5)))


def _plain(function: Function, node: Node) -> Function:
    return function


def _shrink(node: Node) -> Function:
    threshold = node.real("lambd", 0.5)
    if threshold < 0:
        raise NodeError(f"Shrink with lambd {threshold:g} is not supported", "use 0 or more")
    return Function("shrink", (node.real("bias", 0.0), threshold))


_PLAIN = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Cos Cosh Erf Exp Log Mish Reciprocal Relu Sign Sin Sinh "
    "Softplus Softsign Sqrt Tan Tanh"
)  # without attributes

FUNCTIONS: Final[dict[str, Callable[[Node], Function]]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node: Function("hard_swish"),
    "LeakyRelu": lambda node: Function("leaky_relu", (node.real("alpha", 0.01),)),
    "Selu": _selu,
    "Shrink": _shrink,
    "Swish": _swish,
    **{name: partial(_plain, Function(name.lower())) for name in _PLAIN.split()},
    "ThresholdedRelu": lambda node: Function("thresholded_relu", (node.real("alpha", 1.0),)),
}
