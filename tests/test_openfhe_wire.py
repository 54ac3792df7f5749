"""How residues are found in OpenFHE's archives, and put back; no library is needed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hec.compiler.errors import InvalidProgram
from hec.runtime.openfhe_wire import Frame, packed_bytes

RING_DEGREE = 16
PRIMES = (97, 40961, 1152921504606830593)  # of 1, 2 and 8 bytes
POLYNOMIALS = 2


def residues(seed: int = 0) -> list[NDArray[np.uint64]]:
    random = np.random.default_rng(seed)
    return [
        random.integers(0, prime, RING_DEGREE, np.uint64)
        for _ in range(POLYNOMIALS)
        for prime in PRIMES
    ]


def word(number: int) -> bytes:
    return number.to_bytes(8, "little")


def archive(
    limbs: list[NDArray[np.uint64]], between: bytes = b"pointer", end: bytes = b"tag"
) -> bytes:
    """Return what OpenFHE would write: a length, residues, their prime; other things between."""
    written = b"context" + word(RING_DEGREE)
    for limb, prime in zip(limbs, PRIMES * POLYNOMIALS, strict=True):
        written += between + word(RING_DEGREE) + limb.tobytes() + word(prime)
    return written + end


def frame(template: bytes | None = None) -> Frame:
    return Frame(template or archive(residues(9)), RING_DEGREE, PRIMES, POLYNOMIALS)


def test_packed_residues_take_as_many_bytes_as_their_primes() -> None:
    assert packed_bytes(RING_DEGREE, PRIMES, POLYNOMIALS) == 2 * 16 * (1 + 2 + 8)
    packed = frame().pack(archive(residues()))
    assert len(packed) == frame().size == 352
    assert packed[:16] == bytes(residues()[0].astype(np.uint8))


def test_unpacking_undoes_packing() -> None:
    unpacked = frame().unpack(frame().pack(archive(residues())))
    assert unpacked == archive(residues())


def test_the_same_residues_are_found_whatever_stands_between() -> None:
    """Length of the ring, then something that is no limb: a trap that OpenFHE's contexts hold."""
    packed = frame().pack(archive(residues()))
    for between in (b"", b"longer pointers", word(RING_DEGREE), word(RING_DEGREE)[:5]):
        assert frame().pack(archive(residues(), between)) == packed


@pytest.mark.parametrize("limb", range(6))
def test_a_residue_that_is_not_below_its_prime_is_no_residue(limb: int) -> None:
    wrong = residues()
    wrong[limb][7] = PRIMES[limb % 3] - 1
    assert frame().unpack(frame().pack(archive(wrong))) == archive(wrong)
    wrong[limb][7] = PRIMES[limb % 3]
    assert frame().unpack(frame().pack(archive(wrong))) is None


@pytest.mark.parametrize("change", [-352, -1, 1, 11])
def test_data_of_another_size_is_no_object(change: int) -> None:
    packed = frame().pack(archive(residues()))
    assert frame().unpack(packed[:change] if change < 0 else packed + bytes(change)) is None


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        archive(residues())[: -3 - 8],  # without the last prime
        archive(residues()).replace(word(40961), word(40962)),
        archive(residues(), end=bytes(RING_DEGREE * 8)),  # room for one limb more
    ],
)
def test_an_unknown_archive_is_our_bug(strange: bytes) -> None:
    message = r"^OpenFHE writes its objects in an unknown way$"
    with pytest.raises(InvalidProgram, match=message):
        frame().pack(strange)
    with pytest.raises(InvalidProgram, match=message):
        Frame(strange, RING_DEGREE, PRIMES, POLYNOMIALS)
