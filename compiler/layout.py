"""Where the elements of a tensor sit in the slots of its ciphertexts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

UNUSED = -1  # a slot that holds no element; its value means nothing to the next operation


@dataclass(frozen=True, eq=False)
class Layout:
    """`elements[block, slot]` is the row-major index of the element there, or `UNUSED`.

    An element may sit in many slots; the client packs all copies, and `unpack` reads their mean:
    what is exact in each of them has errors of its own there.
    """

    elements: NDArray[np.int32]  # (blocks, slots)

    @property
    def blocks(self) -> int:
        """Number of ciphertexts."""
        return int(self.elements.shape[0])

    @property
    def slots(self) -> int:
        """Slots of one ciphertext."""
        return int(self.elements.shape[1])

    @property
    def period(self) -> int:
        """Smallest power of two after which the slots repeat; `slots` where they do not."""
        period = self.slots
        while period > 1 and self._repeats(period // 2):
            period //= 2
        return period

    def _repeats(self, period: int) -> bool:
        return bool(np.array_equal(self.elements[:, :-period], self.elements[:, period:]))

    @property
    def run(self) -> int:
        """Largest power of two of adjacent slots that everywhere hold the same element."""
        run = self.period
        while run > 1 and not self._is_runs(run):
            run //= 2
        return run

    def _is_runs(self, run: int) -> bool:
        runs = self.elements.reshape(self.blocks, -1, run)
        return bool((runs == runs[:, :, :1]).all())

    def pack(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (samples, blocks, slots) slot vectors of (samples, elements) `values`."""
        padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
        return padded[:, self.elements]

    def unpack(self, packed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (samples, elements) values of (samples, blocks, slots) slot vectors."""
        flat = packed.reshape(len(packed), -1)
        return np.asarray(flat[:, self.copies].mean(axis=2), np.float64)

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """Positions block * slots + slot of every element, (elements, copies), rising.

        As many of each as the rarest has; an element that the layout leaves out has `UNUSED` there.
        """
        order = np.argsort(self.elements, axis=None, kind="stable")
        found, starts, counts = np.unique(
            self.elements.ravel()[order], return_index=True, return_counts=True
        )
        held = found != UNUSED
        fewest = int(counts[held].min(initial=self.elements.size)) if held.any() else 1
        positions = np.full((int(found[-1]) + 1, fewest), UNUSED, np.int64)
        positions[found[held]] = order[starts[held][:, None] + np.arange(fewest)]
        return positions

    def holds_all(self, count: int) -> bool:
        """Tell whether the layout has a slot for each of `count` elements, and no other."""
        first = self.first_slots()
        return first.size == count and bool((first != UNUSED).all())

    def first_slots(self) -> NDArray[np.int64]:
        """Return, for every element, the first position block * slots + slot that holds it.

        An element that the layout leaves out has `UNUSED` there.
        """
        return self.copies[:, 0]


def at(positions: NDArray[np.int64], period: int, slots: int) -> Layout:
    """Return the layout that has element i at `positions[i]`, repeated every `period` slots.

    Positions of `period` and more lie in further ciphertexts; then `period` must be `slots`.
    """
    blocks = int(positions.max()) // period + 1
    elements = np.full((blocks, period), UNUSED, np.int32)
    elements.reshape(-1)[positions] = np.arange(positions.size, dtype=np.int32)
    return Layout(np.tile(elements, (1, slots // period)))


def ceil_power_of_two(number: int) -> int:
    """Return the smallest power of two that is not less than `number`."""
    return 1 << max(0, number - 1).bit_length()
