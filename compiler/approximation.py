"""Fit polynomials to functions: least squares in the Chebyshev basis, weighted by what is seen.

All fits are over t in [-1, 1]. Data from calibration say where inputs fall; a uniform floor of
weight keeps the polynomial near the function everywhere else in the interval, and grows until it
does: nowhere worse than `TAIL` times the largest error of the unweighted fit.

Source: algorithms.md, 7; G. H. Golub, Numerical methods for solving linear least squares
problems, 1965.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Array

BINS = 1024  # of the histogram that stands for the samples
GRID = 257  # points of the uniform floor
FLOORS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # weight of the floor, samples having 1
TAIL = 50.0  # largest error in the interval, times that of the unweighted fit


@dataclass(frozen=True, eq=False)
class Density:
    """A weighted regression problem on [-1, 1]: where inputs fall, and the outputs wanted there."""

    t: Array  # (points,)
    wanted: Array  # (points,)
    weight: Array  # (points,), not negative


def histogram(t: Array, wanted: Array, weight: Array | None = None) -> Density:
    """Sum up many samples by `BINS` bins of [-1, 1], each with its mean input and output.

    `t` and `wanted` have one shape; what lies outside goes to the outermost bins.
    """
    flat, outputs = t.ravel(), wanted.ravel()
    weights = np.ones(flat.size) if weight is None else weight.ravel()
    index = np.clip(((flat + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
    mass = np.bincount(index, weights, BINS)
    used = mass > 0
    means = [np.bincount(index, weights * v, BINS)[used] / mass[used] for v in (flat, outputs)]
    return Density(means[0], means[1], mass[used] / weights.sum())


def fit(values: Array, density: Density | None, degree: int) -> Array:
    """Return Chebyshev coefficients (degree + 1,) of the weighted, bounded least-squares fit.

    `values` holds the function at `grid()`; without a density the fit is unweighted.
    """
    t = grid()
    uniform = _solve(t, values, np.full(t.size, 1.0 / t.size), degree)
    if density is None:
        return uniform
    bound = TAIL * _largest_error(uniform, values) + 1e-12 * np.abs(values).max()
    for floor in FLOORS:
        coefficients = _solve(
            np.concatenate((density.t, t)),
            np.concatenate((density.wanted, values)),
            np.concatenate((density.weight, np.full(t.size, floor / t.size))),
            degree,
        )
        if _largest_error(coefficients, values) <= bound:
            return coefficients
    return uniform


def grid() -> Array:
    """Return the points of [-1, 1] at which `fit` wants the function, (GRID,)."""
    return np.linspace(-1.0, 1.0, GRID)


def fit_each(t: Array, wanted: Array, values: Array, degree: int, floor: float) -> Array:
    """Fit one polynomial for each row of samples: Chebyshev coefficients (degree + 1, rows).

    `t` and `wanted` are (rows, samples); `values` (rows, GRID) is the function at `grid()`, with
    weight `floor` relative to the samples.
    """
    basis, tails = _chebyshev_values(t, degree), _chebyshev_values(grid(), degree)
    gram = np.empty((len(t), degree + 1, degree + 1))
    right = np.empty((len(t), degree + 1))
    for i in range(degree + 1):
        right[:, i] = (basis[i] * wanted).mean(axis=1) + floor * (values @ tails[i]) / GRID
        for j in range(degree + 1):
            own = np.einsum("rs,rs->r", basis[i], basis[j]) / t.shape[1]
            gram[:, i, j] = own + floor * (tails[i] @ tails[j]) / GRID
    return np.asarray(np.linalg.solve(gram, right[:, :, None])[:, :, 0].T, np.float64)


def on_interval(function: Function, low: Array, high: Array) -> Array:
    """Return the function at `grid()` of each interval, (intervals, GRID)."""
    centre, radius = (low + high)[:, None] / 2, (high - low)[:, None] / 2
    return function(centre + radius * grid())


def _chebyshev_values(t: Array, degree: int) -> list[Array]:
    values = [np.ones_like(t), t]
    while len(values) <= degree:
        values.append(2 * t * values[-1] - values[-2])
    return values[: degree + 1]


def _solve(t: Array, wanted: Array, weight: Array, degree: int) -> Array:
    root = np.sqrt(weight)
    matrix = np.polynomial.chebyshev.chebvander(t, degree) * root[:, None]
    return np.asarray(np.linalg.lstsq(matrix, wanted * root)[0], np.float64)


def _largest_error(coefficients: Array, values: Array) -> float:
    errors = np.polynomial.chebyshev.chebval(grid(), coefficients) - values
    return float(np.abs(errors).max())
