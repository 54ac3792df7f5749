"""The errors that CKKS adds, as standard deviations in slots before division by the scale.

A polynomial with independent coefficients of variance v has, in the canonical embedding, slots
whose real part has variance N v / 2. Everything below is a coefficient variance times that.

Source: Cheon et al., "Homomorphic Encryption for Arithmetic of Approximate Numbers" (ASIACRYPT
2017), section 3; Kim, Papadimitriou and Polyakov, "Approximate Homomorphic Encryption with Reduced
Approximation Error" (CT-RSA 2022), for RNS key switching.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log2, prod, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import EncryptionParameters

ERROR_DEVIATION: Final = 3.2  # of a fresh coefficient; SEAL's and the standard's choice
SECRET_VARIANCE: Final = 2 / 3  # uniform ternary secret
ROUNDING_VARIANCE: Final = 1 / 12  # of rounding to an integer
_SPARSE_WEIGHT: Final = 32  # non-zero coefficients of the secret while the modulus is raised
_RESULT_ERROR: Final = 7.4e5  # fitted


def _in_slots(ring_degree: int, coefficient_variance: float) -> float:
    return sqrt(ring_degree / 2 * coefficient_variance)


def encoding(ring_degree: int) -> float:
    """Error of rounding the coefficients of an encoded vector of real numbers.

    Such a polynomial is its own mirror image, and so is what rounding adds to it: the error is real
    in every slot, with twice the variance of a real part. Where the vector repeats n times over the
    slots, all but one in n of the coefficients are zero, and exact: the variance is that of 1 / n.
    """
    return _in_slots(ring_degree, 2 * ROUNDING_VARIANCE)


def encryption(ring_degree: int) -> float:
    """Error of a fresh encryption under the secret key, its encoding included."""
    return _in_slots(ring_degree, ERROR_DEVIATION**2 + 2 * ROUNDING_VARIANCE)


def rescaling(ring_degree: int) -> float:
    """Error of dividing a ciphertext by a prime and rounding both its polynomials."""
    return _in_slots(ring_degree, ROUNDING_VARIANCE * (1 + SECRET_VARIANCE * ring_degree))


def key_switching(parameters: EncryptionParameters, level: int) -> NDArray[np.float64]:
    """Error of one rotation or relinearization at `level` in every slot of the ring, (ring_slots,).

    OpenFHE's is `hybrid_key_switching`.
    SEAL decomposes into digits in [0, prime), one per prime. Their mean, prime / 2 in every
    coefficient, is a polynomial with a peak where the slot's root of unity is near 1: the first
    slots get many times the error of the others, unless the special prime is larger by some bits.
    """
    if parameters.digits:
        return hybrid_key_switching(parameters, level)
    degree, special = parameters.ring_degree, prod(parameters.special_primes)
    ratio = sum((prime / special) ** 2 for prime in parameters.primes[: level + 1])
    products = ratio * ERROR_DEVIATION**2 * (degree * ROUNDING_VARIANCE + _peaks(degree))
    rounding = ROUNDING_VARIANCE * (1 + SECRET_VARIANCE * degree)
    return np.asarray(np.sqrt(degree / 2 * (products + rounding)), np.float64)


def usual_key_switching(parameters: EncryptionParameters, level: int) -> NDArray[np.float64]:
    """Error of one rotation or relinearization in the slots of an image, (slots,).

    That is the root mean square over the images of a batch: the first ones have larger errors.
    """
    squares = key_switching(parameters, level) ** 2
    return np.asarray(np.sqrt(squares.reshape(-1, parameters.batch).mean(axis=1)), np.float64)


def hybrid_key_switching(parameters: EncryptionParameters, level: int) -> NDArray[np.float64]:
    """Error of one rotation or relinearization at `level` in OpenFHE, (ring_slots,).

    A digit is the product of neighbouring primes; the special primes take its size away. Neither
    digits nor what that division leaves are centred: the mean of what it leaves, 1/2, meets the
    secret key, and is the same error for every rotation.
    Source: measured, OpenFHE 1.6.1: 1.3e5 to 4e5 in slot 0 at ring degree 2^13.
    """
    degree, special = parameters.ring_degree, prod(parameters.special_primes)
    width = ceil(len(parameters.primes) / parameters.digits)
    kept = parameters.primes[: level + 1]
    digits = [prod(kept[start : start + width]) for start in range(0, len(kept), width)]
    ratio = sum((digit / special) ** 2 for digit in digits)
    peaks = _peaks(degree)
    products = ratio * ERROR_DEVIATION**2 * (degree * ROUNDING_VARIANCE + peaks)
    rounding = (ROUNDING_VARIANCE + peaks / degree) * (1 + SECRET_VARIANCE * degree)
    return np.asarray(np.sqrt(degree / 2 * (products + rounding)), np.float64)


def bootstrapping(parameters: EncryptionParameters) -> float:
    """Error of a functional bootstrap, as one of its argument, whose range has width 1.

    Raising the modulus adds multiples of the first prime, one or two of them, to every coefficient;
    they vanish in exp(i pi x) as far as that prime is twice the top one and both powers of two. So
    the error follows from how far the primes are off, and not from scale or ring as such.
    Source: measured, OpenFHE 1.6.1, ring degrees 2^11 to 2^15, scales of 28 to 46 bits.
    """
    first, top = parameters.primes[0], parameters.primes[-1]
    mismatch = 2 * _off_power(first) + _off_power(top)
    multiples = sqrt(ROUNDING_VARIANCE * (1 + _SPARSE_WEIGHT))
    return 2 * multiples * mismatch * (1.0 if _is_full(parameters) else sqrt(0.5))


def bootstrap_result(parameters: EncryptionParameters, degree: int) -> float:
    """Error that a functional bootstrap adds to its result, however flat the series is.

    Source: measured with the series of ReLU, OpenFHE 1.6.1, 2^5 to 2^12 slots, degrees 7 to 31.
    """
    how = parameters.bootstrapping
    slots = parameters.slots if how is None else how.slots
    return _RESULT_ERROR * sqrt(slots) / parameters.primes[-1] / (degree + 1) ** 2


def _off_power(prime: int) -> float:
    """Return the relative distance of a prime from the nearest power of two."""
    return abs(prime / 2.0 ** round(log2(prime)) - 1)


def _is_full(parameters: EncryptionParameters) -> bool:
    how = parameters.bootstrapping
    return how is None or how.slots == parameters.slots


@lru_cache(maxsize=8)
def _peaks(ring_degree: int) -> NDArray[np.float64]:
    """Return 1 / |1 - root|^2 for the root of unity of every slot."""
    exponents, power = [], 1
    for _ in range(ring_degree // 2):
        exponents.append(power)
        power = power * 3 % (2 * ring_degree)
    roots = np.exp(1j * np.pi * np.array(exponents) / ring_degree)
    return np.asarray(1 / np.abs(1 - roots) ** 2, np.float64)
