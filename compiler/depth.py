"""How many levels each layer takes, along the deepest path through a TensorGraph."""

from __future__ import annotations

from math import ceil, log2

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


def deepest_path(graph: TensorGraph) -> list[int]:
    """Return the positions of the operations on the path that takes the most levels."""
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(range(len(graph.operations)))
    for position, operation in enumerate(graph.operations):
        for operand in operands(operation):
            flow.add_edge(operand, position, levels=levels(operation))
    return [int(position) for position in nx.dag_longest_path(flow, weight="levels")]


def activation_levels(graph: TensorGraph) -> int:
    """Return the levels of a fitted polynomial in place of an activation: degree 3, or 7 of many.

    The lowest degrees that error targets were seen to allow.
    """
    _, activations = _deepest(graph, polynomial_depth(3))
    return polynomial_depth(3 if activations <= FEW else 7)


def fewest_levels(graph: TensorGraph) -> int:
    """Return the levels that a leveled program takes at least.

    Activations count for `activation_levels`, polynomials for what their degree demands.
    """
    return _deepest(graph, activation_levels(graph))[0]


def _deepest(graph: TensorGraph, activation: int) -> tuple[int, int]:
    """Return the most levels on a path, and the activations on it, which take so many each."""
    deepest: list[tuple[int, int]] = []
    for operation in graph.operations:
        before = max((deepest[i] for i in operands(operation)), default=(0, 0))
        is_fitted = isinstance(operation, Activation)
        own = activation if is_fitted else _least_levels(operation)
        deepest.append((before[0] + own, before[1] + is_fitted))
    return max(deepest, default=(0, 0))


def _least_levels(operation: TensorOperation) -> int:
    """Return `levels`, but of a polynomial no more than the powers that its degree demands.

    A completed square takes one level.
    """
    if isinstance(operation, Polynomial):
        return ceil(log2(max(len(operation.coefficients) - 1, 2)))
    return levels(operation)


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
