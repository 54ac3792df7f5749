"""Intervals of activations: how far the inputs of each channel reach, also in samples to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from hec.compiler.approximation import grid
from hec.compiler.domains import has_ends
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Array, Shape

NARROWEST = 0.1  # a channel's interval is at least this share of its tensor's
OFF_CENTRE = 0.5  # share of the radius up to which the interval is made symmetric: no shift
ALIKE = 0.2  # by which features' largest logarithms must on average be smaller than tokens'
TINY = 1e-30  # beside the largest value of a channel
HIGHEST_ORDER = 4  # of homogeneity that is looked for
SCALINGS = (3.0, 1e6)  # tried: ReLU6 looks like ReLU unless inputs are large
SKEWS = np.linspace(-0.6, 0.6, 25)  # of centres, share of the radius

Reach: TypeAlias = Callable[[Array], Array]  # of rows of magnitudes: how far each may reach


def homogeneity(function: Function) -> int | None:
    """Return k if f(c x) = c^k f(x) for c > 0, 1 for ReLU: its intervals may be scaled."""
    once = function(grid())
    for order in range(HIGHEST_ORDER + 1):
        if all(
            np.allclose(function(c * grid()), c**order * once, rtol=1e-12, atol=0.0)
            for c in SCALINGS
        ):
            return order
    return None


def channels_of(values: Array, shape: Shape) -> Shape:
    """Return the shape by which elements of (samples, elements) form channels.

    A tensor (1, a, b) is a signal of a channels, or has b features of each of a tokens; which, the
    values tell: the elements of one channel are alike. Features count as channels one by one.
    """
    if len(shape) != 3 or shape[0] != 1:
        return shape
    peaks = np.abs(values).max(axis=0).reshape(shape[1:])
    signal, feature = (np.log(peaks.max(axis=axis) + TINY).mean() for axis in (1, 0))
    return (1, values.shape[1]) if feature < signal - ALIKE else shape


def by_channel(values: Array, shape: Shape) -> Array:
    """Return (samples, elements) as (channels, samples of that channel)."""
    channels = _channels(shape)
    count = len(values)
    return np.ascontiguousarray(values.reshape(count, channels, -1).swapaxes(0, 1)).reshape(
        channels, -1
    )


def by_sample(values: Array, samples: int) -> Array:
    """Return what `by_channel` returned as (samples, elements) again."""
    each = values.reshape(len(values), samples, -1).swapaxes(0, 1)
    return np.ascontiguousarray(each).reshape(samples, -1)


def each_element(values: Array, shape: Shape) -> Array:
    """Return one value per channel as one per element."""
    elements = int(np.prod(shape))
    return np.repeat(values, elements // values.size)


def _channels(shape: Shape) -> int:
    """Return the channels of an image, (1, channels, ...); else every element is one."""
    return shape[1] if len(shape) >= 3 and shape[0] == 1 else int(np.prod(shape))


def shared_intervals(
    x: Array, function: Function, samples: int, reach_of: Reach
) -> tuple[Array, Array]:
    """Return the interval of each channel, when all have the same approximation."""
    if homogeneity(function) is None:
        whole = x.reshape(len(x), samples, -1).swapaxes(0, 1).reshape(1, -1)
        centre, radius = (whole.max() + whole.min()) / 2, (whole.max() - whole.min()) / 2
        if abs(centre) <= OFF_CENTRE * radius:
            centre = 0.0
        widest = reach_of(np.abs(whole - centre))
        radii = not_zero(np.repeat(widest, len(x)))
        return within_domain(function, whole, centre - radii, centre + radii)
    radii = reach_of(np.abs(x))
    radii = not_zero(np.maximum(radii, NARROWEST * radii.max(initial=0.0)))
    return -radii, radii


def skewed_intervals(x: Array, function: Function, reach_of: Reach) -> tuple[Array, Array]:
    """Return the intervals of `shared_intervals`, each end as far as values go on its side.

    `x` is (rows, inputs). Where rows have intervals of their own, their centres are the same share
    of their radii, so that the function is the same for all: the share that makes them shortest.
    """
    if homogeneity(function) is None:
        middle = float(x.max() + x.min()) / 2
        up, down = (float(_one_sided(side * (x - middle), reach_of).max()) for side in (1, -1))
        if up + down == 0.0:  # a constant
            up = down = 1.0
        ends = (np.full(len(x), end) for end in (middle - down, middle + up))
        return within_domain(function, x.reshape(1, -1), *ends)
    above, below = _one_sided(x, reach_of), _one_sided(-x, reach_of)
    least = NARROWEST / 2 * max(above.max(), below.max())
    above, below = np.maximum(above, least), np.maximum(below, least)
    each = [np.maximum(above / (1 + skew), below / (1 - skew)) for skew in SKEWS]
    best = int(np.argmin([np.square(radius).sum() for radius in each]))
    radius = not_zero(each[best])
    return (SKEWS[best] - 1) * radius, (SKEWS[best] + 1) * radius


def _one_sided(x: Array, reach_of: Reach) -> Array:
    """Return how far each row may reach above zero."""
    return reach_of(np.maximum(x, 0.0))


def within_domain(function: Function, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the intervals cut off where `function` is continued, if `x` (rows, samples) allows.

    Beyond there lie no inputs of the network itself, only those of its approximation.
    """
    if function.extension is None:
        return low, high
    least = np.minimum(function.extension.low, x.min(axis=1))
    most = np.maximum(function.extension.high, x.max(axis=1))
    return np.maximum(low, least), np.minimum(high, most)


