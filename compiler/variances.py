"""Variances of the error of a value, and how far its tails reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Final

import numpy as np
from scipy import special

FAILURE: Final = 1e-6  # probability that any slot of a value errs by more than its bound


@dataclass(frozen=True)
class Variances:
    """Of the error of one value, slots in [-1, 1]."""

    mean: float  # over the slots that hold something
    everywhere: float  # over all slots
    worst: float  # of the worst slot, at the usual size of values
    most: float  # of any slot, at any size of values, but for spikes
    spike: float  # what may come on top of it, in single slots
    filled: float  # share of the slots that hold something
    peak: float = 0.0  # what key switches add in single slots, at the usual size of values

    def plus(self, each: float, tail: float = 1.0, peak: float = 0.0) -> Variances:
        """Return the variances with those of an error of every slot added.

        Its bound is that of a Gaussian with `tail` times the variance; in few slots `peak` is
        added.
        """
        return Variances(
            self.mean + each,
            self.everywhere + each,
            self.worst + each,
            self.most + tail * each,
            self.spike + peak,
            self.filled,
            self.peak + peak,
        )


@lru_cache(maxsize=64)
def tail(slots: int, failure: float = FAILURE) -> float:
    """Return the deviations that none of `slots` Gaussian errors exceeds, but for `failure`."""
    return float(-special.ndtri(failure / (2 * slots)))


@lru_cache(maxsize=64)
def laplace(slots: int) -> float:
    """Return the variance of a Gaussian over that of a Laplace distribution of the same tail.

    An error times the secret key is a product of two complex Gaussians in every slot, one of which
    stays the same until the key changes: its real part has the distribution of Laplace.
    """
    return float((np.log(slots / FAILURE) / sqrt(2) / tail(slots)) ** 2)
