"""Fourier series of a part of a period: fit them to functions, and evaluate them.

A bootstrap evaluates 2 Re(sum_j c_j exp(i pi j x)), of period 2, for x that lie in an interval
about zero, half of the period or a bit more. On the rest the series may be anything: such an
extension has no Gibbs ringing. It is held near the function a little beyond the ends, and bounded
elsewhere, so that a value that falls outside is inexact but not lost.

The longer the interval, the smaller is a kink's error, and that of the bootstrap, which is one of
x; the shorter, the smoother is the extension, and the farther may values stray before they wrap.

Source: algorithms.md, 12; ePrint 2026/367; D. Huybrechs, "On the Fourier Extension of Nonperiodic
Functions", SIAM J. Numer. Anal. 47 (2010), for the extension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from hec.compiler.approximation import Density
from hec.compiler.tensor_ir import Array

GRID: Final = 1025  # points of the uniform floor
LOST: Final = 0.9  # magnitude of x beyond which nothing holds the series near the function
FAR: Final = 0.01  # and beyond, this share: lost samples 117 of 2,000 without, 0 with it (005)
FLOOR: Final = 1e-3  # weight of the floor, samples having 1
BLOCK: Final = 4096  # points of a series evaluated at once: what fits in a fast cache
PIECES: Final = 2**14  # of a period, where a series is evaluated at many points
RIDGE: Final = 1e-6  # of the coefficients: bounds them, and with them noise and the other half


@dataclass(frozen=True)
class Interval:
    """Where x lies, [-radius, radius], and how far beyond the series is held near the function."""

    radius: float

    @property
    def near(self) -> float:
        """Up to there the floor weighs the same."""
        return min(1.2 * self.radius, LOST)

    @property
    def reach(self) -> float:
        """And up to there, less."""
        return min(1.6 * self.radius, LOST)

    def grid(self) -> Array:
        """Return the points at which `fit` wants the function, (GRID,)."""
        return np.linspace(-self.reach, self.reach, GRID)


HALF: Final = Interval(0.5)


def fit(values: Array, density: Density | None, degree: int, interval: Interval = HALF) -> Array:
    """Return the (2, degree + 1) coefficients of the regularised least-squares fit.

    `values` holds the function at `interval.grid()`. The samples of `density` lie in t in [-1, 1],
    which is the interval; without it the fit is unweighted, and ends at `interval.near`.
    """
    x, wanted = interval.grid(), values
    near = np.abs(x) <= interval.near
    weight = np.where(near, 1.0, 0.0 if density is None else FAR) / np.count_nonzero(near)
    if density is not None:
        x = np.concatenate((interval.radius * density.t, x))
        wanted = np.concatenate((density.wanted, wanted))
        weight = np.concatenate((density.weight, FLOOR * weight))
    root = np.sqrt(weight)
    terms = 2 * degree + 1
    matrix = np.vstack((_basis(x, degree) * root[:, None], np.sqrt(RIDGE) * np.eye(terms)))
    right = np.concatenate((wanted * root, np.zeros(terms)))
    solution = np.linalg.lstsq(matrix, right)[0]
    imaginary = np.concatenate(([0.0], solution[degree + 1 :]))
    return np.stack((solution[: degree + 1], imaginary))


def fitted(function: Callable[[Array], Array], degree: int) -> Array:
    """Return the coefficients of the unweighted fit of `function` on half of the period."""
    return fit(function(HALF.grid()), None, degree)


def series(coefficients: Array, x: Array) -> Array:
    """Return 2 Re(sum_j c_j exp(i pi j x)) at `x`, any shape, by Clenshaw's recurrence."""
    flat = np.ascontiguousarray(x, np.float64).reshape(-1)
    evaluate = _Pieces(coefficients) if flat.size > 4 * PIECES else None
    values = np.empty_like(flat)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        part = flat[block]
        values[block] = (
            _clenshaw(coefficients, np.pi * part) if evaluate is None else evaluate(part)
        )
    return values.reshape(np.shape(x))


class _Pieces:
    """A series as cubic pieces that meet in value and slope: exact to 1e-9, and ten times faster.

    By Hermite's formula the error is (pi degree h)^4 / 384 of the coefficients, h = 2 / PIECES.
    """

    def __init__(self, coefficients: Array) -> None:
        nodes = np.linspace(0.0, 2.0, PIECES + 1)
        value = _clenshaw(coefficients, np.pi * nodes)
        steep = _clenshaw(_derivative(coefficients), np.pi * nodes) * (2.0 / PIECES)
        rise, left, right = np.diff(value), steep[:-1], steep[1:]
        self._terms = (value[:-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise)

    def __call__(self, x: Array) -> Array:
        """Return the series at `x`, (points,)."""
        place = x * (PIECES / 2)
        whole = np.floor(place)
        t, piece = place - whole, whole.astype(np.int64) & (PIECES - 1)
        constant, linear, square, cube = self._terms
        found = constant[piece] + t * (linear[piece] + t * (square[piece] + t * cube[piece]))
        return np.asarray(found, np.float64)


def _clenshaw(coefficients: Array, angle: Array) -> Array:
    real, imaginary = coefficients
    twice = 2 * np.cos(angle)
    even, even_before = np.zeros_like(angle), np.zeros_like(angle)
    odd, odd_before = np.zeros_like(angle), np.zeros_like(angle)
    for a, b in zip(real[:0:-1], imaginary[:0:-1], strict=True):
        _step(a, twice, even, even_before)
        _step(b, twice, odd, odd_before)
        even, even_before = even_before, even
        odd, odd_before = odd_before, odd
    cosine = real[0] + twice / 2 * even - even_before
    return np.asarray(2 * (cosine - np.sin(angle) * odd), np.float64)


def _step(coefficient: float, twice: Array, last: Array, before: Array) -> None:
    """Replace `before` by coefficient + twice * last - before."""
    np.subtract(coefficient, before, out=before)
    before += twice * last


def slope(coefficients: Array, x: Array) -> Array:
    """Return the derivative of the series at `x`, any shape."""
    return series(_derivative(coefficients), x)


def _derivative(coefficients: Array) -> Array:
    order = np.pi * np.arange(coefficients.shape[1])
    real, imaginary = coefficients
    return np.stack((-order * imaginary, order * real))


def _basis(x: Array, degree: int) -> Array:
    """Return (points, 2 degree + 1): what each real, then each imaginary part adds."""
    angles = np.pi * x[:, None] * np.arange(degree + 1)
    return np.concatenate((2 * np.cos(angles), -2 * np.sin(angles[:, 1:])), axis=1)
