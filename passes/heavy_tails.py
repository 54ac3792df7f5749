"""Intervals of sums of exponentials: their largest values spread by factors, not by distances.

The largest inputs of log, 1/x and roots, as a sum in Softmax or a variance, are close to
lognormal: a Gumbel distribution of the values themselves is far too narrow for the next samples,
one of their logarithms is not.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hec.compiler.domains import has_ends
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Array
from hec.passes.intervals import reach

FURTHEST: Final = 6.0  # times the largest input seen; measured: docs/design/007
RARER: Final = 0.1  # share of the outliers of other functions: here one spoils all that follows
SKEWED: Final = 0.5  # skewness of samples' largest inputs; a Gumbel distribution has 1.14
FEW: Final = 64  # channels of a tensor that may each leave their interval as often as one


def positive_reach(
    function: Function, x: Array, high: Array, samples: int, outside: float
) -> Array:
    """Return how far up the intervals that end at `high` should reach, (rows,).

    `x` is (rows, inputs). Only where the function has no values below zero, all inputs are above,
    and the largest ones are skewed upwards: the upper end is then where the logarithm of a sample's
    largest input may be.
    """
    least, peaks = float(x.min()), x.reshape(len(x), samples, -1).max(axis=(0, 2))
    if not has_ends(function) or least <= 0 or _skewness(peaks) < SKEWED:
        return high
    largest = np.log(peaks / least)[None]
    furthest = least * np.exp(reach(largest, samples, 1.0, RARER * outside)[0])
    return np.maximum(high, min(furthest, FURTHEST * float(x.max())))


def _skewness(peaks: Array) -> float:
    centred = peaks - peaks.mean()
    return float((centred**3).mean() / (peaks.std() ** 3 or 1.0))


def each_outside(outside: float, channels: int) -> float:
    """Return the probability for one channel, so that the tensor stays within its intervals."""
    return outside * min(1.0, FEW / channels)
