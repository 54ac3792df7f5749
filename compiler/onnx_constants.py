"""Nodes that no encrypted value reaches: constants become constants.

Most run in onnx's reference implementation. Some of it loops over elements in Python, or differs
between its versions; such an operator is computed as if its first input were encrypted, by the
exact meaning of what its converter makes, or by numpy's indexing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_fold import FOLDABLE, run_node
from hec.compiler.onnx_indexing import GATHERS, SCATTERS, gathered, scattered
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_unsupported import unsupported
from hec.compiler.onnx_values import Constant, Encrypted, GraphBuilder, Value, check_shape
from hec.compiler.tensor_ir import Input, TensorGraph

_BY_CONVERTER = """
AveragePool Col2Im Conv ConvTranspose Einsum GlobalAveragePool GlobalLpPool GridSample LpPool Resize
Upsample
"""
BY_CONVERTER = frozenset(_BY_CONVERTER.split())


Converter: TypeAlias = Callable[[GraphBuilder, Node], list[Value]]


def fold(node: Node, converter: Converter | None) -> list[Constant]:
    """Return the outputs of a node whose inputs are all constants.

    `converter` is what would convert the node if its first input were encrypted. Raise `NodeError`
    for an operator that is not deterministic, or not of ONNX, or that takes too much time or room.
    """
    if node.proto.domain not in ("", "ai.onnx"):
        raise unsupported(node.proto)
    if node.operator in GATHERS:
        return [gathered(node, _array(node, 0))]
    if node.operator in SCATTERS:
        return [scattered(node, _array(node, 0), _array(node, 2))]
    if node.operator in BY_CONVERTER and converter:
        return [_by_converter(node, converter)]
    if node.operator not in FOLDABLE:
        raise unsupported(node.proto)
    return run_node(node.proto, node.opset, [node.constant(k) for k in range(len(node.inputs))])


def _array(node: Node, index: int) -> Constant:
    node.required(index)
    value = node.constant(index)
    return np.zeros(()) if value is None else value


def _by_converter(node: Node, converter: Converter) -> Constant:
    data, dtype = node.weights(0), _array(node, 0).dtype
    builder = GraphBuilder()
    x = builder.add(Input("x", check_shape(data.shape)))
    (result,) = converter(builder, replace(node, inputs=(x, *node.inputs[1:])))
    if not isinstance(result, Encrypted):
        return data
    graph = TensorGraph(tuple(builder.operations), ())
    values = evaluate(graph, {"x": data.reshape(1, -1)})
    return values[result.position].reshape(result.shape).astype(dtype)
