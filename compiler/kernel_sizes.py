"""How many rotations and products a matrix takes, and what it does to errors that enter.

The forecast and the search for parameters ask often; a matrix is looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix, LinearTransform
from hec.compiler.copy_gains import CopyGains, Ending, copy_gains
from hec.compiler.layout import Layout
from hec.compiler.pairing import products
from hec.compiler.rotation_costs import steps_of
from hec.compiler.schedule import Split, rotations

Array = NDArray[np.float64]
FEW: Final = 4.0  # terms of a sum that may be unusual at once
PEAKS: Final = 6  # first slots in which SEAL's key switches err more, each by a third of the last


@dataclass(frozen=True)
class KernelSize:
    """Counts and gains of one matrix under one split."""

    key_switches: int
    rotates_first: bool  # whether any input is rotated before it is multiplied
    turns: int  # distinct giant steps
    diagonals: float  # per output block
    power: float  # largest sum of squares in a row: the gain of independent errors
    mean_power: float = 1.0  # of all rows that are not empty
    babies: tuple[frozenset[int], ...] = ()  # steps by which each input block is rotated
    giants: tuple[int, ...] = ()  # steps by which sums are rotated, of all output blocks
    encoded: float = 0.0  # products per output block, one that repeats n times counting 1 / n
    filled: float = 1.0  # share of the rows that are not empty
    peak_power: float = 0.0  # largest power of a row in products that a peak of baby steps meets
    lumpy_power: float = 0.0  # largest power of a row in terms too few to average anything
    largest: float = 0.0  # square of the largest entry


class KernelSizes:
    """The sizes of matrices, computed once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, Split], KernelSize] = {}
        self._assumed: dict[int, KernelSize] = {}
        self._folded: dict[tuple[int, tuple[int, ...]], float] = {}
        self._copied: dict[tuple[int, tuple[int, ...], int], CopyGains | None] = {}
        self._kept: list[DiagonalMatrix | Layout] = []  # so that no id is used twice

    def __call__(self, instruction: LinearTransform) -> KernelSize:
        """Return the sizes of the transform."""
        matrix = instruction.matrix
        if id(matrix) in self._assumed:
            return self._assumed[id(matrix)]
        split = Split(instruction.baby_step, instruction.baby_start)
        key = id(matrix), instruction.twin, split
        if key not in self._known:
            self._known[key] = _measure(instruction)
            self._kept.append(matrix)
        return self._known[key]

    def folded_power(self, instruction: LinearTransform, steps: tuple[int, ...]) -> float:
        """Return the largest power of a row, of all those that `RotateSum` of `steps` adds up."""
        matrix = instruction.matrix
        if id(matrix) in self._assumed:
            return self._assumed[id(matrix)].power * float(2 ** len(steps))
        key = id(matrix), steps
        if key not in self._folded:
            powers = _row_sums(matrix)[0].reshape(matrix.out_blocks, matrix.period)
            for step in steps:
                powers = powers + np.roll(powers, -step, axis=1)
            self._folded[key] = float(powers.max(initial=0.0))
            self._kept.append(matrix)
        return self._folded[key]

    def copy_gains(self, matrix: DiagonalMatrix, ending: Ending) -> CopyGains | None:
        """Return the gains of the mean of an output's copies; None: nothing is known of them."""
        if id(matrix) in self._assumed:
            return None
        key = id(matrix), ending.steps, id(ending.layout)
        if key not in self._copied:
            self._copied[key] = copy_gains(matrix, ending)
            self._kept += [matrix, ending.layout]
        return self._copied[key]

    def assume(self, matrix: DiagonalMatrix, size: KernelSize) -> None:
        """Take `size` for `matrix` without looking at it."""
        self._assumed[id(matrix)] = size
        self._kept.append(matrix)


def _measure(instruction: LinearTransform) -> KernelSize:
    matrix = instruction.matrix
    split = Split(instruction.baby_step, instruction.baby_start)
    index = products(matrix, instruction.twin).index
    giant, baby = split.apply(index[:, 2].astype(np.int64))
    powers, fourths = _row_sums(matrix)
    used = powers > 0
    lumps = np.divide(fourths, powers, out=np.zeros_like(powers), where=used)
    return KernelSize(
        rotations(index, split, matrix.slots),
        bool(baby.any()),
        int(np.unique(giant[giant != 0]).size),
        len(matrix.index) / matrix.out_blocks,
        float(powers.max(initial=0.0)),
        float(powers[used].mean()) if used.any() else 0.0,
        *steps_of(matrix, split, instruction.twin),
        len(index) / matrix.out_blocks * matrix.period / matrix.slots,
        float(used.mean()),
        _peak_power(matrix, split),
        float(np.minimum(powers, FEW * lumps).max(initial=0.0)),
        float(np.square(matrix.values.data, dtype=np.float64).max(initial=0.0)),
    )


_ROW_SUMS: WeakKeyDictionary[DiagonalMatrix, tuple[Array, Array]] = WeakKeyDictionary()


def _row_sums(matrix: DiagonalMatrix) -> tuple[Array, Array]:
    """Return the sums of second and fourth powers of every row's entries, (out_blocks * period,).

    A large matrix has tens of millions of entries: they are looked at once, whatever the split.
    """
    if matrix not in _ROW_SUMS:
        places = _places(matrix, matrix.index[:, 0].astype(np.int64))
        squares, count = _squares(matrix), matrix.out_blocks * matrix.period
        _ROW_SUMS[matrix] = (
            np.asarray(np.bincount(places, squares, count), np.float64),
            np.asarray(np.bincount(places, np.square(squares), count), np.float64),
        )
    return _ROW_SUMS[matrix]


def _peak_power(matrix: DiagonalMatrix, split: Split) -> float:
    """Return the largest sum of squares where a giant step takes the first slots to.

    Baby steps err most in those, as `noise.key_switching` says, so that each giant step has its own
    place where the errors of all its baby steps are large at once.
    """
    giant, baby = split.apply(matrix.index[:, 2].astype(np.int64))
    names, turn = np.unique(giant, return_inverse=True)
    if not baby.any():
        return 0.0
    group = matrix.index[:, 0] * len(names) + turn.reshape(-1)
    rotated = np.where(baby != 0, group, matrix.out_blocks * len(names))
    count = (matrix.out_blocks * len(names) + 1) * matrix.period
    found = np.bincount(_places(matrix, rotated), _squares(matrix), count)
    sums = found[: -matrix.period]
    by_turn = sums.reshape(matrix.out_blocks, len(names), matrix.period)
    slots = (np.arange(PEAKS) - names[:, None]) % matrix.period
    met = np.take_along_axis(by_turn, slots[None], axis=2) / 9.0 ** np.arange(PEAKS)
    return float(met.max(initial=0.0))


def _places(matrix: DiagonalMatrix, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each entry is added up: its row, among those of the group of its diagonal."""
    rows = np.repeat(group * matrix.period, np.diff(matrix.values.indptr))
    return np.add(rows, matrix.values.indices, out=rows)


def _squares(matrix: DiagonalMatrix) -> Array:
    return np.asarray(np.square(matrix.values.data, dtype=np.float64))
