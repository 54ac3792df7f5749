"""Operators that the client computes after decryption: Softmax, ArgMax, a last Sigmoid, Cast.

CKKS can compare nothing and divide by nothing, but at the end of a network nobody needs it to: the
client holds the result in the clear. So these are allowed where only graph outputs follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, helper

from hec.compiler.client_steps import Classes, Label
from hec.compiler.functions import Function
from hec.compiler.onnx_client import REARRANGING
from hec.compiler.onnx_movement import RESHAPES, check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import Encrypted, GraphBuilder, NodeError, Value, check_shape
from hec.compiler.tensor_ir import Activation, ClientStep, EpilogueStep

ONLY_FINAL = frozenset({"ArgMax"})
_MOVES = RESHAPES | REARRANGING | {"Cast", "Dropout", "Identity"}
_ALLOWED_AFTER = _MOVES | ONLY_FINAL | {"LogSoftmax", "Normalizer", "Sigmoid", "Softmax", "ZipMap"}
_SHAPES = frozenset({"Shape", "Size"})
_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})
_INTEGERS = frozenset({"bool", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64))})


def final_values(nodes: Sequence[NodeProto], inputs: Iterable[str]) -> Mapping[str, bool]:
    """Return for each value that is read whether it reaches only outputs that a client can finish.

    Values that no node reads are missing: they do too.
    """
    final: dict[str, bool] = {}
    for node, read in reversed(_read_by(nodes, inputs)):
        if node.op_type in _SHAPES:
            continue
        passes = bool(read) and all(final.get(output, True) for output in node.output)
        for name in node.input:
            final[name] = final.get(name, True) and passes and name in read
    return final


def _read_by(
    nodes: Sequence[NodeProto], inputs: Iterable[str]
) -> list[tuple[NodeProto, frozenset[str]]]:
    """Return for each node the values it reads, were they the client's; none: it is the server's.

    Concat may put together what one value gave by steps that only move and scale.
    """
    sources = {name: name for name in inputs}
    found = []
    for node in nodes:
        data = [name for name in node.input if name in sources]
        common = {sources[name] for name in data}
        one = len(data) == 1 and (node.op_type != "Div" or node.input[0] in data)
        allowed = one and node.op_type in _ALLOWED_AFTER
        allowed |= node.op_type == "Concat" and len(common) == 1
        found.append((node, frozenset(data) if allowed else frozenset()))
        moves = allowed and node.op_type in _MOVES
        if data and node.op_type not in _SHAPES:
            sources.update({name: common.copy().pop() if moves else name for name in node.output})
    return found


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
    to = node.integer("to", TensorProto.FLOAT)
    labels = [step.classes for step in x.epilogue if isinstance(step, Label)]
    if labels and (to == TensorProto.STRING or labels[0].texts):
        return [_cast_labels(x, to)]
    kind = "string" if to == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(to).name
    if kind not in _FLOATS | _INTEGERS:  # the client's numpy may know no others
        raise NodeError(f"Cast of an encrypted tensor to {kind} is not supported")
    if kind in _FLOATS and not x.epilogue:
        return [x]
    if not node.is_final:
        raise NodeError(
            f"Cast of an encrypted tensor to {kind} inside the network is not supported",
            "encrypted numbers are real; remove the Cast, or move it to the end",
        )
    kind = "float32" if kind == "bfloat16" else kind  # which numpy does not know
    return [builder.finish(x, x.shape, EpilogueStep("cast", dtype=kind))]


def _cast_labels(x: Encrypted, to: int) -> Encrypted:
    """Return class labels as texts."""
    if to != TensorProto.STRING:
        raise NodeError("Cast of texts to numbers is not supported", "keep the labels as texts")
    return replace(x, epilogue=tuple(_as_texts(step) for step in x.epilogue))


def _as_texts(step: ClientStep) -> ClientStep:
    return (
        Label(Classes(texts=tuple(map(str, step.classes.names))))
        if isinstance(step, Label)
        else step
    )


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
