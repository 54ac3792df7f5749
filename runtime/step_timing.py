"""Time the steps of a backend, and fit what each costs as a function of limbs.

Medians of repeats, after one that warms up. SEAL computes on this thread, so its time is the
thread's own processor time, which other programs hardly change; OpenFHE's is the wall clock's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Final

import numpy as np
from scipy.optimize import nnls

from hec.compiler.cost_table import Line

_REPEATS: Final = (3, 9)  # at least and at most
_LONGEST: Final = 1.0  # seconds of all repeats of a step, where three take no longer
_SHORTEST: Final = 2e-3  # seconds of one repeat: below, a step is done several times
_MOST: Final = 200  # steps in one repeat


@dataclass
class Stopwatch:
    """Times steps, and remembers how much the repeats differed."""

    clock: Callable[[], float] = thread_time
    spreads: list[float] = field(default_factory=list)  # quartiles' distance over the median
    wall: float = 0.0  # seconds that went by in all repeats
    spent: float = 0.0  # and what `clock` says of them

    def seconds(self, step: Callable[[], object]) -> float:
        """Return the seconds of one `step`."""
        step()
        start = perf_counter()
        step()
        each = max(perf_counter() - start, 1e-7)
        inner = max(1, min(_MOST, int(_SHORTEST / each)))
        fewest, most = _REPEATS
        repeats = max(fewest, min(most, int(_LONGEST / (inner * each))))
        found = [self._repeat(step, inner) for _ in range(repeats)]
        middle = median(found)
        low, _, high = quantiles(found, n=4)
        self.spreads.append((high - low) / middle)
        return middle

    def _repeat(self, step: Callable[[], object], inner: int) -> float:
        wall, start = perf_counter(), self.clock()
        for _ in range(inner):
            step()
        spent = self.clock() - start
        self.wall += perf_counter() - wall
        self.spent += spent
        return spent / inner

    @property
    def spread(self) -> float:
        """Return the typical spread of a step's repeats."""
        return median(self.spreads) if self.spreads else 0.0

    @property
    def waited(self) -> float:
        """Return the share of time in which the machine did something else; 0 of a wall clock."""
        return max(0.0, 1 - self.spent / self.wall) if self.wall else 0.0


def line(measured: Iterable[tuple[int, float]], square: bool = False) -> Line:
    """Return the line through (limbs, seconds) whose relative errors are smallest, none negative.

    `square` allows a term that grows with the square of limbs.
    """
    pairs = list(measured)
    limbs = np.array([float(count) for count, _ in pairs])
    columns = [np.ones_like(limbs), limbs, *([limbs**2] if square else [])]
    fixed, per_limb, *rest = fit(columns, [seconds for _, seconds in pairs])
    return Line(fixed, per_limb, rest[0] if rest else 0.0)


def fit(
    columns: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]], seconds: Sequence[float]
) -> list[float]:
    """Return the factors, none negative, of `columns` that add up to `seconds`, relatively."""
    weights = 1 / np.asarray(seconds)
    matrix = np.stack(columns, axis=1) * weights[:, None]
    factors, _ = nnls(matrix, np.ones(len(weights)))
    return [float(factor) for factor in factors]
