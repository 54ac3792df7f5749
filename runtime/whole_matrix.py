"""A matrix of diagonals as one sparse matrix: what the cleartext backends multiply by."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import scipy.sparse as sp

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
    slots, copies = matrix.slots, matrix.slots // matrix.period
    row = np.repeat(np.arange(len(matrix.index), dtype=np.int32), np.diff(matrix.values.indptr))
    out_block, in_block, shift = matrix.index.T[:, row]
    turns = np.arange(copies, dtype=np.int32)[:, None] * np.int32(matrix.period)
    slot = matrix.values.indices.astype(np.int32) + turns
    rows = (out_block * np.int32(slots) + slot).reshape(-1)
    turned = (slot + shift) & np.int32(slots - 1)  # slots are a power of two
    columns = (in_block * np.int32(slots) + turned).reshape(-1)
    values = np.tile(matrix.values.data.astype(np.float64), copies)
    shape = (matrix.out_blocks * slots, matrix.in_blocks * slots)
    return sp.csr_array((values, (rows, columns)), shape=shape)