def outward(t: Array, function: Function, low: Array, high: Array) -> Array:
    """Return how far each row of `t` is from the centre, towards ends that are not the domain's.

    `t` is (rows, samples) in units of the intervals; an input never passes the end of the domain.
    """
    extension = function.extension
    if extension is None or not has_ends(function):
        return np.abs(t)
    below, above = (low > extension.low)[:, None], (high < extension.high)[:, None]
    return np.asarray(np.where(np.where(t < 0, below, above), np.abs(t), 0.0), np.float64)


def sample_peaks(x: Array, samples: int) -> Array:
    """Return the largest magnitude of each row in each sample, (rows, samples)."""
    return np.asarray(np.abs(x).reshape(len(x), samples, -1).max(axis=2), np.float64)


def reach(x: Array, samples: int, margin: float, outside: float) -> Array:
    """Return how far each row of magnitudes may reach in samples yet to come, a generous bound.

    That is the largest seen, `margin` times, or more: each sample's largest is taken to follow
    a Gumbel distribution, and the reach is exceeded with probability `outside`.
    """
    peaks = sample_peaks(x, samples)
    steps = np.sqrt(6) / np.pi * (-np.log(outside) - np.euler_gamma)
    steps *= 1 + np.sqrt(2 / samples)  # two standard errors of the standard deviation
    largest = margin * peaks.max(axis=1)
    expected = peaks.mean(axis=1) + steps * peaks.std(axis=1)
    return np.asarray(np.maximum(expected, largest), np.float64)


def tail(t: Array) -> float:
    """Return the probability that an element of another sample has a magnitude beyond 1.

    `t` is (samples, elements), a whole tensor in units of its intervals; each sample's largest
    magnitude is taken to follow a Gumbel distribution of the mean and deviation seen.
    """
    peaks = np.abs(t).max(axis=1)
    deviation = float(peaks.std())
    if not deviation:
        return float(peaks.max() > 1)
    steps = np.pi / np.sqrt(6) * (1.0 - float(peaks.mean())) / deviation + np.euler_gamma
    return float(-np.expm1(-np.exp(-steps)))


def not_zero(radius: Array) -> Array:
    """Return the radii, with 1 for a channel that is constant."""
    return np.where(radius > 0, radius, 1.0)
