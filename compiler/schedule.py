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

_SPARSE = 8  # places of a chart for each diagonal, at most
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
    chart, candidates = _Chart.of(index, slots), list(splits(index))

    def price(split: Split) -> float:
        new = 0 if known is None else len(steps(index, split, slots) - known)
        if chart is None or 2 * split.baby_step > slots:
            return rotations(index, split, slots) + KEY_WEIGHT * new
        return chart.rotations(split) + KEY_WEIGHT * new

    least = _least_rotations(index, [split.baby_step for split in candidates], slots)
    best: tuple[float, int] | None = None
    for number in np.argsort(least, kind="stable").tolist():
        if best is not None and least[number] > best[0]:
            break  # nor can any of the others be better
        found = price(candidates[number]), number
        best = found if best is None else min(best, found)
    return candidates[0 if best is None else best[1]]


def _least_rotations(index: NDArray[np.int32], steps: list[int], slots: int) -> NDArray[np.float64]:
    """Return, for every baby step, a number of rotations that no split with it goes below.

    A giant step serves as many shifts as there are babies, a baby as many as there are turns.
    """
    shift, step = index[:, 2], np.array(steps)
    turns = (int(shift.max(initial=0)) - int(shift.min(initial=0))) // step + 2
    out_blocks, in_blocks = np.bincount(index[:, 0]), np.bincount(index[:, 1])
    same = 2 if 2 * int(np.abs(shift).max(initial=0)) > slots else 1  # shifts that are one rotation
    leaving = np.ceil(out_blocks / (same * max(1, in_blocks.size)))
    entering = np.ceil(in_blocks / (same * max(1, out_blocks.size)))
    giants = np.maximum(np.ceil(leaving[:, None] / step) - 1, 0).sum(axis=0)
    babies = np.maximum(np.ceil(entering[:, None] / turns) - 1, 0).sum(axis=0)
    return np.asarray(giants + babies, np.float64)


@dataclass(frozen=True, eq=False)
class _Chart:
    """Which shifts occur, block by block: where many do, splits are counted without a division.

    Shifts and steps are at most half the slots, so that different ones are different rotations.
    """

    entering: NDArray[np.bool_]  # (in blocks, shifts from the first one on)
    leaving: NDArray[np.bool_]  # (out blocks, likewise)
    first: int  # shift

    @staticmethod
    def of(index: NDArray[np.int32], slots: int) -> _Chart | None:
        """Return the chart; None where shifts are large, or hardly any occurs."""
        if not len(index) or 2 * np.abs(index[:, 2]).max() > slots:
            return None
        first = int(index[:, 2].min())
        shift, blocks = index[:, 2] - first, index[:, :2].max(axis=0) + 1
        span = int(shift.max()) + 1
        if span * int(blocks.sum()) > _SPARSE * len(index):
            return None
        leaving, entering = (np.zeros((count, span), np.bool_) for count in blocks)
        leaving[index[:, 0], shift], entering[index[:, 1], shift] = True, True
        return _Chart(entering, leaving, first)

    def rotations(self, split: Split) -> int:
        """Count the key switches of a split whose steps are at most half the slots."""
        before = (self.first - split.baby_start) % split.baby_step
        first = (self.first - split.baby_start) // split.baby_step  # turn
        folded = self._folded(self.entering, before, split.baby_step)
        babies = np.logical_or.reduce(folded, axis=1)
        giants = np.logical_or.reduce(self._folded(self.leaving, before, split.baby_step), axis=2)
        count = np.count_nonzero(babies) + np.count_nonzero(giants)
        if 0 <= -split.baby_start < split.baby_step:
            count -= np.count_nonzero(babies[:, -split.baby_start])
        if 0 <= -first < giants.shape[1]:
            count -= np.count_nonzero(giants[:, -first])
        return int(count)

    @staticmethod
    def _folded(occurs: NDArray[np.bool_], before: int, step: int) -> NDArray[np.bool_]:
        """Return (blocks, turns, babies)."""
        blocks, span = occurs.shape
        turns = -(-(before + span) // step)
        whole = np.zeros((blocks, turns * step), np.bool_)
        whole[:, before : before + span] = occurs
        return whole.reshape(blocks, turns, step)


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
