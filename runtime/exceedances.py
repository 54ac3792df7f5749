"""Exceedances: the samples whose values left the interval that an activation was fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hec.compiler.plan_parts import PlanFit
from hec.runtime.cleartext import Slots


class Exceedances:
    """Counts samples, activation by activation, as values are computed."""

    def __init__(self, fits: Sequence[PlanFit]) -> None:
        self._fits = fits
        self._counts = [(0, 0)] * len(fits)

    def see(self, position: int, value: list[Slots]) -> None:
        """Count the samples of the value at `position`, if an activation reads it."""
        for number, item in enumerate(self._fits):
            if item.value == position:
                outside, unbounded = self._counts[number]
                peaks = _peaks(value, item.used)
                outside += int(np.count_nonzero(peaks > item.radius))
                unbounded += int(np.count_nonzero(peaks > item.radius * _widening(item)))
                self._counts[number] = outside, unbounded

    def found(self) -> tuple[tuple[int, int] | None, ...]:
        """Return for each fit the samples outside of its interval, and of that where it is bounded.

        None where the plan does not know which value the activation reads.
        """
        pairs = zip(self._fits, self._counts, strict=True)
        return tuple(None if item.value is None else counts for item, counts in pairs)


def _peaks(value: list[Slots], used: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each sample's largest magnitude in the slots that hold elements."""
    peaks = [
        np.abs(block.values[:, held.astype(np.bool_)]).max(axis=1, initial=0.0)
        for block, held in zip(value, used, strict=True)
    ]
    return np.asarray(np.max(peaks, axis=0), np.float64)


def _widening(item: PlanFit) -> float:
    """Return how many times as wide as the interval the bounded one is."""
    (low, high), bounded = item.fit.interval, item.fit.bounded
    if bounded is None or high == low:
        return 1.0
    return (bounded[1] - bounded[0]) / (high - low)
