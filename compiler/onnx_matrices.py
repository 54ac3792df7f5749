"""Sparse matrices from arrays of element numbers.

Whatever an operator does to positions is an integer array that tells, for each output element,
which input elements it reads (-1: none). Numpy computes that array; the matrix follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.onnx_values import check_nonzeros
from hec.compiler.tensor_ir import Array, Shape

Indices = NDArray[np.integer]


def element_numbers(shape: Shape) -> Indices:
    """Return the row-major numbers of a tensor's elements, in its shape."""
    return np.arange(prod(shape), dtype=np.int32).reshape(shape)


def lines_along(shape: Shape, axes: Sequence[int]) -> Indices:
    """Return (lines, elements of each): the numbers of the elements that differ in `axes` only."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    count = prod(shape[axis] for axis in axes)
    lines: Indices = element_numbers(shape).transpose(*kept, *axes).reshape(-1, count)
    return lines


def gather(columns: Indices, weights: Array | float, width: int) -> sp.csr_array:
    """Return the matrix whose row r adds weights[r, k] * x[columns[r, k]] for every k.

    `columns` is (rows, taps), increasing along a row where not -1; `weights` broadcasts to it.
    """
    rows, taps = columns.shape
    check_nonzeros(rows * taps)
    data = np.broadcast_to(np.asarray(weights, np.float64), columns.shape)
    kept = (columns >= 0) & (data != 0.0)
    indptr = np.zeros(rows + 1, np.int32)
    np.cumsum(kept.sum(axis=1), out=indptr[1:])
    return compressed(data[kept], columns[kept].astype(np.int32, copy=False), indptr, width)


def select(columns: Indices, width: int, weights: Array | float = 1.0) -> sp.csr_array:
    """Return the matrix with `weights` at one column per row, none where that is -1."""
    return gather(columns.reshape(-1, 1), np.reshape(weights, (-1, 1)), width)


def compressed(data: Array, columns: Indices, indptr: Indices, width: int) -> sp.csr_array:
    """Return a matrix from the three arrays, whose rows are already in order; drop zeros."""
    matrix = sp.csr_array((data, columns, indptr), shape=(indptr.size - 1, width))
    matrix.has_canonical_format = True
    if not data.all():
        matrix.eliminate_zeros()
    return matrix


def repeat_diagonally(block: sp.csr_array, count: int) -> sp.csr_array:
    """Return the matrix with `count` copies of `block` along its diagonal."""
    if count == 1:
        return block
    check_nonzeros(block.nnz * count)
    columns = block.shape[1]
    shifts = np.arange(count, dtype=np.int32)[:, None]
    indices = (block.indices[None] + shifts * np.int32(columns)).reshape(-1)
    starts = (block.indptr[None, :-1] + shifts * np.int32(block.nnz)).reshape(-1)
    indptr = np.append(starts, np.int32(block.nnz * count))
    return compressed(np.tile(block.data, count), indices, indptr, columns * count)


def kronecker(left: sp.csr_array, right: sp.csr_array) -> sp.csr_array:
    """Return the matrix that applies `left` along a slower axis and `right` along a faster one."""
    check_nonzeros(left.nnz * right.nnz)
    product = sp.csr_array(sp.kron(left, right, format="csr"))
    product.sum_duplicates()  # which sorts the rows: there are none
    indices, indptr = (numbers.astype(np.int32) for numbers in (product.indices, product.indptr))
    return compressed(product.data, indices, indptr, product.shape[1])


def along_axis(block: sp.csr_array, shape: Shape, axis: int) -> sp.csr_array:
    """Return the matrix that applies `block` to every vector along an axis of a tensor."""
    after = prod(shape[axis + 1 :])
    check_nonzeros(block.nnz * prod(shape[:axis]) * after)
    inner = kronecker(block, sp.eye_array(after, format="csr")) if after > 1 else block
    return repeat_diagonally(inner, prod(shape[:axis]))
