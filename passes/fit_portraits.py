"""Portraits of fits, for reports: where the inputs of an activation fell, and how its fit looks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Array, Curve, Histogram
from hec.passes.families import POLYNOMIALS
from hec.passes.stand_in import StandIn

BINS: Final = 40
POINTS: Final = 81
BEYOND: Final = 0.1  # share of the interval's width that a curve shows on either side of it


def input_histogram(x: Array, interval: tuple[float, float]) -> Histogram | None:
    """Return how `x`, any shape, falls into bins that span `interval` and all of `x`."""
    if not x.size or not np.isfinite(x).all():
        return None
    low, high = min(interval[0], float(x.min())), max(interval[1], float(x.max()))
    if not low < high:
        return None
    counts, _ = np.histogram(x, BINS, (low, high))
    return Histogram(low, high, tuple(counts.tolist()))


def fitted_curve(function: Function, made: StandIn) -> Curve | None:
    """Return `function` and its stand-in, in the channel with the widest interval.

    None if the function is not defined all over that interval.
    """
    widest = int(np.argmin(made.scale))
    one = _only(made, widest)
    centre, radius = -one.shift[0] / one.scale[0], made.radius / one.scale[0]
    for reach in (1 + 2 * BEYOND, 1.0):
        x = centre + reach * radius * np.linspace(-1.0, 1.0, POINTS)
        exact, fitted = function(x), one.values(x[:, None])[:, 0]
        if np.isfinite(exact).all() and np.isfinite(fitted).all() and (np.diff(x) > 0).all():
            return Curve(tuple(x.tolist()), tuple(exact.tolist()), tuple(fitted.tolist()))
    return None


def _only(made: StandIn, element: int) -> StandIn:
    """Return the stand-in of one element alone."""
    chosen = slice(element, element + 1)
    coefficients = made.coefficients
    if made.family is POLYNOMIALS and coefficients.ndim == 2:
        coefficients = coefficients[:, chosen]
    return replace(
        made,
        scale=made.scale[chosen],
        shift=made.shift[chosen],
        gain=made.gain[chosen],
        bias=made.bias[chosen],
        coefficients=coefficients,
        noisy=None,
    )
