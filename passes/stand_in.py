"""A stand-in for one activation: how its fit sees the data, and the steps it becomes.

A stand-in is y = gain * p(scale * x + shift) + bias, each factor per element: all but p is affine
and fuses into the layers around it, at no cost. So channels may have intervals of their own where
the function allows it (ReLU does: it is positively homogeneous), and their mean errors are
corrected one by one. p is a polynomial, or a Fourier series that a bootstrap evaluates. Polynomials
of its own cost a channel nothing either: quadratics always have them, and the neurons of dense
layers wherever calibration shows enough of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hec.compiler import approximation, fourier
from hec.compiler.approximation import Density, fit_each, histogram, on_interval
from hec.compiler.calibration import Range
from hec.compiler.evaluate import polynomial
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Fit,
    Linear,
    Polynomial,
    TensorOperation,
)
from hec.passes.intervals import (
    NARROWEST,
    by_channel,
    channels_of,
    each_element,
    homogeneity,
    not_zero,
    reach,
    shared_intervals,
    within_domain,
)
from hec.passes.matrices import diagonal_matrix

ENOUGH = 64  # samples of a channel before it gets coefficients of its own
SAMPLES_PER_DEGREE = 8  # and this many for each degree
FLOOR = 0.01  # weight of the uniform floor under a channel's own polynomial


@dataclass(frozen=True, eq=False)
class Family:
    """Functions of t, meant for [-1, 1], among which the one of a stand-in is sought."""

    grid: Array  # the points t at which `fit` wants the function
    fit: Callable[[Array, Density | None, int], Array]  # values at the grid, samples, degree
    values: Callable[[Array, Array], Array]  # of coefficients (terms,) or (terms, elements) at t
    radius: float  # of the interval on which the operation itself takes its operand


def _polynomial_values(coefficients: Array, t: Array) -> Array:
    return polynomial(Polynomial(0, coefficients, "chebyshev", t.shape[1:]), t)


def _series_values(coefficients: Array, t: Array) -> Array:
    return fourier.series(coefficients, t / 2)


POLYNOMIALS: Final = Family(approximation.grid(), approximation.fit, _polynomial_values, 1.0)
SERIES: Final = Family(2 * fourier.grid(), fourier.fit, _series_values, 0.5)


@dataclass(frozen=True, eq=False)
class StandIn:
    """y = gain * p(scale * x + shift) + bias, in place of an activation."""

    family: Family  # of p
    scale: Array  # (elements,)
    shift: Array  # (elements,)
    coefficients: Array  # (degree + 1,), Chebyshev's also (degree + 1, elements); (2, degree + 1)
    gain: Array  # (elements,)
    bias: Array  # (elements,)
    interval: tuple[float, float]  # the least that holds those of all elements
    tail: float | None = None  # as in `Fit`
    noisy: Array | None = None  # y for the samples of the fit, (samples, elements), with noise

    def values(self, x: Array) -> Array:
        """Return y for `x`, (samples, elements)."""
        t = self.scale * x + self.shift
        return self.gain * self.family.values(self.coefficients, t) + self.bias

    def without_layer(self) -> StandIn:
        """Return y with its mean bias inside p, if no affine step is left then; else y as it is.

        For readers that multiply y, into which a step of its own could not fuse: it takes a level.
        """
        if (self.gain != 1.0).any():
            return self
        mean = float(self.bias.mean())
        coefficients = self.coefficients.copy()
        if self.family is POLYNOMIALS:
            coefficients[0] += mean
        else:
            coefficients[0, 0] += mean / 2
        noisy = None if self.noisy is None else self.noisy - self.bias + mean
        bias = np.zeros_like(self.bias)
        return replace(self, coefficients=coefficients, bias=bias, noisy=noisy)

    def operations(
        self, activation: Activation, operand: int, first: int, fit: Fit
    ) -> list[TensorOperation]:
        """Return the steps, the first at position `first`, reading `operand`."""
        shape, origin = activation.shape, activation.origin
        scaling = diagonal_matrix(self.family.radius * self.scale)
        shift = self.family.radius * self.shift
        core: TensorOperation = Bootstrap(first, self.coefficients, shape, origin, fit)
        if self.family is POLYNOMIALS:
            core = Polynomial(first, self.coefficients, "chebyshev", shape, origin, fit)
        return [
            Linear((operand,), (scaling,), shift, shape, origin),
            core,
            Linear((first + 1,), (diagonal_matrix(self.gain),), self.bias, shape, origin),
        ]


def stand_in(
    activation: Activation, operand: Range, wanted: Array | None, degree: int, margin: float
) -> StandIn:
    """Fit a stand-in of `degree` to inputs in `operand`, to give the outputs `wanted`.

    With samples, `operand.values` and `wanted` are (samples, elements), and the interval is what
    they span, `margin` times; without, it is `operand`, and all of it counts the same.
    """
    if operand.values is None or wanted is None:
        return unweighted(POLYNOMIALS, activation.function, operand, degree)
    shape = channels_of(operand.values, activation.shape)
    x, y = by_channel(operand.values, shape), by_channel(wanted, shape)
    dense = len(shape) <= 2
    own = x.shape[1] >= max(ENOUGH, SAMPLES_PER_DEGREE * degree) and (degree <= 2 or dense)
    low, high = (
        _own_intervals(activation.function, x, margin, None if degree <= 2 else len(wanted))
        if own
        else shared_intervals(x, activation.function, margin, len(wanted))
    )
    centre, radius = (low + high) / 2, (high - low) / 2
    t = (x - centre[:, None]) / radius[:, None]
    if own:
        targets = on_interval(activation.function, low, high)
        coefficients = fit_each(t, y, targets, degree, FLOOR)
        gain, bias = np.ones(len(x)), np.zeros(len(x))
    else:
        coefficients, gain, bias = shared(
            POLYNOMIALS, activation.function, t, y, (centre, radius), degree
        )[:3]
    each = [each_element(v, shape) for v in (1 / radius, -centre / radius, gain, bias)]
    if coefficients.ndim == 2:
        coefficients = np.stack([each_element(row, shape) for row in coefficients])
    interval = float(low.min()), float(high.max())
    return StandIn(POLYNOMIALS, each[0], each[1], coefficients, each[2], each[3], interval)


def _own_intervals(
    function: Function, x: Array, margin: float, samples: int | None
) -> tuple[Array, Array]:
    """Return the interval of each channel, when each has its own polynomial."""
    low, high = x.min(axis=1), x.max(axis=1)
    centre, radius = (low + high) / 2, margin * (high - low) / 2
    if samples is not None:
        radius = reach(np.abs(x - centre[:, None]), samples, margin)
    radius = not_zero(np.maximum(radius, NARROWEST * radius.max(initial=0.0)))
    return within_domain(function, x, centre - radius, centre + radius)


def shared(
    family: Family,
    function: Function,
    t: Array,
    y: Array,
    intervals: tuple[Array, Array],
    degree: int,
) -> tuple[Array, Array, Array, Array]:
    """Return the coefficients for all channels, each channel's gain and bias, the fitted values.

    `t` and `y` are (channels, samples), `intervals` the centres and radii of the channels.
    """
    centre, radius = intervals
    unit = np.asarray(radius ** (homogeneity(function) or 0), np.float64)
    targets = function(centre[0] + radius[0] * family.grid) / unit[0]
    weight = np.broadcast_to((unit**2)[:, None], t.shape)
    coefficients = family.fit(targets, histogram(t, y / unit[:, None], weight), degree)
    values = unit[:, None] * family.values(coefficients, t)
    bias = np.zeros_like(unit)
    if t.shape[1] >= ENOUGH:  # each channel's mean error becomes zero
        bias = np.asarray((y - values).mean(axis=1), np.float64)
    return coefficients, unit, bias, values + bias[:, None]


def unweighted(family: Family, function: Function, operand: Range, degree: int) -> StandIn:
    """Return the stand-in for inputs anywhere in `operand`, one interval for all elements."""
    low, high = operand.interval()
    count = operand.low.size
    centre, radius = (low + high) / 2, float(not_zero(np.array((high - low) / 2)))
    return StandIn(
        family,
        np.full(count, 1 / radius),
        np.full(count, -centre / radius),
        family.fit(function(centre + radius * family.grid), None, degree),
        np.ones(count),
        np.zeros(count),
        (low, high),
    )
