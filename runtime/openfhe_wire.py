"""How OpenFHE's polynomials travel: as bare residues, packed; never as its own archives.

An archive holds far more than residues (a context, levels, pointers), and a reader of one trusts
all of it. Here the receiver makes an object of the same kind itself, and replaces its residues,
each checked to be below its prime, by those received.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import LIMB_BYTES
from hec.compiler.errors import InvalidProgram

_PROBE_BYTES: Final = 64  # eight residues: equal in two random objects with probability 2^-160
_LENGTH_BYTES: Final = 8  # OpenFHE writes the number of residues before them

Bytes = bytes | memoryview


def packed_bytes(ring_degree: int, primes: Sequence[int], polynomials: int) -> int:
    """Return the size of packed polynomials: as many whole bytes a residue as its prime has."""
    return polynomials * ring_degree * sum(_width(prime) for prime in primes)


class Frame:
    """An OpenFHE archive without its residues: those of each polynomial in turn, by prime.

    `make` returns the archive of a new random object at every call.
    """

    def __init__(
        self, make: Callable[[], bytes], ring_degree: int, primes: Sequence[int], polynomials: int
    ) -> None:
        self._ring_degree, self._primes = ring_degree, tuple(primes) * polynomials
        self.size = packed_bytes(ring_degree, primes, polynomials)
        self._archive = make()
        self._starts = _limb_starts(self._archive, make(), ring_degree, len(self._primes))

    def pack(self, archive: bytes) -> bytes:
        """Return the residues in the archive of an object of this kind."""
        if len(archive) != len(self._archive):
            raise InvalidProgram("OpenFHE wrote an object of another size")
        limbs = []
        for start, prime in zip(self._starts, self._primes, strict=True):
            limb = np.frombuffer(archive, np.uint8, self._ring_degree * LIMB_BYTES, start)
            limbs.append(limb.reshape(-1, LIMB_BYTES)[:, : _width(prime)].tobytes())
        return b"".join(limbs)

    def unpack(self, data: Bytes) -> bytes | None:
        """Return an archive with these residues, or None if they are not ones of this kind."""
        if len(data) != self.size:
            return None
        archive, position = bytearray(self._archive), 0
        for start, prime in zip(self._starts, self._primes, strict=True):
            count = self._ring_degree * _width(prime)
            limb = _residues(data[position : position + count], _width(prime))
            if int(limb.max()) >= prime:
                return None
            archive[start : start + limb.nbytes] = limb.tobytes()
            position += count
        return bytes(archive)


def _residues(data: Bytes, width: int) -> NDArray[np.uint64]:
    packed = np.frombuffer(data, np.uint8).reshape(-1, width)
    wide = np.zeros((len(packed), LIMB_BYTES), np.uint8)
    wide[:, :width] = packed
    return wide.view("<u8").reshape(-1)


def _width(prime: int) -> int:
    return (prime.bit_length() + 7) // 8


def _limb_starts(first: bytes, second: bytes, ring_degree: int, count: int) -> tuple[int, ...]:
    """Return where each of `count` limbs starts: after its length, and where the two differ."""
    length = ring_degree.to_bytes(_LENGTH_BYTES, "little")
    starts: list[int] = []
    end = found = 0
    same = len(first) == len(second)
    while same and len(starts) < count and (found := first.find(length, found)) >= 0:
        start = found + _LENGTH_BYTES
        probe = slice(start, start + _PROBE_BYTES)
        found += 1
        if first[probe] != second[probe]:
            same = first[end:start] == second[end:start]
            starts.append(start)
            end = found = start + ring_degree * LIMB_BYTES
    if len(starts) != count or first[end:] != second[end:]:
        raise InvalidProgram("OpenFHE writes its objects in an unknown way")
    return tuple(starts)
