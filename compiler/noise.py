"""The errors that CKKS adds, as standard deviations in slots before division by the scale.

A polynomial with independent coefficients of variance v has, in the canonical embedding, slots
whose real part has variance N v / 2. Everything below is a coefficient variance times that.

Source: Cheon et al., "Homomorphic Encryption for Arithmetic of Approximate Numbers" (ASIACRYPT
2017), section 3; Kim, Papadimitriou and Polyakov, "Approximate Homomorphic Encryption with Reduced
Approximation Error" (CT-RSA 2022), for RNS key switching.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import EncryptionParameters

ERROR_DEVIATION: Final = 3.2  # of a fresh coefficient; SEAL's and the standard's choice
SECRET_VARIANCE: Final = 2 / 3  # uniform ternary secret
ROUNDING_VARIANCE: Final = 1 / 12  # of rounding to an integer


def _in_slots(ring_degree: int, coefficient_variance: float) -> float:
    return sqrt(ring_degree / 2 * coefficient_variance)


def encoding(ring_degree: int) -> float:
    """Error of rounding an encoded plaintext's coefficients."""
    return _in_slots(ring_degree, ROUNDING_VARIANCE)


def encryption(ring_degree: int) -> float:
    """Error of a fresh encryption under the secret key, its encoding included."""
    return _in_slots(ring_degree, ERROR_DEVIATION**2 + ROUNDING_VARIANCE)


def rescaling(ring_degree: int) -> float:
    """Error of dividing a ciphertext by a prime and rounding both its polynomials."""
    return _in_slots(ring_degree, ROUNDING_VARIANCE * (1 + SECRET_VARIANCE * ring_degree))


def key_switching(parameters: EncryptionParameters, level: int) -> NDArray[np.float64]:
    """Error of one rotation or relinearization at `level` in every slot, (slots,).

    SEAL decomposes into digits in [0, prime), one per prime. Their mean, prime / 2 in every
    coefficient, is a polynomial with a peak where the slot's root of unity is near 1: the first
    slots get many times the error of the others, unless the special prime is larger by some bits.
    """
    degree, special = parameters.ring_degree, prod(parameters.special_primes)
    ratio = sum((prime / special) ** 2 for prime in parameters.primes[: level + 1])
    products = ratio * ERROR_DEVIATION**2 * (degree * ROUNDING_VARIANCE + _peaks(degree))
    rounding = ROUNDING_VARIANCE * (1 + SECRET_VARIANCE * degree)
    return np.asarray(np.sqrt(degree / 2 * (products + rounding)), np.float64)


def bootstrapping(parameters: EncryptionParameters) -> float:
    """Error of a functional bootstrap, as one of its argument, whose range has width 1."""
    return float(2.0e-4 * 2.0**33 / parameters.primes[-1])


@lru_cache(maxsize=8)
def _peaks(ring_degree: int) -> NDArray[np.float64]:
    """Return 1 / |1 - root|^2 for the root of unity of every slot."""
    exponents, power = [], 1
    for _ in range(ring_degree // 2):
        exponents.append(power)
        power = power * 3 % (2 * ring_degree)
    roots = np.exp(1j * np.pi * np.array(exponents) / ring_degree)
    return np.asarray(1 / np.abs(1 - roots) ** 2, np.float64)
