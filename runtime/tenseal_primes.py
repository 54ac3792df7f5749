"""SEAL's choice of primes for a modulus chain, so that a plan can name them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import tenseal.sealapi as seal

from hec.compiler.errors import InvalidProgram


def primes(ring_degree: int, bits: Sequence[int]) -> tuple[int, ...]:
    """Return different primes of those sizes, each 1 modulo 2 * ring_degree.

    Raises `InvalidProgram` where there are not enough: small ones are few.
    """
    return _primes(ring_degree, tuple(bits))


@lru_cache(maxsize=4096)
def _primes(ring_degree: int, bits: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return tuple(prime.value() for prime in seal.CoeffModulus.Create(ring_degree, list(bits)))
    except RuntimeError as error:
        message = f"primes of {bits} bits for ring degree {ring_degree}: {error}"
        raise InvalidProgram(message) from None
