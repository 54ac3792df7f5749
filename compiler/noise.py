"""The errors that CKKS adds, as standard deviations in slots before division by the scale.

A polynomial with independent coefficients of variance v has, in the canonical embedding, slots whose
real part has variance N v / 2. Everything below is a coefficient variance times that.

Source: Cheon et al., "Homomorphic Encryption for Arithmetic of Approximate Numbers" (ASIACRYPT
2017), section 3; Kim, Papadimitriou and Polyakov, "Approximate Homomorphic Encryption with Reduced
Approximation Error" (CT-RSA 2022), for RNS key switching.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

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


def key_switching(parameters: EncryptionParameters, level: int) -> float:
    """Error of one rotation or relinearization at `level`: one digit per prime."""
    degree = parameters.ring_degree
    ratio = sum((prime / parameters.special_prime) ** 2 for prime in parameters.primes[: level + 1])
    products = degree * ratio * ROUNDING_VARIANCE * ERROR_DEVIATION**2
    rounding = ROUNDING_VARIANCE * (1 + SECRET_VARIANCE * degree)
    return _in_slots(degree, products + rounding)
