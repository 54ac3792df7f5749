"""What each library makes of a modulus chain: primes, special primes, digits.

The libraries' own searches for primes are handed in, so that compiling imports no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final, Protocol

from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import InvalidProgram

LARGEST_PRIME_BITS: Final = 60  # SEAL's limit, and OpenFHE's for the first prime
SPECIAL_BITS: Final = 60  # OpenFHE's only size of a special prime
OUTWEIGH_BITS: Final = 5  # by which special primes must be larger than a digit, in its estimate
UNUSED_BITS: Final = 1  # OpenFHE wants a modulus below the standard's limit, not at it

# ring degree, bits of each prime, the special one last -> primes
SealPrimes = Callable[[int, Sequence[int]], Sequence[int]]
# ring degree, bits of each prime, digits -> primes, special primes
OpenfhePrimes = Callable[[int, Sequence[int], int], tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class Modulus:
    """The bits that a program asks of a modulus."""

    first: int  # of the prime that stays at level 0
    scaling: int  # of every other prime
    levels: int

    @property
    def bits(self) -> int:
        """Bits without special primes."""
        return self.first + self.levels * self.scaling


class Instances(Protocol):
    """The CKKS instances of one library."""

    @property
    def backend(self) -> str:
        """Name of the backend that runs them."""
        ...

    @property
    def largest_ring(self) -> int:
        """The largest ring degree."""
        ...

    def fits(self, modulus: Modulus, limit: int) -> bool:
        """Tell whether special primes for `modulus` fit into the rest of `limit` bits."""
        ...

    def make(
        self, ring_degree: int, modulus: Modulus, limit: int, security: int
    ) -> EncryptionParameters:
        """Return an instance that fits; raise `InvalidProgram` where primes are too few."""
        ...


@dataclass(frozen=True)
class SealInstances:
    """Microsoft SEAL: one special prime, and every prime a digit of its own."""

    primes: SealPrimes
    backend: str = "tenseal"
    largest_ring: int = 32768

    def fits(self, modulus: Modulus, limit: int) -> bool:
        """Tell whether the limit leaves a special prime as large as every other."""
        return limit - modulus.bits >= max(modulus.first, modulus.scaling)

    def make(
        self, ring_degree: int, modulus: Modulus, limit: int, security: int
    ) -> EncryptionParameters:
        """Return the instance that uses what the limit leaves."""
        primes = self.primes(ring_degree, seal_bits(modulus, limit))
        return EncryptionParameters(ring_degree, tuple(primes[:-1]), tuple(primes[-1:]), security)


def seal_bits(modulus: Modulus, limit: int) -> list[int]:
    """Return the bits of every prime, the special one last, using what the limit leaves.

    First the special prime grows, against the errors of key switches, then the first prime, as
    headroom for values beyond what calibration saw.
    """
    special = min(LARGEST_PRIME_BITS, limit - modulus.bits)
    first = min(LARGEST_PRIME_BITS, modulus.first + limit - modulus.bits - special)
    return [first, *[modulus.scaling] * modulus.levels, special]


@dataclass(frozen=True)
class OpenfheInstances:
    """OpenFHE: neighbouring primes share a digit, special primes of 60 bits outweigh a digit.

    What counts is the size that OpenFHE estimates before it makes primes: measured, for 1 to 24
    digits; tests try what is made here on the library.
    """

    primes: OpenfhePrimes
    backend: str = "openfhe"
    largest_ring: int = 32768  # beyond, a leveled program has rotation keys of a gigabyte each

    def fits(self, modulus: Modulus, limit: int) -> bool:
        """Tell whether special primes fit for any number of digits."""
        return modulus.scaling < LARGEST_PRIME_BITS and self._digits(modulus, limit) is not None

    def make(
        self, ring_degree: int, modulus: Modulus, limit: int, security: int
    ) -> EncryptionParameters:
        """Return the instance with the fewest digits; what is left grows the first prime."""
        digits = self._digits(modulus, limit)
        if digits is None:
            raise InvalidProgram(f"a modulus of {modulus.bits} bits leaves no special prime")
        scaling = [modulus.scaling] * modulus.levels
        for first in range(LARGEST_PRIME_BITS, modulus.first - 1, -1):
            grown = replace(modulus, first=first)
            if _estimate(grown, digits) > limit - UNUSED_BITS:
                continue
            primes, special = self.primes(ring_degree, [first, *scaling], digits)
            found = EncryptionParameters(
                ring_degree, tuple(primes), tuple(special), security, digits
            )
            if found.modulus_bits <= limit:
                return found
        raise InvalidProgram(f"primes for {modulus.bits} bits take more than {limit}")

    def _digits(self, modulus: Modulus, limit: int) -> int | None:
        """Return the fewest digits: each costs a transform of the whole modulus."""
        count = modulus.levels + 1
        for digits in range(1, count + 1):
            whole = ceil(count / ceil(count / digits)) == digits
            if whole and _estimate(modulus, digits) <= limit - UNUSED_BITS:
                return digits
        return None


def _estimate(modulus: Modulus, digits: int) -> int:
    """Return the bits of the modulus with as many special primes as outweigh the largest digit."""
    width = ceil((modulus.levels + 1) / digits)
    largest = max(modulus.first, modulus.scaling) + (width - 1) * modulus.scaling
    return modulus.bits + SPECIAL_BITS * ceil((largest + OUTWEIGH_BITS) / SPECIAL_BITS)
