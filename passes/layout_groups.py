"""Which tensors share a layout, and which inputs the client may arrange."""

from __future__ import annotations

import networkx as nx
import numpy as np
import scipy.sparse as sp

from hec.compiler.tensor_ir import Linear, TensorGraph, inputs, operands


def groups(graph: TensorGraph) -> list[int]:
    """Return, for every operation, the first operation that must share its layout."""
    ties: nx.Graph[int] = nx.Graph()
    ties.add_nodes_from(range(len(graph.operations)))
    for position, operation in enumerate(graph.operations):
        if not isinstance(operation, Linear):
            ties.add_edges_from((position, operand) for operand in operands(operation))
    first = [0] * len(graph.operations)
    for members in nx.connected_components(ties):
        for member in members:
            first[member] = min(members)
    return first


def free_inputs(graph: TensorGraph) -> frozenset[int]:
    """Return the inputs that the client may arrange as it likes.

    Only matrices read them, and the first of these all that the others read, for what it does not
    read the arrangement leaves out.
    """
    readers: dict[int, list[sp.csr_array]] = {position: [] for position, _ in inputs(graph)}
    held = {output.operand for output in graph.outputs}
    for operation in graph.operations:
        if isinstance(operation, Linear):
            for operand, matrix in zip(operation.operands, operation.matrices, strict=True):
                readers.setdefault(operand, []).append(matrix)
        else:
            held.update(operands(operation))
    return frozenset(
        position
        for position, _ in inputs(graph)
        if position not in held and readers[position] and _first_reads_all(readers[position])
    )


def _first_reads_all(matrices: list[sp.csr_array]) -> bool:
    first = matrices[0].indices
    return bool(first.size) and all(
        bool(np.isin(matrix.indices, first).all()) for matrix in matrices[1:]
    )
