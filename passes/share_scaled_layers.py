"""Share scaled layers: a layer that is read scaled and unscaled is computed once, scaled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Array, Linear, TensorGraph, TensorOperation
from hec.passes.eliminate_dead_code import eliminate_dead_code
from hec.passes.matrices import diagonal_of, is_selection, scaled
from hec.passes.rewriting import consumers, merged, with_operands

LARGEST_RATIO = 1e6  # of scales within one layer: beyond it, undoing them loses precision


def share_scaled_layers(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Let a `Linear` compute what its elementwise reader wants; other readers undo it.

    With z = A x, t = D z + d, and y = W z + ..., z becomes D A x + d, which is t, and y reads it
    through W D^-1. Pays in residual networks, where the sum feeds an activation (scaled to its
    interval) and the next sum: otherwise `fuse_linear` computes A twice, or t takes a level.

    Source: none; the alternative is Orion's explicit scale-down level. Cost: linear in non-zeros.
    """
    operations = list(graph.operations)
    for position in range(len(operations)):
        while (reader := _scaled_reader(position, operations, graph)) is not None:
            _share(position, reader, operations)
    return eliminate_dead_code(replace(graph, operations=tuple(operations)), target, calibration)


def _scaled_reader(
    position: int, operations: list[TensorOperation], graph: TensorGraph
) -> int | None:
    """Return the elementwise reader that `position` should be rescaled for, if there is one."""
    inner = operations[position]
    if not isinstance(inner, Linear):
        return None
    if len(inner.matrices) == 1 and is_selection(inner.matrices[0]):
        return None
    readers = consumers(replace(graph, operations=tuple(operations)))[position]
    read_outside = {output.operand for output in graph.outputs}
    if len(readers) < 2 or position in read_outside:
        return None
    if not all(isinstance(operations[reader], Linear) for reader in readers):
        return None
    for reader in readers:
        if reader not in read_outside and _invertible(operations[reader]) is not None:
            return reader
    return None


def _invertible(operation: TensorOperation) -> Array | None:
    """Return the diagonal of an elementwise reader that can be undone, else None."""
    if not isinstance(operation, Linear) or len(operation.operands) != 1:
        return None
    diagonal = diagonal_of(operation.matrices[0])
    if diagonal is None or not diagonal.all():
        return None
    size = np.abs(diagonal)
    return diagonal if size.max(initial=0.0) <= LARGEST_RATIO * size.min(initial=np.inf) else None


def _share(position: int, reader: int, operations: list[TensorOperation]) -> None:
    inner, elementwise = operations[position], operations[reader]
    diagonal = _invertible(elementwise)
    assert isinstance(inner, Linear) and isinstance(elementwise, Linear)  # _scaled_reader's rule
    assert diagonal is not None  # the same
    operations[position] = replace(
        inner,
        matrices=tuple(scaled(matrix, diagonal, 1.0) for matrix in inner.matrices),
        bias=diagonal * inner.bias + elementwise.bias,
        origin=merged(inner.origin, elementwise.origin),
    )
    for later in range(position + 1, len(operations)):
        operation = operations[later]
        if isinstance(operation, Linear) and later != reader:
            operation = _undone(operation, position, diagonal, elementwise.bias)
        operations[later] = with_operands(operation, lambda i: position if i == reader else i)


def _undone(linear: Linear, position: int, diagonal: Array, shift: Array) -> Linear:
    """Read `position`, now diagonal * z + shift, as if it still were z."""
    bias, matrices = linear.bias, list(linear.matrices)
    for index, operand in enumerate(linear.operands):
        if operand == position:
            matrices[index] = scaled(matrices[index], 1.0, 1.0 / diagonal)
            bias = bias - matrices[index] @ shift
    return replace(linear, matrices=tuple(matrices), bias=bias)
