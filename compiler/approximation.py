"""Fit polynomials to functions: least squares in the Chebyshev basis, weighted by what is seen.

All fits are over t in [-1, 1]. Data from calibration say where inputs fall; a uniform floor of
weight keeps the polynomial near the function everywhere else in the interval, and grows until it
does: nowhere worse than `TAIL` times the largest error of the unweighted fit, and nowhere larger
than `BOUND` times the function.

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
BOUND = 4.0  # largest value of a polynomial where it has to stay bounded, times the function's
SMALLEST = 0.1  # of the values of a row, relative to the largest row's
EACH_FLOORS = (0.01, 0.1, 1.0, 10.0)  # of the fits that each row has to itself


@dataclass(frozen=True, eq=False)
class Density:
    """A weighted regression problem on [-1, 1]: where inputs fall, and the outputs wanted there."""

    t: Array  # (points,)
    wanted: Array  # (points,)
    weight: Array  # (points,), not negative


@dataclass(frozen=True, eq=False)
class Moments:
    """What fits of `degree` need to know of samples, row by row: means of Chebyshev polynomials."""

    means: Array  # (rows, 2 degree + 1), of T_k(t)
    products: Array  # (rows, degree + 1), of T_k(t) times the output wanted

    def gram(self, degree: int) -> Array:
        """Return the means of T_i T_j = (T_(i+j) + T_|i-j|) / 2, (rows, degree + 1, degree + 1)."""
        i, j = np.indices((degree + 1, degree + 1))
        return np.asarray((self.means[:, i + j] + self.means[:, np.abs(i - j)]) / 2, np.float64)

    def narrowed(self, factor: float) -> Moments:
        """Return the moments of factor * t, for a factor of at most 1."""
        terms, count = self.means.shape[1], self.products.shape[1]
        nodes = np.cos((np.arange(terms) + 0.5) * np.pi / terms)
        inverse = np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, terms - 1))
        change = inverse @ np.polynomial.chebyshev.chebvander(factor * nodes, terms - 1)
        return Moments(self.means @ change, self.products @ change[:count, :count])


def moments(t: Array, wanted: Array, degree: int) -> Moments:
    """Sum up rows of samples, (rows, samples) each, for fits of `degree`."""
    basis = _chebyshev_values(t, 2 * degree)
    means = np.stack([values.mean(axis=1) for values in basis], axis=1)
    products = [(values * wanted).mean(axis=1) for values in basis[: degree + 1]]
    return Moments(means, np.stack(products, axis=1))


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
    t, largest = grid(), float(np.abs(values).max())
    uniform = _solve(t, values, degree)
    if density is None:
        return uniform
    allowed = TAIL * _largest_error(uniform, values) + 1e-12 * largest
    seen = _normal(density.t, density.wanted, density.weight, degree)
    everywhere = _normal(t, values, np.full(t.size, 1.0 / t.size), degree)
    for floor in FLOORS:
        gram, right = (a + floor * b for a, b in zip(seen, everywhere, strict=True))
        coefficients = np.asarray(np.linalg.solve(gram, right), np.float64)
        near = _largest_error(coefficients, values) <= allowed
        if near and magnitude(coefficients) <= BOUND * largest:
            return coefficients
    return uniform


def grid() -> Array:
    """Return the points of [-1, 1] at which `fit` wants the function, (GRID,)."""
    return np.linspace(-1.0, 1.0, GRID)


def fit_each(samples: Moments, values: Array, degree: int) -> Array:
    """Fit one polynomial for each row of samples: Chebyshev coefficients (degree + 1, rows).

    `values` (rows, GRID) is the function at `grid()`, with the least weight of `EACH_FLOORS`,
    relative to the samples, that keeps the row bounded.
    """
    everywhere = moments(grid()[None], values, degree)
    rows, largest = np.arange(len(values)), row_scales(values)
    coefficients = np.zeros((degree + 1, len(values)))
    for floor in EACH_FLOORS:
        gram = samples.gram(degree)[rows] + floor * everywhere.gram(degree)
        right = samples.products[rows] + floor * everywhere.products[rows]
        found = np.linalg.solve(gram, right[:, :, None])[:, :, 0].T
        coefficients[:, rows] = found
        rows = rows[magnitude(found) > BOUND * largest[rows]]
        if not rows.size:
            break
    return coefficients


def magnitude(coefficients: Array, low: float = -1.0, high: float = 1.0) -> Array:
    """Return the largest absolute value on [low, high] of each series, (degree + 1, ...)."""
    values = np.polynomial.chebyshev.chebval(np.linspace(low, high, GRID), coefficients)
    return np.asarray(np.abs(values).max(axis=-1), np.float64)


def row_scales(values: Array) -> Array:
    """Return the largest magnitude of each row; rows that are next to nothing share one."""
    largest = np.abs(values).max(axis=1)
    return np.asarray(np.maximum(largest, SMALLEST * largest.max(initial=0.0)), np.float64)


def on_interval(function: Function, low: Array, high: Array) -> Array:
    """Return the function at `grid()` of each interval, (intervals, GRID)."""
    centre, radius = (low + high)[:, None] / 2, (high - low)[:, None] / 2
    return function(centre + radius * grid())


def _chebyshev_values(t: Array, degree: int) -> list[Array]:
    values = [np.ones_like(t), t]
    while len(values) <= degree:
        values.append(2 * t * values[-1] - values[-2])
    return values[: degree + 1]


def _normal(t: Array, wanted: Array, weight: Array, degree: int) -> tuple[Array, Array]:
    """Return the matrix and the right side of the weighted least-squares problem."""
    basis = np.polynomial.chebyshev.chebvander(t, degree)
    weighted = basis * weight[:, None]
    return basis.T @ weighted, weighted.T @ wanted


def _solve(t: Array, wanted: Array, degree: int) -> Array:
    matrix = np.polynomial.chebyshev.chebvander(t, degree)
    return np.asarray(np.linalg.lstsq(matrix, wanted)[0], np.float64)


def _largest_error(coefficients: Array, values: Array) -> float:
    errors = np.polynomial.chebyshev.chebval(grid(), coefficients) - values
    return float(np.abs(errors).max())
