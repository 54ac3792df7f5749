"""How OpenFHE's polynomials travel: as bare residues, packed; never as its own archives.

An archive holds far more than residues (a context, levels, pointers), and a reader of one trusts
all of it. Here the receiver makes an object of the same kind itself, and replaces its residues,
each checked to be below its prime, by those received.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import LIMB_BYTES
from hec.compiler.errors import InvalidProgram

_LOW: Final = "low"  # bytes of a word that hold a residue
_WORD_BYTES: Final = 8  # of what OpenFHE writes around residues: their number, and their prime

Bytes = bytes | memoryview


def packed_bytes(ring_degree: int, primes: Sequence[int], polynomials: int) -> int:
    """Return the size of packed polynomials: as many whole bytes a residue as its prime has."""
    return polynomials * ring_degree * sum(_width(prime) for prime in primes)


class Frame:
    """An OpenFHE archive without its residues: those of each polynomial in turn, by prime."""

    def __init__(
        self, archive: bytes, ring_degree: int, primes: Sequence[int], polynomials: int
    ) -> None:
        self._ring_degree, self._primes = ring_degree, tuple(primes) * polynomials
        self.size = packed_bytes(ring_degree, primes, polynomials)
        self._archive = archive
        self._starts = _limb_starts(archive, ring_degree, self._primes)

    def pack(self, archive: bytes) -> bytes:
        """Return the residues in the archive of an object of this kind.

        Archives of one kind differ in length: pointers are written once for all that share them.
        """
        limbs = []
        starts = _limb_starts(archive, self._ring_degree, self._primes)
        for start, prime in zip(starts, self._primes, strict=True):
            words = np.frombuffer(archive, _low_bytes(_width(prime)), self._ring_degree, start)
            limbs.append(np.ascontiguousarray(words[_LOW]).tobytes())
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

    def residues(self, archive: bytes) -> NDArray[np.uint64]:
        """Return the (limbs, ring_degree) residues in the archive of an object of this kind."""
        starts = _limb_starts(archive, self._ring_degree, self._primes)
        return np.stack([np.frombuffer(archive, "<u8", self._ring_degree, s) for s in starts])

    def archive(self, residues: NDArray[np.uint64]) -> bytes:
        """Return an archive with the (limbs, ring_degree) `residues`, each below its prime."""
        archive = bytearray(self._archive)
        for start, limb in zip(self._starts, residues, strict=True):
            archive[start : start + limb.nbytes] = limb.astype("<u8").tobytes()
        return bytes(archive)


def _residues(data: Bytes, width: int) -> NDArray[np.uint64]:
    packed = np.frombuffer(data, f"V{width}")
    residues = np.zeros(len(packed), "<u8")
    residues.view(_low_bytes(width))[_LOW] = packed
    return residues


def _low_bytes(width: int) -> np.dtype[np.void]:
    """Return the type of words that names their lowest `width` bytes: copied as one, not each."""
    return np.dtype({"names": [_LOW], "formats": [f"V{width}"], "itemsize": LIMB_BYTES})


def _width(prime: int) -> int:
    return (prime.bit_length() + 7) // 8


def _limb_starts(archive: bytes, ring_degree: int, primes: Sequence[int]) -> tuple[int, ...]:
    """Return where the limb of each prime starts; there are no others."""
    starts: list[int] = []
    end = 0
    for prime in primes:
        starts.append(_limb_start(archive, end, ring_degree, prime))
        end = starts[-1] + ring_degree * LIMB_BYTES
    if len(archive) - end >= ring_degree * LIMB_BYTES:
        raise _unknown_archive()
    return tuple(starts)


def _limb_start(archive: bytes, position: int, ring_degree: int, prime: int) -> int:
    """Return where the next limb starts: after its length, and with its prime behind it."""
    length, end = (word.to_bytes(_WORD_BYTES, "little") for word in (ring_degree, prime))
    while (position := archive.find(length, position)) >= 0:
        position += _WORD_BYTES
        if archive.startswith(end, position + ring_degree * LIMB_BYTES):
            return position
        position -= _WORD_BYTES - 1
    raise _unknown_archive()


def _unknown_archive() -> InvalidProgram:
    return InvalidProgram("OpenFHE writes its objects in an unknown way")
