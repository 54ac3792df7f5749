"""Pair the diagonals of a matrix: two in one complex product, where only real parts count.

With z = x + i rotate(x, twin), the real part of (a - i b) z is a x + b rotate(x, twin): one product
and one rotation of z do the work of two. Imaginary parts of sums mean nothing, and a bootstrap
drops them.

Source: none known; complex packing as in nGraph-HE2, turned from two images to two diagonals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix

NONE: Final = -1  # instead of the row of a second diagonal

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Products:
    """The products of a matrix; arrays of one length, an entry for each."""

    index: NDArray[np.int32]  # (products, 3): output block, input block, shift of the operand
    first: Rows  # row of the diagonal in the real part
    second: Rows  # row of the one in the imaginary part, `twin` slots further, or `NONE`


_known: WeakKeyDictionary[DiagonalMatrix, dict[int, Products]] = WeakKeyDictionary()


def products(matrix: DiagonalMatrix, twin: int) -> Products:
    """Return the products of `matrix` with diagonals `twin` slots apart paired; 0: none are."""
    known = _known.setdefault(matrix, {})
    if twin not in known:
        known[twin] = _single(matrix) if twin == 0 else _paired(matrix, twin)
    return known[twin]


def best_twin(matrix: DiagonalMatrix) -> int:
    """Return the distance that pairs the most diagonals, a power of two; 0 where none pairs any."""
    options = [matrix.slots >> turn for turn in range(1, matrix.slots.bit_length())]
    counts = {twin: len(_paired(matrix, twin).first) for twin in options}
    best = min(options, key=counts.__getitem__, default=0)
    return best if best and counts[best] < len(matrix.index) else 0


def _single(matrix: DiagonalMatrix) -> Products:
    rows = np.arange(len(matrix.index))
    return Products(matrix.index, rows, np.full(rows.size, NONE))


def _paired(matrix: DiagonalMatrix, twin: int) -> Products:
    """Walk along every chain of diagonals `twin` apart, and pair neighbours."""
    place = {
        (out_block, in_block, shift % matrix.slots): row
        for row, (out_block, in_block, shift) in enumerate(matrix.index.tolist())
    }
    first, second, used = list[int](), list[int](), set[int]()
    for (out_block, in_block, shift), row in sorted(place.items()):
        if row in used:
            continue
        other = place.get((out_block, in_block, (shift + twin) % matrix.slots), NONE)
        if other in used or other == row:
            other = NONE
        used |= {row, other}
        first.append(row)
        second.append(other)
    rows = np.array(first, np.int64)
    return Products(matrix.index[rows], rows, np.array(second, np.int64))
