"""A matrix of diagonals as one sparse matrix: what the cleartext backends multiply by."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix


@dataclass(frozen=True, eq=False)
class WholeMatrix:
    """All copies of a matrix, (out_blocks * slots, in_blocks * slots)."""

    rows: sp.csr_array


_IN_USE: WeakValueDictionary[DiagonalMatrix, WholeMatrix] = WeakValueDictionary()


def whole_matrix(matrix: DiagonalMatrix) -> WholeMatrix:
    """Return the matrix that the diagonals stand for; made once as long as anybody keeps it.

    It has the terms of all copies, tens of millions where a layer is large: seconds, gigabytes.
    """
    known = _IN_USE.get(matrix)
    if known is None:
        known = _IN_USE[matrix] = WholeMatrix(_rows(matrix))
    return known


def _rows(matrix: DiagonalMatrix) -> sp.csr_array:
    parts = [_block(matrix, block) for block in range(matrix.out_blocks)]
    data, columns, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
    starts = np.concatenate([[0], np.cumsum(counts)])
    shape = (matrix.out_blocks * matrix.slots, matrix.in_blocks * matrix.slots)
    return sp.csr_array((data.astype(np.float64), columns, starts), shape=shape)


def _block(
    matrix: DiagonalMatrix, block: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Return terms and columns of an output block, slot by slot, and how many each slot has."""
    chosen = np.flatnonzero(matrix.index[:, 0] == block)
    by_slot, slots = matrix.values[chosen].tocsc(), np.int32(matrix.slots)
    counts = np.diff(by_slot.indptr)
    slot = np.repeat(np.arange(matrix.period, dtype=np.int32), counts)
    _, source, shift = matrix.index[chosen].T
    copies = np.arange(0, matrix.slots, matrix.period, dtype=np.int32)[:, None]
    turned = (slot + shift[by_slot.indices] + copies) & (slots - 1)  # slots are a power of two
    columns = (source * slots)[by_slot.indices] + turned
    data = np.tile(by_slot.data, len(copies))
    return data, columns.reshape(-1), np.tile(counts, len(copies))
