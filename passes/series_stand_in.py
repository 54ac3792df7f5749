"""A stand-in for one activation whose core is a Fourier series, for a bootstrap to evaluate.

Its argument lies in a span of the period, of which more than half may be used: all errors are of
the argument, so the longer the span, the smaller they are in units of the activation. How long it
may be depends on what strays do: a sample's value may lie beyond the interval that calibration
gave, and beyond 1 it wraps around. Where the function is level there, only wrapping does harm.

Source: measured, docs/design/005-functional-bootstraps.md, "The span".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from hec.compiler import fourier
from hec.compiler.approximation import Density
from hec.compiler.calibration import Range
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array
from hec.passes.families import SERIES, series_on
from hec.passes.heavy_tails import each_outside, positive_reach
from hec.passes.intervals import (
    by_channel,
    by_sample,
    channels_of,
    each_element,
    outward,
    reach,
    sample_peaks,
    skewed_intervals,
    tail,
)
from hec.passes.stand_in import (
    StandIn,
    gains,
    mean_errors,
    shared_density,
    unweighted,
)

NOISE: Final = 4e-4  # of a bootstrap's argument: measured 1e-4 to 4e-4
OUTSIDE: Final = 1e-3  # probability of a sample's channel beyond its interval; measured: 005
TYPICAL: Final = fourier.Interval(0.6)
SPANS: Final = (fourier.Interval(0.75), TYPICAL, fourier.HALF)  # the first for level functions
STRAY: Final = 1.3  # times the interval: how far values may stray on the longest span
LEVEL: Final = 0.01  # of its range, what a function may rise there to be level
NORMAL: Final = np.array([-1.5, -0.5, 0.5, 1.5]) * np.sqrt(0.8)  # of mean 0 and variance 1


def series_stand_in(
    activation: Activation, operand: Range, wanted: Array | None, degree: int, margin: float
) -> StandIn:
    """Fit a series of `degree` to inputs in `operand`, to give the outputs `wanted`."""
    if operand.values is None or wanted is None:
        return unweighted(SERIES, activation.function, operand, degree)
    shape, count = channels_of(operand.values, activation.shape), len(wanted)
    x, y = by_channel(operand.values, shape), by_channel(wanted, shape)
    outside = each_outside(OUTSIDE, len(x))
    reach_of = partial(reach, samples=count, margin=margin, outside=outside)
    low, high = skewed_intervals(x, activation.function, reach_of)
    high = positive_reach(activation.function, x, high, count, outside)
    centre, radius = (low + high) / 2, (high - low) / 2
    t = (x - centre[:, None]) / radius[:, None]
    far = outward(t, activation.function, low, high)
    beyond = tail(sample_peaks(far, count).max(axis=0)[:, None])
    gain = gains(activation.function, radius)
    first = partial(_first_channel, activation.function, centre[0], radius[0], gain[0])
    noise = NOISE * np.random.default_rng(0).standard_normal(t.shape)
    density = shared_density(t + noise / TYPICAL.radius, y, gain)
    found = min(
        (_series(first, density, degree, span) for span in _spans(first)), key=lambda each: each[0]
    )
    _, coefficients, span = found
    family, held = series_on(span), span.reach / span.radius
    values = gain[:, None] * family.values(coefficients, t + noise / family.radius)
    bias = mean_errors(values, y)
    values += bias[:, None]
    each = [each_element(v, shape) for v in (1 / radius, -centre / radius, gain, bias)]
    return StandIn(
        family,
        each[0],
        each[1],
        coefficients,
        each[2],
        each[3],
        (float(low.min()), float(high.max())),
        (float((centre - held * radius).min()), float((centre + held * radius).max())),
        family.radius,
        beyond,
        by_sample(values, count),
    )


def _first_channel(
    function: Function, centre: float, radius: float, gain: float, t: Array
) -> Array:
    """Return the function of the first channel, at arguments in units of its interval.

    With the channels' gains it is that of all of them.
    """
    return function(centre + radius * t) / gain


def _spans(function: Callable[[Array], Array]) -> tuple[fourier.Interval, ...]:
    """Return the intervals of x worth trying: a long one where strays meet a level function."""
    inside, ends = function(np.linspace(-1.0, 1.0, 65)), np.array([1.0, STRAY])
    rise = max(np.ptp(function(ends)), np.ptp(function(-ends)))
    return SPANS if rise <= LEVEL * np.ptp(inside) else SPANS[1:]


def _series(
    function: Callable[[Array], Array], density: Density, degree: int, span: fourier.Interval
) -> tuple[float, Array, fourier.Interval]:
    """Return a fit's mean square error on the samples, noise included, the fit, and `span`."""
    family = series_on(span)
    noisy = density.t[:, None] + NOISE / span.radius * NORMAL
    coefficients = family.fit(function(family.grid), density, degree)
    errors = family.values(coefficients, noisy) - density.wanted[:, None]
    return float(density.weight @ (errors**2).mean(axis=1)), coefficients, span
