"""How many levels each layer takes, along the deepest path through a TensorGraph."""

from __future__ import annotations

import networkx as nx
from typing_extensions import assert_never

from hec.compiler.lower import label
from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    operands,
)
from hec.compiler.typing_rules import polynomial_depth


def levels(operation: TensorOperation) -> int:
    """Return the levels that one operation takes when every product is rescaled.

    A bootstrap takes none: it gives them back.
    """
    match operation:
        case Input() | Activation() | Bootstrap():
            return 0
        case Linear() | Multiply():
            return 1
        case Polynomial():
            return polynomial_depth(len(operation.coefficients) - 1)
        case _:
            assert_never(operation)


def deepest_path(graph: TensorGraph) -> list[int]:
    """Return the positions of the operations on the path that takes the most levels."""
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(range(len(graph.operations)))
    for position, operation in enumerate(graph.operations):
        for operand in operands(operation):
            flow.add_edge(operand, position, levels=levels(operation))
    return [int(position) for position in nx.dag_longest_path(flow, weight="levels")]


def depth_by_layer(graph: TensorGraph) -> dict[str, int]:
    """Return the levels of each layer on the deepest path, keyed by its ONNX nodes."""
    found: dict[str, int] = {}
    for position in deepest_path(graph):
        operation = graph.operations[position]
        if isinstance(operation, Input | Activation | Bootstrap):
            continue
        name = label(operation) or f"operation {position}"
        found[name] = found.get(name, 0) + levels(operation)
    return found
