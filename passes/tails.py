"""Tails: how far the largest magnitude of a sample reaches in samples that nobody has seen yet.

Of each row (a channel, a neuron) calibration shows one peak per sample. Those above a threshold
exceed it by amounts that follow a generalised Pareto distribution, whatever the peaks themselves
follow. Its scale is the row's own; its shape, which few numbers hardly tell, is estimated from all
rows together and drawn towards that of an exponential tail, the more the fewer there are.

Source: J. Pickands, Statistical inference using extreme order statistics, Ann. Statist. 3 (1975);
J. R. M. Hosking and J. R. Wallis, Parameter and quantile estimation for the generalized Pareto
distribution, Technometrics 29 (1987), for the probability-weighted moments.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hec.compiler.tensor_ir import Array

SHARE: Final = 0.2  # of the peaks are above the threshold
FEWEST: Final = 10  # peaks above it, where there are as many
SHAPES: Final = (-0.3, 0.2)  # from a tail that ends to one with infinite fifth moments
PRIOR: Final = 50.0  # excesses that an exponential tail, of shape 0, counts for
ROWS: Final = 4.0  # rows whose excesses count: those of one layer resemble each other


def reach(peaks: Array, outside: float) -> Array:
    """Return what a peak of each row, (rows, samples), exceeds with probability `outside`.

    Never less than the largest peak seen.
    """
    samples = peaks.shape[1]
    largest = peaks.max(axis=1)
    count = min(max(int(np.ceil(SHARE * samples)), FEWEST), samples - 1)
    if count < 1:
        return np.asarray(largest, np.float64)
    highest = np.sort(peaks, axis=1)[:, -count - 1 :]
    threshold, excesses = highest[:, 0], highest[:, 1:] - highest[:, :1]
    shape = _shape(excesses)
    scale = excesses.mean(axis=1) * (1 - shape)
    scale *= 1 + 1 / np.sqrt(count)  # a standard error of the mean of an exponential tail
    found = threshold + scale * _quantile(shape, max(count / samples / outside, 1.0))
    return np.asarray(np.maximum(found, largest), np.float64)


def _shape(excesses: Array) -> float:
    """Return the shape of the tail by probability-weighted moments; `excesses` ascend."""
    rows, count = excesses.shape
    rank = (np.arange(1, count + 1) - 0.35) / count
    mean = float(excesses.mean(axis=1).sum())
    weighted = float((excesses * (1 - rank)).mean(axis=1).sum())
    if mean <= 2 * weighted:  # fewer than two excesses, or all of them the same
        return 0.0
    found = 2 - mean / (mean - 2 * weighted)
    told = count * min(float(rows), ROWS)
    return float(np.clip(found * told / (told + PRIOR), *SHAPES))


def _quantile(shape: float, times: float) -> float:
    """Return what is exceeded `times` less often than the threshold, in units of the scale."""
    logarithm = float(np.log(times))
    return logarithm if shape == 0 else float(np.expm1(shape * logarithm)) / shape
