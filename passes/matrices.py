"""Sparse matrices of affine layers: what kind they are, what they cost, their products.

A layer may have 37 million non-zeros, so a product with a diagonal or a selection scales and
renames the stored entries instead of running a general sparse product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from hec.compiler.tensor_ir import Array, Linear


def diagonal_matrix(diagonal: Array) -> sp.csr_array:
    """Return the square matrix with this diagonal; zeros are not stored."""
    columns = np.flatnonzero(diagonal)
    starts = np.concatenate(([0], np.cumsum(diagonal != 0)))
    shape = (diagonal.size, diagonal.size)
    return sp.csr_array((diagonal[columns].astype(np.float64), columns, starts), shape=shape)


def diagonal_of(matrix: sp.csr_array) -> Array | None:
    """Return the diagonal of a square matrix that has nothing beside it, or None."""
    rows, columns = matrix.shape
    if rows != columns or not is_selection(matrix):
        return None
    if not np.array_equal(matrix.indices, np.flatnonzero(np.diff(matrix.indptr))):
        return None
    diagonal = np.zeros(rows)
    diagonal[matrix.indices] = matrix.data
    return diagonal


def uniform_factor(linear: Linear) -> float | None:
    """Return c if `linear` is c times its only operand, with c not 0; else None."""
    if len(linear.operands) != 1 or linear.bias.any():
        return None
    diagonal = diagonal_of(linear.matrices[0])
    if diagonal is None or not diagonal.size or not diagonal[0]:
        return None
    return float(diagonal[0]) if (diagonal == diagonal[0]).all() else None


def is_selection(matrix: sp.csr_array) -> bool:
    """Return whether every row takes at most one element: a scaling, permutation, copy, slice."""
    return int(np.diff(matrix.indptr).max(initial=0)) <= 1


def is_copy(matrix: sp.csr_array) -> bool:
    """Return whether every row takes exactly one element, as it is."""
    return bool((np.diff(matrix.indptr) == 1).all() and (matrix.data == 1.0).all())


def scaled(matrix: sp.csr_array, rows: Array | float, columns: Array | float) -> sp.csr_array:
    """Return diag(rows) @ matrix @ diag(columns); a number scales all rows or columns."""
    data = _times(matrix.data, columns, lambda factors: factors[matrix.indices])
    data = _times(data, rows, lambda factors: np.repeat(factors, np.diff(matrix.indptr)))
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _times(data: Array, factors: Array | float, of_entries: Callable[[Array], Array]) -> Array:
    if isinstance(factors, np.ndarray):
        return np.asarray(data * of_entries(factors), np.float64)
    return data if factors == 1.0 else data * factors


def product(outer: sp.csr_array, inner: sp.csr_array) -> sp.csr_array:
    """Return outer @ inner, without explicit zeros."""
    if (diagonal := diagonal_of(outer)) is not None:
        result = scaled(inner, diagonal, 1.0)
    elif (diagonal := diagonal_of(inner)) is not None:
        result = scaled(outer, 1.0, diagonal)
    elif is_selection(inner):
        result = _after_selection(outer, inner)
    else:
        result = outer @ inner
    return pruned(result)


def pruned(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix in canonical form, without explicit zeros."""
    if not matrix.data.all() or not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    return matrix


def _after_selection(outer: sp.csr_array, selection: sp.csr_array) -> sp.csr_array:
    filled = np.diff(selection.indptr) == 1
    column = np.zeros(selection.shape[0], selection.indices.dtype)
    factor = np.zeros(selection.shape[0])
    column[filled], factor[filled] = selection.indices, selection.data
    entries = (outer.data * factor[outer.indices], column[outer.indices], outer.indptr)
    return sp.csr_array(entries, shape=(outer.shape[0], selection.shape[1]))


def multiplications(outer: sp.csr_array, inner: sp.csr_array) -> int:
    """Return how many multiplications a general sparse product takes."""
    return int(np.diff(inner.indptr)[outer.indices].sum())


def diagonals(matrix: sp.csr_array) -> int:
    """Return how many generalized diagonals an encrypted product with `matrix` takes, about.

    A diagonal has at most one entry of a row and of a column, and layouts come close to one in
    each; never more than the shorter side, as a short matrix is wrapped around (algorithms.md, 1).
    """
    rows = int(np.diff(matrix.indptr).max(initial=0))
    columns = int(np.bincount(matrix.indices, minlength=1).max(initial=0))
    return min(max(rows, columns), *matrix.shape)
