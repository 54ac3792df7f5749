"""Minimax polynomials: the least largest error on a union of intervals, by Remez's exchange.

The error of the best polynomial of n terms takes its largest size with alternating sign at n + 1
points. They are found by exchange: solve for equal errors at n + 1 points, move the points to where
the error is largest, and so on. Points are those of a fine grid, so that nothing can fail to
converge: an exchange raises the levelled error, and there are finitely many sets of points.

Source: E. Remez, Sur la détermination des polynômes d'approximation de degré donnée, 1934;
S.-I. Filip, A robust and scalable implementation of the Parks-McClellan algorithm, 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.tensor_ir import Array

POINTS_PER_TERM: Final = 256  # of the grid, spread over the intervals
SKEW: Final = 1.1  # of the first points: symmetric ones make the levelled error of |x| vanish
CLOSE: Final = 1e-3  # the error may be that much larger than the least possible one
EXCHANGES: Final = 100  # at most; ten are usual

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Minimax:
    """A polynomial in the Chebyshev basis on [-1, 1], and its largest error on the intervals."""

    coefficients: Array  # (degree + 1,)
    error: float


def minimax(
    function: Callable[[Array], Array], intervals: Sequence[Interval], degree: int
) -> Minimax:
    """Return the best polynomial of `degree` on disjoint, ascending intervals.

    They lie in [-1, 1], from end to end of it or nearly: on a short piece the basis degenerates.
    """
    grid = _grid(intervals, POINTS_PER_TERM * (degree + 2))
    spread = np.linspace(0, 1, degree + 2) ** SKEW
    points = (spread * (grid.size - 1)).round().astype(np.int64)
    return _exchanged(function, (grid, points), np.arange(degree + 1), degree)


def odd_minimax(function: Callable[[Array], Array], interval: Interval, degree: int) -> Minimax:
    """Return the best odd polynomial of odd `degree` on an interval in (0, 1].

    For an odd function it is the best of all on that interval and its mirror image together.
    """
    orders = np.arange(1, degree + 1, 2)
    grid = _grid((interval,), POINTS_PER_TERM * (orders.size + 1))
    angles = np.linspace(np.arccos(interval[0]), np.arccos(interval[1]), orders.size + 1)
    points = np.clip(np.searchsorted(grid, np.cos(angles)), 0, grid.size - 1)
    return _exchanged(function, (grid, points), orders, degree)


def _exchanged(
    function: Callable[[Array], Array],
    start: tuple[Array, NDArray[np.int64]],
    orders: NDArray[np.int64],
    degree: int,
) -> Minimax:
    """Return the best polynomial of `orders` on a grid; `start` holds that, and first points."""
    count, (grid, points) = orders.size + 1, start
    basis = np.polynomial.chebyshev.chebvander(grid, degree)[:, orders]
    wanted = function(grid)
    signs = (-1.0) ** np.arange(count)
    best, least = np.zeros(orders.size), np.inf
    for _ in range(EXCHANGES):
        matrix = np.concatenate([basis[points], signs[:, None]], axis=1)
        *solution, level = np.linalg.lstsq(matrix, wanted[points])[0]
        errors = wanted - basis @ np.array(solution)
        largest = float(np.abs(errors).max())
        if largest < least:
            best, least = np.array(solution), largest
        if largest <= (1 + CLOSE) * abs(level) + 1e-14 * float(np.abs(wanted).max()):
            break
        exchanged = _alternating(errors, count)
        if exchanged.size < count:
            break
        points = exchanged
    coefficients = np.zeros(degree + 1)
    coefficients[orders] = best
    return Minimax(coefficients, least)


def _grid(intervals: Sequence[Interval], count: int) -> Array:
    """Return points denser towards the ends of each interval, where extrema crowd, and 0."""
    cosines = (1 - np.cos(np.linspace(0.0, np.pi, max(count // len(intervals), 8)))) / 2
    points = np.concatenate([low + (high - low) * cosines for low, high in intervals])
    if any(low < 0 < high for low, high in intervals):
        points = np.append(points, 0.0)  # where many functions have a corner
    return np.unique(points)


def _alternating(errors: Array, count: int) -> NDArray[np.int64]:
    """Return `count` positions of large errors whose signs alternate; fewer if there are not."""
    changes = np.flatnonzero(np.diff(np.sign(errors)) != 0) + 1
    runs = np.split(np.arange(errors.size), changes)
    peaks = [int(run[np.abs(errors[run]).argmax()]) for run in runs if errors[run].any()]
    while len(peaks) > count:
        sizes = np.abs(errors[peaks])
        if len(peaks) == count + 1:
            del peaks[0 if sizes[0] < sizes[-1] else -1]
        else:  # two neighbours go together, so that signs go on alternating
            smallest = int((sizes[:-1] + sizes[1:]).argmin())
            del peaks[smallest : smallest + 2]
    return np.array(peaks, np.int64)
