"""Families of functions, one of which stands for an activation: polynomials, and Fourier series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from hec.compiler import approximation, fourier
from hec.compiler.approximation import Density
from hec.compiler.evaluate import polynomial
from hec.compiler.tensor_ir import Array, Polynomial


@dataclass(frozen=True, eq=False)
class Family:
    """Functions of t, meant for [-1, 1], among which the one of a stand-in is sought."""

    grid: Array  # the points t at which `fit` wants the function
    fit: Callable[[Array, Density | None, int], Array]  # values at the grid, samples, degree
    values: Callable[[Array, Array], Array]  # of coefficients (terms,) or (terms, elements) at t
    radius: float  # of the interval on which the operation itself takes its operand


def _polynomial_values(coefficients: Array, t: Array) -> Array:
    return polynomial(Polynomial(0, coefficients, "chebyshev", t.shape[1:]), t)


def series_on(interval: fourier.Interval) -> Family:
    """Return the Fourier series whose argument lies in `interval`."""
    radius = interval.radius
    return Family(
        interval.grid() / radius,
        partial(fourier.fit, interval=interval),
        lambda coefficients, t: fourier.series(coefficients, radius * t),
        radius,
    )


POLYNOMIALS: Final = Family(approximation.grid(), approximation.fit, _polynomial_values, 1.0)
SERIES: Final = series_on(fourier.HALF)
