"""Variances of the error of a value, and how far its tails reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Final

import numpy as np
from scipy import special

FAILURE: Final = 1e-6  # probability that any slot of a value errs by more than its bound


@dataclass(frozen=True)
class Local:
    """The part of an error that slots do not share: the mean of copies loses most of it."""

    variance: float = 0.0  # in every slot
    largest: float = 0.0  # what of `Variances.most` it is
    summed: float = 0.0  # variance of a mean of copies, times their number
    peak: float = 0.0  # what of `Variances.peak`, and of the spikes, it is
    amplitude: float = 0.0  # deviation of a mean of copies of which one has a peak, likewise

    def plus(self, each: float, tail: float, peak: float) -> Local:
        """Return it with an error of every slot, as `Variances.plus`."""
        return Local(
            self.variance + each,
            self.largest + tail * each,
            self.summed + each,
            self.peak + peak,
            self.amplitude + sqrt(peak),
        )

    def plus_peaks(self, peak: float, places: int) -> Local:
        """Return it with peaks in so many slots."""
        amplitude = self.amplitude + places * sqrt(peak)
        return replace(self, peak=self.peak + peak, amplitude=amplitude)

    def scaled(self, usual: float, most: float) -> Local:
        """Return it times a slope of that square, of the largest one where values are unusual."""
        grown = usual * self.variance, most * self.largest, usual * self.summed
        return Local(*grown, usual * self.peak, sqrt(most) * self.amplitude)

    def joined(self, other: Local) -> Local:
        """Return the sum with that of another value, whose errors are its own."""
        return Local(
            self.variance + other.variance,
            self.largest + other.largest,
            self.summed + other.summed,
            self.peak + other.peak,
            self.amplitude + other.amplitude,
        )

    def folded(self, steps: int, parts: float) -> Local:
        """Return that of a rotate-and-sum of 2^steps slots, `parts` of which may be unusual."""
        terms, more = 2.0**steps, self.largest - self.variance
        return Local(
            terms * self.variance,
            terms * self.variance + min(terms, parts) * more,
            terms**2 * self.summed,
            self.peak,
            terms * self.amplitude,
        )

    def plus_switches(
        self, steps: int, each: float, tail: float, peaks: tuple[float, float]
    ) -> Local:
        """Return it with a key switch of every step, which later steps add to itself.

        `peaks` are what one of them adds in a single slot, and what all of them do.
        """
        one, together = peaks
        terms = 2.0**steps
        return Local(
            self.variance + (terms - 1) * each,
            self.largest + tail * (terms - 1) * each,
            self.summed + (terms**2 - 1) / 3 * each,
            self.peak + together,
            self.amplitude + (terms - 1) * sqrt(one),
        )


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
    local: Local = Local()

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
            self.local.plus(each, tail, peak),
        )

    def averaged(self, copies: int, tail: float) -> Variances:
        """Return those of the mean of so many copies of every element."""
        part = self.local
        kept = min(part.variance, part.summed / copies)
        most = min(part.largest, tail * part.summed / copies)
        peak = min(part.peak, (part.amplitude / copies) ** 2)
        return Variances(
            max(0.0, self.mean - part.variance) + kept,
            max(0.0, self.everywhere - part.variance) + kept,
            max(0.0, self.worst - part.variance) + kept,
            max(0.0, self.most - part.largest) + most,
            max(0.0, self.spike - part.peak) + peak,
            self.filled,
            max(0.0, self.peak - part.peak) + peak,
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
