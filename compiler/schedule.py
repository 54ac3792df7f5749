"""Split the shifts of a matrix into baby and giant steps: the fewest key switches, exactly.

shift = giant + baby, where giant is a multiple of `baby_step` and baby lies in
[baby_start, baby_start + baby_step). Babies rotate the inputs (once for all output blocks), giants
rotate the sums. The best split depends on which shifts occur, so all sensible ones are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEY_WEIGHT = 1.0  # key switches that a rotation key is worth: it is made, sent, and kept in memory


@dataclass(frozen=True)
class Split:
    """A way to write every shift as giant + baby."""

    baby_step: int
    baby_start: int

    def apply(self, shift: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return giant and baby of each shift."""
        giant = (shift - self.baby_start) // self.baby_step * self.baby_step
        return giant, shift - giant


def rotations(index: NDArray[np.int32], split: Split, slots: int) -> int:
    """Count the key switches of a matrix with diagonals `index` (out block, in block, shift)."""
    giant, baby = split.apply(index[:, 2].astype(np.int64))
    babies = _distinct(index[:, 1], baby % slots, slots)
    return babies + _distinct(index[:, 0], giant % slots, slots)


def best_split(index: NDArray[np.int32], slots: int, known: frozenset[int] | None = None) -> Split:
    """Return the split with the fewest rotations; of equals, the one with the fewest babies.

    Given the `known` steps, in [1, slots), that other matrices make anyway, every other step counts
    as `KEY_WEIGHT` rotations more.
    """

    def price(split: Split) -> float:
        new = 0 if known is None else len(steps(index, split, slots) - known)
        return rotations(index, split, slots) + KEY_WEIGHT * new

    return min(splits(index), key=price)


def steps(index: NDArray[np.int32], split: Split, slots: int) -> frozenset[int]:
    """Return the rotation steps, in [1, slots), of a matrix with diagonals `index`."""
    parts = np.concatenate(split.apply(index[:, 2].astype(np.int64))) % slots
    occurs = np.zeros(slots, np.bool_)
    occurs[parts] = True
    return frozenset((np.flatnonzero(occurs[1:]) + 1).tolist())


def splits(index: NDArray[np.int32]) -> Iterator[Split]:
    """Yield the splits worth trying for a matrix with diagonals `index`."""
    shifts = index[:, 2]
    span = int(shifts.max(initial=0)) - int(shifts.min(initial=0)) + 1
    steps = set(range(1, min(span, 48) + 1))
    power = 1
    while power < 2 * span:
        steps |= {power, 3 * power, 5 * power, 7 * power}
        power *= 2
    for step in sorted(steps):
        yield Split(step, 0)
        yield Split(step, -(step // 2))


def _distinct(block: NDArray[np.int32], steps: NDArray[np.int64], slots: int) -> int:
    """Count the different (block, step) with a step that is not zero, steps in [0, slots)."""
    occurs = np.zeros((int(block.max(initial=0)) + 1, slots), np.bool_)
    occurs[block, steps] = True
    return int(np.count_nonzero(occurs[:, 1:]))
