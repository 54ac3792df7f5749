"""Fuse linear layers: affine after affine is one sparse matrix, and one level."""

from __future__ import annotations

from dataclasses import replace

import scipy.sparse as sp

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Linear, TensorGraph, TensorOperation
from hec.passes.eliminate_dead_code import eliminate_dead_code
from hec.passes.matrices import (
    diagonal_of,
    diagonals,
    is_selection,
    multiplications,
    product,
    pruned,
    uniform_factor,
)
from hec.passes.rewriting import consumers, merged

GROWTH = 2.0  # a fused matrix may have this many times the non-zeros of the two it replaces
LARGEST_PRODUCT = 500_000_000  # multiplications spent on finding out: a second or two


def fuse_linear(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Compose `Linear` after `Linear` wherever that is not dearer than the level it saves.

    Selections, scalings, and reshapes disappear in their neighbours. Two dense layers are
    composed unless the result has both more non-zeros (`GROWTH`) and more diagonals than they
    have: 784 -> 10 -> 784 stays. A layer that others read as well is composed into each reader
    only if it can disappear, or to spare a product one level (the layer is then computed twice).

    Source: algorithms.md, 8 (FHEFusion). Cost: one sparse product for each pair.
    """
    operations = list(graph.operations)
    for position, operation in enumerate(operations):
        if isinstance(operation, Linear):
            operations[position] = _tidied(operation)
            while (fused := _fused_once(position, operations, graph)) is not None:
                operations[position] = fused
    return eliminate_dead_code(replace(graph, operations=tuple(operations)), target, calibration)


def _fused_once(
    position: int, operations: list[TensorOperation], graph: TensorGraph
) -> Linear | None:
    """Return the layer at `position` with one operand composed into it, or None."""
    outer = operations[position]
    assert isinstance(outer, Linear)  # the caller's loop keeps it one
    for index, operand in enumerate(outer.operands):
        inner = operations[operand]
        if isinstance(inner, Linear) and _may_fuse(position, index, operations, graph):
            matrices = [_affordable(outer.matrices[index], matrix) for matrix in inner.matrices]
            if all(matrix is not None for matrix in matrices):
                known = [matrix for matrix in matrices if matrix is not None]
                return _inlined(outer, index, inner, known)
    return None


def _may_fuse(
    position: int, index: int, operations: list[TensorOperation], graph: TensorGraph
) -> bool:
    outer = operations[position]
    assert isinstance(outer, Linear)  # as above
    inner = operations[outer.operands[index]]
    assert isinstance(inner, Linear)  # as above
    current = replace(graph, operations=tuple(operations))
    readers = consumers(current)[outer.operands[index]]
    read_outside = any(output.operand == outer.operands[index] for output in graph.outputs)
    if len(readers) == 1 and not read_outside:
        return True
    if all(is_selection(matrix) for matrix in inner.matrices):
        return True
    if uniform_factor(outer) is not None:
        return False  # fold_scales makes one of the two disappear
    if len(outer.operands) == 1 and diagonal_of(outer.matrices[0]) is not None:
        return True
    return not read_outside and all(isinstance(operations[i], Linear) for i in readers)


def _affordable(outer: sp.csr_array, inner: sp.csr_array) -> sp.csr_array | None:
    """Return outer @ inner, or None if it would be dearer than the two with a level between."""
    if is_selection(outer) or is_selection(inner):
        return product(outer, inner)
    if multiplications(outer, inner) > LARGEST_PRODUCT:
        return None
    both = product(outer, inner)
    if both.nnz <= GROWTH * (outer.nnz + inner.nnz):
        return both
    return both if diagonals(both) <= diagonals(outer) + diagonals(inner) else None


def _inlined(outer: Linear, index: int, inner: Linear, matrices: list[sp.csr_array]) -> Linear:
    return _tidied(
        Linear(
            (*outer.operands[:index], *inner.operands, *outer.operands[index + 1 :]),
            (*outer.matrices[:index], *matrices, *outer.matrices[index + 1 :]),
            outer.bias + outer.matrices[index] @ inner.bias,
            outer.shape,
            merged(inner.origin, outer.origin),
        )
    )


def _tidied(linear: Linear) -> Linear:
    """Add up the matrices of an operand that occurs twice; drop operands with none left."""
    sums: dict[int, sp.csr_array] = {}
    for operand, matrix in zip(linear.operands, linear.matrices, strict=True):
        sums[operand] = pruned(sums[operand] + matrix if operand in sums else matrix)
    used = [operand for operand in sums if sums[operand].nnz] or list(sums)[:1]
    matrices = tuple(sums[operand] for operand in used)
    return replace(linear, operands=tuple(used), matrices=matrices)
