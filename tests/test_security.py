"""The security table is SEAL's own, and a hard gate."""

from __future__ import annotations

import pytest
from tenseal import sealapi as seal

from hec.compiler.security import MAX_MODULUS_BITS, is_secure, max_modulus_bits

LEVELS = {
    128: seal.SEC_LEVEL_TYPE.TC128,
    192: seal.SEC_LEVEL_TYPE.TC192,
    256: seal.SEC_LEVEL_TYPE.TC256,
}


@pytest.mark.parametrize("security", [128, 192, 256])
@pytest.mark.parametrize("log_degree", range(10, 16))
def test_the_table_is_that_of_seal(security: int, log_degree: int) -> None:
    bits = seal.CoeffModulus.MaxBitCount(2**log_degree, LEVELS[security])
    assert max_modulus_bits(2**log_degree, security) == bits


def test_the_table_holds_nothing_else() -> None:
    assert set(MAX_MODULUS_BITS) == {128, 192, 256}
    known = {128: 17, 192: 16, 256: 16}  # 2^16 is in the later guidelines, for 128 bits only here
    for security, row in MAX_MODULUS_BITS.items():
        assert set(row) == {2**k for k in range(10, known[security])}


@pytest.mark.parametrize(("ring_degree", "security"), [(512, 128), (131072, 128), (8192, 100)])
def test_what_is_not_standardised_is_not_secure(ring_degree: int, security: int) -> None:
    assert max_modulus_bits(ring_degree, security) == 0
    assert not is_secure(ring_degree, 1.0, security)


def test_a_modulus_may_have_all_its_bits_and_no_more() -> None:
    assert is_secure(8192, 218.0, 128)
    assert not is_secure(8192, 218.01, 128)
    assert is_secure(8192, 152.0, 192)
    assert not is_secure(8192, 152.01, 192)
