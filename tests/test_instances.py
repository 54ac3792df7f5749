"""Instances of both libraries: within the limit, and with what their key switching needs."""

from __future__ import annotations

from math import log2

import pytest

from hec.compiler.errors import InvalidProgram
from hec.compiler.instances import Modulus, OpenfheInstances, SealInstances
from hec.compiler.security import max_modulus_bits
from hec.runtime.openfhe_primes import chain, special_count
from hec.runtime.tenseal_primes import primes

SEAL, OPENFHE = SealInstances(primes), OpenfheInstances(chain)
MODULI = [Modulus(40, 28, 4), Modulus(60, 40, 6), Modulus(30, 25, 1), Modulus(50, 33, 15)]


@pytest.mark.parametrize("modulus", MODULI, ids=str)
@pytest.mark.parametrize("instances", [SEAL, OPENFHE], ids=lambda x: x.backend)
def test_an_instance_has_the_primes_asked_for_and_keeps_the_limit(
    modulus: Modulus, instances: SealInstances | OpenfheInstances
) -> None:
    ring_degree, limit = next(
        (degree, bits)
        for degree in (8192, 16384, 32768)
        if instances.fits(modulus, bits := max_modulus_bits(degree, 128))
    )
    found = instances.make(ring_degree, modulus, limit, 128)
    assert found.modulus_bits <= limit
    assert [round(log2(p)) for p in found.primes[1:]] == [modulus.scaling] * modulus.levels
    assert log2(found.primes[0]) > modulus.first - 0.1
    assert (found.digits > 0) == (instances is OPENFHE)


@pytest.mark.parametrize("modulus", MODULI, ids=str)
def test_openfhe_gets_the_fewest_digits_that_leave_room_for_special_primes(
    modulus: Modulus,
) -> None:
    for limit in (218, 438, 881):
        if not OPENFHE.fits(modulus, limit):
            continue
        found = OPENFHE.make(32768, modulus, limit, 128)
        assert len(found.special_primes) == special_count(found.primes, found.digits)
        bits = [modulus.first, *[modulus.scaling] * modulus.levels]
        for fewer in range(1, found.digits):
            try:
                _, special = chain(32768, bits, fewer)
            except InvalidProgram:
                continue  # so many primes do not make so few digits
            assert modulus.bits + 60 * len(special) > limit - 2


def test_what_fits_nowhere_is_refused() -> None:
    assert not OPENFHE.fits(Modulus(40, 30, 6), 218)
    assert not OPENFHE.fits(Modulus(60, 60, 1), 881)  # OpenFHE scales by 59 bits at most
    with pytest.raises(InvalidProgram, match="leaves no special prime"):
        OPENFHE.make(8192, Modulus(40, 30, 6), 218, 128)


def test_a_leveled_ring_of_openfhe_is_no_larger_than_one_of_seal() -> None:
    """Beyond, every rotation key takes a gigabyte: bootstraps are cheaper."""
    assert OPENFHE.largest_ring == SEAL.largest_ring == 32768
