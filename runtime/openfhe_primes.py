"""OpenFHE's choice of primes for a modulus chain, so that a plan can name them without the library.

Scaling primes alternate around a power of two, or, between bootstraps, around the scale of their
level. Contexts compare with what the library made.

Source: OpenFHE 1.6.1, `ParameterGenerationCKKSRNS` and `CryptoParametersRNS` (tests compare).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from math import ceil, prod
from typing import Final

from hec.compiler.errors import InvalidProgram

SPECIAL_BITS: Final = 60  # of every prime used inside key switching only
LARGEST_BITS: Final = 60  # of the first prime; scaling primes have one less
_OUTWEIGH_BITS: Final = 4  # by which special primes are larger than a digit
_WITNESSES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)  # enough below 3.3e24

Chain = tuple[tuple[int, ...], tuple[int, ...]]  # primes from level 0 upwards, and special ones


def chain(
    ring_degree: int, bits: Sequence[int], digits: int = 0, bootstrapping: bool = False
) -> Chain:
    """Return the primes of those sizes, from level 0 upwards, and the special primes.

    All but the first have one size, no larger than the first's. `digits` are those of key
    switching; 0: one for each prime. Raise `InvalidProgram` where OpenFHE has no such chain.
    """
    return _chain(ring_degree, tuple(bits), digits or len(bits), bootstrapping)


def special_count(primes: Sequence[int], digits: int) -> int:
    """Return how many special primes key switching takes, to outweigh its largest digit."""
    width = ceil(len(primes) / digits)
    parts = [prod(primes[start : start + width]) for start in range(0, len(primes), width)]
    if len(parts) != digits:
        raise InvalidProgram(f"OpenFHE cannot split {len(primes)} primes into {digits} digits")
    return ceil((max(part.bit_length() for part in parts) + _OUTWEIGH_BITS) / SPECIAL_BITS)


@lru_cache(maxsize=4096)
def _chain(ring_degree: int, bits: tuple[int, ...], digits: int, bootstrapping: bool) -> Chain:
    order = 2 * ring_degree
    primes = _primes(order, bits, bootstrapping)
    count = special_count(primes, digits)
    above = (p for p in _special_primes(order, count + 1) if p not in primes)
    return primes, tuple(islice(above, count))


@lru_cache(maxsize=4096)
def _primes(order: int, bits: tuple[int, ...], bootstrapping: bool) -> tuple[int, ...]:
    first, scaling = bits[0], set(bits[1:])
    largest = max(scaling, default=0)
    if len(scaling) > 1 or largest > first or max(first, largest + 1) > LARGEST_BITS:
        raise InvalidProgram(f"OpenFHE has no chain of {bits} bits")
    scales = _scaling_primes(order, bits[-1], len(bits) - 1, bootstrapping) if scaling else ()
    like_others = _above(max(scales), order) if first in scaling else _below(2**first + 1, order)
    return (next(p for p in like_others if p not in scales), *scales)


@lru_cache(maxsize=1024)
def _special_primes(order: int, count: int) -> tuple[int, ...]:
    return tuple(islice(_below(2**SPECIAL_BITS + 1, order), count))


@lru_cache(maxsize=1024)
def _scaling_primes(order: int, bits: int, count: int, follow: bool) -> tuple[int, ...]:
    """Return the primes of levels 1 to `count`; they are chosen from the top downwards."""
    primes = [next(_above(2**bits + 1 - order, order))]
    below = above = primes[0]
    scale = float(primes[0])
    for number in range(count - 1):
        if follow:
            scale = scale**2 / primes[-1]
            nearest = round(scale) - round(scale) % order + 1
            below, above = nearest - order, nearest + order
        if number % 2 == 0:
            below = next(p for p in _below(below, order) if p not in primes)
            primes.append(below)
        else:
            above = next(p for p in _above(above, order) if p not in primes)
            primes.append(above)
    return tuple(reversed(primes))


def _above(start: int, order: int) -> _Primes:
    return _Primes(start, order)


def _below(start: int, order: int) -> _Primes:
    return _Primes(start, -order)


class _Primes:
    """The primes after `start`, in steps that keep them 1 modulo 2 * ring degree."""

    def __init__(self, start: int, step: int) -> None:
        self._value, self._step = start, step

    def __iter__(self) -> _Primes:
        return self

    def __next__(self) -> int:
        self._value += self._step
        while not _is_prime(self._value):
            if self._value < 2:
                raise InvalidProgram("there are not enough primes for this chain")
            self._value += self._step
        return self._value


@lru_cache(maxsize=2**16)
def _is_prime(n: int) -> bool:  # many chains try the same numbers
    """Tell whether n is prime (Miller and Rabin; exact in this range)."""
    if n < 2 or any(n % p == 0 for p in _WITNESSES):
        return n in _WITNESSES
    shift = ((n - 1) & (1 - n)).bit_length() - 1
    for witness in _WITNESSES:
        x = pow(witness, n >> shift, n)
        if x != 1 and all(pow(x, 1 << k, n) != n - 1 for k in range(shift)):
            return False
    return True
