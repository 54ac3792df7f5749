"""Fuse linear layers: affine after affine is one sparse matrix, and one level."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
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

GROWTH = 4.0  # a fused matrix may have this many times the non-zeros of the two it replaces
SPREAD = 1.5  # likewise, of a layer and all its readers, when it is composed into each
COPIES = 6.0  # likewise, where one of the two is a selection
LIGHT = 2**15  # non-zeros of a matrix that is cheap however many times its rows are copied
LARGEST_PRODUCT = 500_000_000  # multiplications spent on finding out: a second or two


def fuse_linear(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Compose `Linear` after `Linear` wherever that is not dearer than the level it saves.

    Selections, scalings, and reshapes disappear in their neighbours, except a selection that copies
    the rows of a large matrix many times, as before a product of two matrices: copies of single
    elements are few diagonals, copies of dense rows many. Two dense layers are composed unless the
    result has both more non-zeros (`GROWTH`) and more diagonals than they have: 784 -> 10 -> 784
    stays. A layer that others read as well is composed into each reader only if it can disappear,
    or to spare a product one level (the layer is then computed twice), and only if all its readers
    together do not grow by more than `SPREAD`: the sums along a transformer stay.

    Source: algorithms.md, 8 (FHEFusion). Cost: one sparse product for each pair.
    """
    fusion = _Fusion(graph, list(graph.operations))
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Linear):
            layer: Linear | None = _tidied(operation)
            while layer is not None:
                fusion.operations[position] = layer
                layer = fusion.fused(position, layer)
    fused = replace(graph, operations=tuple(fusion.operations))
    return eliminate_dead_code(fused, target, calibration)


@dataclass
class _Fusion:
    graph: TensorGraph
    operations: list[TensorOperation]
    products: dict[tuple[int, int], _Product] = field(default_factory=dict)  # by ids

    def fused(self, position: int, outer: Linear) -> Linear | None:
        """Return the layer at `position` with one operand composed into it, or None."""
        for index, operand in enumerate(outer.operands):
            inner = self.operations[operand]
            if isinstance(inner, Linear) and self._may_fuse(outer, index, inner):
                found = [self._affordable(outer.matrices[index], m) for m in inner.matrices]
                matrices = [matrix for matrix in found if matrix is not None]
                if len(matrices) == len(found):
                    return _inlined(outer, index, inner, matrices)
        return None

    def _may_fuse(self, outer: Linear, index: int, inner: Linear) -> bool:
        position = outer.operands[index]
        current = replace(self.graph, operations=tuple(self.operations))
        readers = [self.operations[reader] for reader in consumers(current)[position]]
        read_outside = any(output.operand == position for output in self.graph.outputs)
        if len(readers) == 1 and not read_outside:
            return True
        if len(inner.matrices) == 1 and is_selection(inner.matrices[0]):
            return True
        if uniform_factor(outer) is not None:
            return False  # fold_scales makes one of the two disappear
        layers = [reader for reader in readers if isinstance(reader, Linear)]
        alone = not read_outside and len(layers) == len(readers)
        if len(outer.operands) == 1 and diagonal_of(outer.matrices[0]) is not None:
            return not alone  # else share_scaled_layers makes it disappear
        return alone and self._disappears(position, inner, layers)

    def _disappears(self, position: int, inner: Linear, readers: list[Linear]) -> bool:
        """Return whether composing `inner` into all `readers` grows them little altogether."""
        before, after = sum(m.nnz for m in inner.matrices), 0.0
        for reader in readers:
            matrix = reader.matrices[reader.operands.index(position)]
            before += matrix.nnz
            for each in inner.matrices:
                both = self._product(matrix, each)
                after += np.inf if both is None else both.nnz
        return after <= SPREAD * before

    def _affordable(self, outer: sp.csr_array, inner: sp.csr_array) -> sp.csr_array | None:
        """Return outer @ inner, or None if it would be dearer than the two with a level between."""
        both = self._product(outer, inner)
        if both is None or is_light(outer, inner):
            return both
        if both.nnz <= GROWTH * (outer.nnz + inner.nnz):
            return both
        return both if diagonals(both) <= diagonals(outer) + diagonals(inner) else None

    def _product(self, outer: sp.csr_array, inner: sp.csr_array) -> sp.csr_array | None:
        """Return outer @ inner, or None if that takes too long."""
        key = id(outer), id(inner)
        if key not in self.products:
            few = _is_quick(outer, inner)
            self.products[key] = _Product(outer, inner, product(outer, inner) if few else None)
        return self.products[key].both


@dataclass(frozen=True, eq=False)
class _Product:
    """A product, and its factors, so that their ids stay theirs."""

    outer: sp.csr_array
    inner: sp.csr_array
    both: sp.csr_array | None


def _is_quick(outer: sp.csr_array, inner: sp.csr_array) -> bool:
    most = outer.nnz * int(np.diff(inner.indptr).max(initial=0))
    return most <= LARGEST_PRODUCT or multiplications(outer, inner) <= LARGEST_PRODUCT


def is_light(outer: sp.csr_array, inner: sp.csr_array) -> bool:
    """Return whether one of the two is a selection, which may copy, but not much in vain."""
    if is_selection(inner):
        return True  # nothing is copied
    if not is_selection(outer):
        return False
    return multiplications(outer, inner) <= max(COPIES * (outer.nnz + inner.nnz), LIGHT)


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
