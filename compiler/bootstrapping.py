"""Levels and scales around a bootstrap, as the functional bootstrap of OpenFHE has them.

SlotsToCoeffs comes first, on the lowest levels; then the modulus is raised, and CoeffsToSlots, the
complex exponential and the powers of its series follow. Between two bootstraps a value keeps the
scale of its level: that of the top is the top prime, and a square is rescaled from each to the
next.

Source: OpenFHE 1.6.1, `GetFEFBTDepth` (a test compares); Kim, Papadimitriou and Polyakov,
"Approximate Homomorphic Encryption with Reduced Approximation Error" (CT-RSA 2022), for the scales.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log2
from typing import Final

from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters

DEGREES: Final = (7, 15, 31, 63)  # of Fourier series: the longest for each number of levels
EXPONENTIAL_LEVELS: Final = 10  # of exp(i pi x), overflows of a sparse encapsulated secret included


def series_levels(degree: int) -> int:
    """Return the levels of the powers of a series of `degree`."""
    return ceil(log2(degree + 1))


def input_level(how: Bootstrapping) -> int:
    """Return the lowest level at which a ciphertext can be refreshed."""
    return how.levels[1] + 1


def spent_levels(how: Bootstrapping, degree: int) -> int:
    """Return the levels between the top and the unrescaled result of a series of `degree`."""
    return how.levels[0] + series_levels(degree) + EXPONENTIAL_LEVELS


def top_level(how: Bootstrapping, degree: int, after: int) -> int:
    """Return the top level that leaves `after` levels to matrices between two bootstraps."""
    return spent_levels(how, degree) + 1 + after + input_level(how)


@lru_cache(maxsize=64)
def level_scales(primes: tuple[int, ...]) -> tuple[float, ...]:
    """Return the scale that values have at every level, from level 0 upwards."""
    scales = [float(primes[-1])]
    for prime in primes[:0:-1]:
        scales.append(scales[-1] ** 2 / prime)
    return tuple(reversed(scales))


def result_level(parameters: EncryptionParameters, how: Bootstrapping, degree: int) -> int:
    """Return the level of the unrescaled result of a series of `degree`."""
    return parameters.top_level - spent_levels(how, degree)
