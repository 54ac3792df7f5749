"""Turn a sparse matrix between two layouts into generalized diagonals, by index arithmetic.

Every non-zero (row, column) becomes a term: it sits in one slot of one diagonal, whose shift leads
from that slot to a copy of the column's element. The slot need not be the row's own: any slot that
is the row's modulo `fold` will do, because a rotate-and-sum over multiples of `fold` follows. That
freedom is what makes short matrices cheap.

Source: Halevi and Shoup, "Algorithms in HElib" (diagonals); Juvekar et al., "GAZELLE" (folding);
Brutzkus et al., "Low Latency Privacy Preserving Inference" (stacked copies).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix
from hec.compiler.layout import UNUSED, Layout, ceil_power_of_two

Indices = NDArray[np.signedinteger]
_MARKED = 2**26  # marks of possible diagonals, a byte each, that are made in any case
_FEW = 16  # possible diagonals for each term, from which on sorting takes less


@dataclass(frozen=True, eq=False)
class Terms:
    """The non-zeros of a matrix, each with its place among the diagonals; arrays of one length."""

    out_block: Indices
    in_block: Indices
    shift: Indices
    slot: Indices  # in [0, period)
    period: int


@dataclass(frozen=True, eq=False)
class Supports:
    """Which columns the rows of a matrix read, by the pixel in which the result has the row.

    Rows sit at u * width + v of their ciphertext: u is the channel, v < width the pixel. Adjacent
    `twins` pixels, over which the result repeats, read the same columns.
    """

    matrix: sp.csr_array
    result: Layout
    width: int
    twins: int
    start: Indices  # (width / twins + 1,): where the columns of such pixels begin in `columns`
    columns: Indices  # sorted within each of them

    @property
    def most(self) -> int:
        """Columns of the pixel that has the most."""
        return int(np.diff(self.start).max(initial=1))

    def rank(self, pixel: Indices, column: Indices) -> Indices:
        """Return the place of each column among those of its pixel."""
        group, count = pixel // self.twins, self.matrix.shape[1]
        groups = np.repeat(np.arange(self.start.size - 1), np.diff(self.start))
        found = np.searchsorted(groups * count + self.columns, group * count + column)
        return found - self.start[group]


def supports(matrix: sp.csr_array, result: Layout, width: int) -> Supports:
    """Return the columns that each pixel's rows read; `width` is a power of two."""
    twins = min(result.run, width)
    row, column = _coordinates(matrix)
    group = result.first_slots()[row] % width // twins
    keys = np.unique(group * matrix.shape[1] + column)
    groups, columns = np.divmod(keys, matrix.shape[1])
    start = np.searchsorted(groups, np.arange(width // twins + 1))
    return Supports(matrix, result, width, twins, start, columns)


@dataclass(frozen=True, eq=False)
class Gather:
    """The client's arrangement of an input for the matrix that reads it first.

    Slot (j, u, v) of ciphertext c holds, of the columns that pixel v reads, the one of rank
    (c * copies + j) * rotations + u mod rotations, so that `rotations` shifts by multiples of the
    width meet them all; copies j lie one period of the result apart, and are summed afterwards.
    The arrangement repeats every `span` slots.
    """

    supports: Supports
    span: int

    @property
    def period(self) -> int:
        """Slots after which the result repeats."""
        return self.supports.result.period

    @property
    def copies(self) -> int:
        """Periods of the result in the span."""
        return self.span // self.period

    @property
    def rotations(self) -> int:
        """Shifts of one ciphertext, the zero shift included."""
        channels = self.period // self.supports.width
        return min(channels, ceil_power_of_two(-(-self.supports.most // self.copies)))

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts that the client sends."""
        return -(-self.supports.most // (self.copies * self.rotations))

    def index(self) -> NDArray[np.int32]:
        """Return the (out block, in block, shift) of the diagonals that there will be."""
        blocks = np.arange(self.supports.result.blocks)
        inputs, shifts = np.arange(self.ciphertexts), np.arange(self.rotations)
        mesh = np.meshgrid(blocks, inputs, shifts * self.supports.width, indexing="ij")
        return np.stack([axis.reshape(-1) for axis in mesh], axis=1).astype(np.int32)

    def layout(self) -> Layout:
        """Return the input's layout."""
        start, twins, rotations = self.supports.start, self.supports.twins, self.rotations
        groups = np.repeat(np.arange(start.size - 1), np.diff(start))
        rank = np.arange(self.supports.columns.size) - start[groups]
        channels, count = self.period // self.supports.width, start.size - 1
        shape = (self.ciphertexts, self.copies, channels // rotations, rotations, count, twins)
        elements = np.full(shape, UNUSED, np.int32)
        block, copy, residue = self._place(rank)
        elements[block, copy, :, residue, groups] = self.supports.columns[:, None, None]
        slots = self.supports.result.slots
        return Layout(np.tile(elements.reshape(self.ciphertexts, -1), (1, slots // self.span)))

    def diagonals(self, width: int) -> DiagonalMatrix:
        """Return the matrix; the sums that follow run over `width` >= span slots."""
        matrix, result = spread(self.supports.matrix, self.supports.result)
        terms, blocks = self._terms(matrix, result, width), (result.blocks, self.ciphertexts)
        return diagonal_matrix(terms, matrix, blocks, result.slots)

    def _terms(self, matrix: sp.csr_array, result: Layout, width: int) -> Terms:
        slots = result.slots
        row, column = _coordinates(matrix)
        position = result.first_slots()[row]
        goal = position % slots
        channel, pixel = np.divmod(goal, self.supports.width)
        in_block, copy, residue = self._place(self.supports.rank(pixel, column))
        steps = (residue - channel) % self.rotations
        wraps = (channel + steps) * self.supports.width >= self.period
        slot = goal + self.period * ((copy - wraps) % self.copies)
        return Terms(position // slots, in_block, steps * self.supports.width, slot, width)

    def _place(self, rank: Indices) -> tuple[Indices, Indices, Indices]:
        """Return ciphertext, copy and channel residue of each rank."""
        block, rest = np.divmod(rank, self.copies * self.rotations)
        copy, residue = np.divmod(rest, self.rotations)
        return block, copy, residue


def spread(matrix: sp.csr_array, result: Layout) -> tuple[sp.csr_array, Layout]:
    """Return a row for every slot of a run that holds the same element, and where these rows lie.

    Only then does a matrix compute more than the first slot of each run.
    """
    run = result.run
    if run == 1:
        return matrix, result
    rows = np.repeat(np.arange(matrix.shape[0]), run)
    elements = np.where(
        result.elements == UNUSED, UNUSED, result.elements * run + np.arange(result.slots) % run
    )
    return sp.csr_array(matrix[rows]), Layout(elements.astype(np.int32))


def periodic_terms(
    matrix: sp.csr_array, source: Layout, target: Layout, width: int, fold: int
) -> Terms:
    """Place the non-zeros of `matrix`, whose rows are summed over `width` slots, `fold` apart.

    `width` is at least the period of the source (and the slots, where a tensor takes several
    ciphertexts); `fold` is the period of the target, unless its rows lie in several copies of the
    source: then all of a row's terms do, too. Shifts are the smallest in absolute value.
    """
    slots, repeat = source.slots, source.period
    starts = source.first_slots().astype(np.int32)
    goals = target.first_slots().astype(np.int32)
    goal = np.repeat(goals, np.diff(matrix.indptr))
    start = starts[matrix.indices] + (goal & (source.run - 1))
    step = min(fold, repeat)  # a power of two, as are slots and width: masks are remainders
    shift = ((start - goal + step // 2) & (step - 1)) - step // 2
    period = max(width, target.period)
    slot = goal & (period - 1)
    if repeat > fold:
        slot = (slot & ~(repeat - 1)) | ((start - shift) & (repeat - 1))
    return Terms(goal // slots, start // slots, shift, slot, period)


def diagonal_index(terms: Terms, blocks: tuple[int, int], slots: int) -> NDArray[np.int32]:
    """Return which diagonals the terms need, (diagonals, 3): output block, input block, shift."""
    return _index(_distinct(_keys(terms, blocks, slots), blocks, slots), blocks, slots)


def diagonal_matrix(
    terms: Terms, matrix: sp.csr_array, blocks: tuple[int, int], slots: int
) -> DiagonalMatrix:
    """Collect the terms of `matrix` into diagonals; `blocks` counts outputs, then inputs.

    An output without any term gets a diagonal of zeros, so that there is a ciphertext to compute.
    """
    key = _keys(terms, blocks, slots)
    keys = _distinct(key, blocks, slots)
    row = _ranks(keys, key)
    values = sp.csr_array(
        (matrix.data.astype(np.float32), (row, terms.slot.astype(np.int32))),
        shape=(keys.size, terms.period),
    )
    return DiagonalMatrix(slots, *blocks, _index(keys, blocks, slots), values)


def _keys(terms: Terms, blocks: tuple[int, int], slots: int) -> Indices:
    """Number the diagonals; a shift lies in (-slots, slots)."""
    out_block = terms.out_block
    if blocks[0] * blocks[1] * 2 * slots >= 2**31:
        out_block = out_block.astype(np.int64)
    return (out_block * blocks[1] + terms.in_block) * (2 * slots) + terms.shift + slots


def _distinct(key: Indices, blocks: tuple[int, int], slots: int) -> Indices:
    """Return the keys that occur, sorted, and one for every output block that has none.

    Marks them in an array of all possible keys: sorting tens of millions would take seconds. Where
    few keys of very many occur, as with thousands of ciphertexts, they are sorted.
    """
    out_blocks, in_blocks = blocks
    if out_blocks * in_blocks * 2 * slots > max(_MARKED, _FEW * key.size):
        first = np.arange(out_blocks, dtype=np.int64) * (in_blocks * 2 * slots)
        missing = np.setdiff1d(np.arange(out_blocks), key // (in_blocks * 2 * slots))
        return np.unique(np.concatenate([key, first[missing] + slots]))
    occurs = np.zeros(out_blocks * in_blocks * 2 * slots, np.bool_)
    occurs[key] = True
    by_output = occurs.reshape(out_blocks, -1)
    by_output[~by_output.any(axis=1), slots] = True
    return np.flatnonzero(occurs)


def _ranks(keys: Indices, key: Indices) -> NDArray[np.int32]:
    """Return where each of `key` stands among the sorted `keys`: from a table, if it is small."""
    first = int(keys[0]) if keys.size else 0
    if not keys.size or int(keys[-1]) - first > _FEW * key.size:
        return np.searchsorted(keys, key).astype(np.int32)
    table = np.zeros(int(keys[-1]) - first + 1, np.int32)
    table[keys - first] = np.arange(keys.size, dtype=np.int32)
    return np.asarray(table[key - first], np.int32)


def _index(keys: Indices, blocks: tuple[int, int], slots: int) -> NDArray[np.int32]:
    block, shift = np.divmod(keys, 2 * slots)
    index = np.stack([block // blocks[1], block % blocks[1], shift - slots], axis=1)
    return index.astype(np.int32)


def _coordinates(matrix: sp.csr_array) -> tuple[Indices, Indices]:
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return row, matrix.indices.astype(np.int64)
