"""How many rotations and products a matrix takes, and what it does to errors that enter.

The forecast and the search for parameters ask often; a matrix is looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix, LinearTransform
from hec.compiler.pairing import products
from hec.compiler.rotation_costs import steps_of
from hec.compiler.schedule import Split, rotations


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


class KernelSizes:
    """The sizes of matrices, computed once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, Split], KernelSize] = {}
        self._assumed: dict[int, KernelSize] = {}
        self._kept: list[DiagonalMatrix] = []  # so that no id is used twice

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

    def assume(self, matrix: DiagonalMatrix, size: KernelSize) -> None:
        """Take `size` for `matrix` without looking at it."""
        self._assumed[id(matrix)] = size
        self._kept.append(matrix)


def _measure(instruction: LinearTransform) -> KernelSize:
    matrix = instruction.matrix
    split = Split(instruction.baby_step, instruction.baby_start)
    index = products(matrix, instruction.twin).index
    giant, baby = split.apply(index[:, 2].astype(np.int64))
    powers = _row_powers(matrix)
    return KernelSize(
        rotations(index, split, matrix.slots),
        bool(baby.any()),
        int(np.unique(giant[giant != 0]).size),
        len(matrix.index) / matrix.out_blocks,
        float(powers.max(initial=0.0)),
        float(powers[powers > 0].mean()) if powers.any() else 0.0,
        *steps_of(matrix, split, instruction.twin),
    )


def _row_powers(matrix: DiagonalMatrix) -> NDArray[np.float64]:
    """Return the sum of squares of every row, (out_blocks, period)."""
    powers = np.zeros((matrix.out_blocks, matrix.period))
    row = np.repeat(matrix.index[:, 0], np.diff(matrix.values.indptr))
    np.add.at(powers, (row, matrix.values.indices), matrix.values.data.astype(np.float64) ** 2)
    return powers
