"""Operators that the client computes after decryption: Softmax, ArgMax, a last Sigmoid, Cast.

CKKS can compare nothing and divide by nothing, but at the end of a network nobody needs it to: the
client holds the result in the clear. So these are allowed where only graph outputs follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from onnx import NodeProto, helper

from hec.compiler.functions import Function
from hec.compiler.onnx_movement import RESHAPES, check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import Encrypted, GraphBuilder, NodeError, Value, check_shape
from hec.compiler.tensor_ir import Activation, EpilogueStep

ONLY_FINAL = frozenset({"ArgMax"})
_ALLOWED_AFTER = (
    RESHAPES | ONLY_FINAL | {"Cast", "Dropout", "Identity", "LogSoftmax", "Sigmoid", "Softmax"}
)
_SHAPES = frozenset({"Shape", "Size"})
_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})


def final_values(nodes: Iterable[NodeProto]) -> Mapping[str, bool]:
    """Return for each value that is read whether it reaches only outputs that a client can finish.

    Values that no node reads are missing: they do too.
    """
    final: dict[str, bool] = {}
    for node in reversed(list(nodes)):
        if node.op_type in _SHAPES:
            continue
        passes = node.op_type in _ALLOWED_AFTER and all(final.get(o, True) for o in node.output)
        for index, name in enumerate(node.input):
            final[name] = final.get(name, True) and passes and index == 0
    return final


def convert_softmax(builder: GraphBuilder, node: Node) -> list[Value]:
    """Leave a last Softmax or LogSoftmax to the client."""
    x = node.encrypted(0)
    rank = len(x.shape)
    axis = check_axis(node.integer("axis", 1 if node.opset < 13 else -1), rank)
    name = "softmax" if node.operator == "Softmax" else "log_softmax"
    if node.opset >= 13 or prod(x.shape[axis + 1 :]) == 1:
        return [builder.finish(x, x.shape, _softmax(name, axis - rank))]
    # Before opset 13 the axes from `axis` on count as one.
    flat = EpilogueStep("reshape", shape=(prod(x.shape[:axis]), prod(x.shape[axis:])))
    back = EpilogueStep("reshape", shape=x.shape)
    return [builder.finish(x, x.shape, flat, _softmax(name, -1), back)]


def _softmax(name: str, axis: int) -> EpilogueStep:
    return EpilogueStep("softmax" if name == "softmax" else "log_softmax", axis=axis)


def convert_argmax(builder: GraphBuilder, node: Node) -> list[Value]:
    """Leave ArgMax to the client."""
    x = _final_operand(node)
    if node.integer("select_last_index", 0):
        raise NodeError("ArgMax with select_last_index is not supported")
    axis = check_axis(node.integer("axis", 0), len(x.shape))
    keep = bool(node.integer("keepdims", 1))
    shape = x.shape[:axis] + ((1,) if keep else ()) + x.shape[axis + 1 :]
    step = EpilogueStep("argmax", axis=axis - len(x.shape), keep_axis=keep)
    return [builder.finish(x, check_shape(shape), step)]


def convert_sigmoid(builder: GraphBuilder, node: Node) -> list[Value]:
    """Leave a last Sigmoid to the client; inside the network it is an activation."""
    x = node.encrypted(0)
    if node.is_final:
        return [builder.finish(x, x.shape, EpilogueStep("sigmoid"))]
    return [builder.add(Activation(x.position, Function("sigmoid"), x.shape, node.origin))]


def convert_cast(builder: GraphBuilder, node: Node) -> list[Value]:
    """Ignore Cast between floats; leave any other to the client."""
    x = node.encrypted(0)
    dtype = helper.tensor_dtype_to_np_dtype(node.integer("to", 1))
    kind = dtype.name
    if dtype.kind not in "biuf" and kind not in _FLOATS:
        raise NodeError(f"Cast of an encrypted tensor to {kind} is not supported")
    if kind in _FLOATS and not x.epilogue:
        return [x]
    if not node.is_final:
        raise NodeError(
            f"Cast of an encrypted tensor to {kind} inside the network is not supported",
            "encrypted numbers are real; remove the Cast, or move it to the end",
        )
    return [builder.finish(x, x.shape, EpilogueStep("cast", dtype=kind))]


def convert_identity(builder: GraphBuilder, node: Node) -> list[Value]:
    """Pass the input through: Identity, and Dropout in inference."""
    x = node.encrypted(0)
    if node.operator == "Identity":
        return [x]
    training = node.constant(2)
    if training is not None and training.any():
        raise NodeError(
            "Dropout in training mode is not supported",
            "export the network in inference mode, model.eval() in PyTorch",
        )
    return [x, np.ones(x.shape, np.bool_)]


def _final_operand(node: Node) -> Encrypted:
    require_final(node)
    return node.encrypted(0)


def require_final(node: Node) -> None:
    """Raise `NodeError` unless the node's result goes only to the client."""
    if not node.is_final:
        raise NodeError(
            f"{node.operator} inside the network is not supported",
            "keep it as the last operator, where the client computes it after decryption",
        )
