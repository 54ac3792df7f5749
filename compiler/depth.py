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

FEW = 4  # activations: up to these, degree 3 may meet an error target; more take degree 7


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


def deepest_path(graph: TensorGraph, activation: int = 0) -> list[int]:
    """Return the positions of the operations on the path that takes the most levels.

    An activation counts for `activation` levels.
    """
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(range(len(graph.operations)))
    for position, operation in enumerate(graph.operations):
        own = activation if isinstance(operation, Activation) else levels(operation)
        for operand in operands(operation):
            flow.add_edge(operand, position, levels=own)
    return [int(position) for position in nx.dag_longest_path(flow, weight="levels")]


def activation_levels(graph: TensorGraph) -> int:
    """Return the levels that a fitted polynomial in place of an activation takes at least."""
    path = deepest_path(graph, polynomial_depth(3))
    count = sum(isinstance(graph.operations[position], Activation) for position in path)
    return polynomial_depth(3 if count <= FEW else 7)


def fewest_levels(graph: TensorGraph) -> int:
    """Return the levels that a leveled program takes at least."""
    each = activation_levels(graph)
    path = [graph.operations[position] for position in deepest_path(graph, each)]
    return sum(each if isinstance(x, Activation) else levels(x) for x in path)


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
