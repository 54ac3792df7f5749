"""Fold into polynomials: what scales or shifts a polynomial's values goes into its coefficients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Linear, Polynomial, TensorGraph, TensorOperation
from hec.passes.eliminate_dead_code import eliminate_dead_code
from hec.passes.matrices import diagonal_of
from hec.passes.rewriting import consumers


def fold_into_polynomials(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace an elementwise `Linear` that alone reads a `Polynomial` by a changed polynomial.

    Pays one level where no linear layer follows to take the scaling: at an output, before a
    product, or before another activation. Factors that differ between elements give coefficients
    per element. Cost: linear in operations.
    """
    operations = list(graph.operations)
    for position, operation in enumerate(operations):
        if isinstance(operation, Linear):
            current = replace(graph, operations=tuple(operations))
            folded = _folded(operation, current)
            if folded is not None and not _read_by_linear(position, current):
                operations[position] = folded
    return eliminate_dead_code(replace(graph, operations=tuple(operations)), target, calibration)


def _read_by_linear(position: int, graph: TensorGraph) -> bool:
    """Return whether all readers are linear, so that `fuse_linear` removes the scaling anyway."""
    if any(output.operand == position for output in graph.outputs):
        return False
    readers: list[TensorOperation] = [graph.operations[i] for i in consumers(graph)[position]]
    return all(isinstance(reader, Linear) for reader in readers)


def _folded(linear: Linear, graph: TensorGraph) -> Polynomial | None:
    if len(linear.operands) != 1:
        return None
    source, diagonal = graph.operations[linear.operands[0]], diagonal_of(linear.matrices[0])
    if not isinstance(source, Polynomial) or diagonal is None:
        return None
    alone = len(consumers(graph)[linear.operands[0]]) == 1
    if not alone or any(output.operand == linear.operands[0] for output in graph.outputs):
        return None
    rows = source.coefficients
    rows = np.repeat(rows[:, None], diagonal.size, axis=1) if rows.ndim == 1 else rows
    rows = rows * diagonal
    rows[0] += linear.bias
    if (rows == rows[:, :1]).all():
        rows = rows[:, 0]
    return replace(source, coefficients=rows, shape=linear.shape)
