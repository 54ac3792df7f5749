"""The parameters that hec names are those that OpenFHE takes; the library refuses all others.

Contexts without a security check are made only to compare primes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from bootstrap_plans import parameters
from fhe_sessions import LEVELED, REFRESHING, SHORT, fhe
from hec.compiler.bootstrapping import DEGREES, input_level, level_scales, spent_levels
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.errors import CompileError, InvalidProgram
from hec.compiler.instances import LARGEST_PRIME_BITS, Modulus, OpenfheInstances
from hec.compiler.security import is_secure, max_modulus_bits
from hec.runtime import openfhe_context
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_primes import chain, special_count
from sample_plans import DEEP

pytestmark = pytest.mark.openfhe

LEVELED_CHAINS = [  # log2 of the ring degree, bits, digits
    (12, (27, 22), 0),
    (12, (49,), 0),
    (13, (38, 28, 28, 28, 28), 0),
    (13, (60, 30, 30, 30), 2),
    (13, (60, 59, 59), 0),
    (14, (40, 40, 40, 40, 40), 5),
    (14, (60, 40, 40, 40, 40, 40, 40), 3),
    (14, (36, *[36] * 8), 3),
    (15, (60, *[45] * 12), 4),
    (15, (50, *[50] * 10), 0),
    (16, (60, *[50] * 20), 3),
]
REFRESHING_CHAINS = [  # log2 of the ring degree, bits of scale, depth, digits
    (10, 33, 22, 8),
    (11, 28, 22, 8),
    (11, 31, 23, 8),
    (11, 40, 19, 4),
    (12, 46, 20, 7),
    (12, 58, 18, 19),
    (13, 35, 22, 3),
    (14, 31, 23, 24),
    (15, 33, 22, 8),
    (15, 31, 23, 8),
    (15, 32, 21, 11),
    (16, 40, 24, 5),
]


@pytest.fixture(autouse=True)
def forgotten_estimate() -> Iterator[None]:
    """OpenFHE keeps the estimate of a context that it refused, for the next one: give it that."""
    yield
    OpenfheContext(SHORT)


def leveled(log_degree: int, bits: Sequence[int], digits: int) -> EncryptionParameters:
    return EncryptionParameters(
        2**log_degree, *chain(2**log_degree, bits, digits), 128, digits or len(bits)
    )


def made(chosen: EncryptionParameters) -> Any:
    """Return the library's own context, not yet compared with anything."""
    return fhe.GenCryptoContext(openfhe_context._description(chosen, True))


@pytest.mark.parametrize(("log_degree", "bits", "digits"), LEVELED_CHAINS)
def test_the_primes_of_a_leveled_chain_are_those_that_openfhe_takes(
    log_degree: int, bits: tuple[int, ...], digits: int
) -> None:
    chosen = leveled(log_degree, bits, digits)
    assert openfhe_context._primes(made(chosen)) == chosen.primes


@pytest.mark.parametrize(("log_degree", "bits", "depth", "digits"), REFRESHING_CHAINS)
def test_the_primes_between_bootstraps_are_those_that_openfhe_takes(
    log_degree: int, bits: int, depth: int, digits: int
) -> None:
    chosen = parameters(log_degree, bits, depth, digits)
    context = made(chosen)
    assert openfhe_context._primes(context) == chosen.primes
    scales = [context.GetScalingFactorReal(depth - level) for level in range(depth + 1)]
    assert level_scales(chosen.primes) == pytest.approx(scales, rel=1e-12)


def special_primes(key: Any, count: int) -> list[int]:
    """Return the primes of a key beyond the first `count`, which are those of the chain."""
    found: list[int] = []

    def walk(tree: Any) -> None:
        if isinstance(tree, dict):
            modulus = tree.get("m")
            if isinstance(modulus, dict):
                found.append(modulus["v"])
            for item in tree.values():
                walk(item)
        elif isinstance(tree, list) and not (tree and isinstance(tree[0], int)):
            for item in tree:
                walk(item)

    walk(json.loads(fhe.Serialize(key, fhe.JSON)))
    end = found.index(found[0], 1)
    return found[count:end]


@pytest.mark.encrypted
@pytest.mark.parametrize(
    ("bits", "digits"),
    [
        ((27, 22), 0),
        ((38, 28, 28, 28, 28), 0),
        ((38, 28, 28, 28, 28), 1),
        ((60, 30, 30, 30), 2),
        ((60, 59, 59), 0),
        ((60, 59, 59), 1),
        ((56, 55), 0),
        ((57, 56), 0),
        ((55, *[20] * 7), 2),
        ((56, *[20] * 7), 2),
        ((40, 40, 40, 40, 40), 2),
        ((60, *[40] * 8), 3),
        ((31, *[30] * 11), 6),
        ((31, *[30] * 11), 4),
        ((60, *[20] * 7), 2),
    ],
)
def test_the_special_primes_are_those_that_openfhe_takes(
    bits: tuple[int, ...], digits: int
) -> None:
    chosen = leveled(10, bits, digits)
    context = OpenfheContext(chosen, insecure_for_tests=True)
    secret = context.fhe.KeyGen().secretKey
    key = context.fhe.KeySwitchGen(secret, secret)
    assert special_primes(key, len(bits)) == list(chosen.special_primes)


@pytest.mark.encrypted
def test_the_special_primes_of_a_bootstrap_are_those_that_openfhe_takes() -> None:
    context = OpenfheContext(REFRESHING, insecure_for_tests=True)
    secret = context.fhe.KeyGen().secretKey
    key = context.fhe.KeySwitchGen(secret, secret)
    assert special_primes(key, 23) == list(REFRESHING.special_primes)


@pytest.mark.parametrize(
    "bits",
    [(44, 57, 57), (30, 31), (61, 30), (60, 60), (50, 30, 31)],
)
def test_a_chain_that_openfhe_does_not_have_is_refused(bits: tuple[int, ...]) -> None:
    with pytest.raises(InvalidProgram) as caught:
        chain(8192, bits)
    assert str(caught.value) == f"OpenFHE has no chain of {bits} bits"


def test_digits_that_openfhe_does_not_have_are_refused() -> None:
    with pytest.raises(InvalidProgram) as caught:
        special_count(LEVELED.primes, 4)
    assert str(caught.value) == "OpenFHE cannot split 5 primes into 4 digits"


def test_too_few_primes_are_refused() -> None:
    with pytest.raises(InvalidProgram) as caught:
        chain(2**15, [20] * 7)
    assert str(caught.value) == "there are not enough primes for this chain"


@pytest.mark.parametrize("levels", [(2, 2), (3, 2), (3, 3), (4, 3)])
def test_the_levels_of_a_bootstrap_are_those_that_openfhe_counts(levels: tuple[int, int]) -> None:
    how, context = Bootstrapping(levels, (0, 0), 512), fhe.CryptoContext
    for degree in DEGREES:
        series = [complex(1, 1)] * (degree + 1)
        counted = context.GetFEFBTDepth(list(levels), series, fhe.SPARSE_ENCAPSULATED, 34)
        assert spent_levels(how, degree) + input_level(how) == counted


@pytest.mark.parametrize(
    ("security", "log_degree", "bits"),
    [
        (128, 12, (28, 20)),
        (128, 13, (37, 30, 30, 30, 30)),
        (128, 13, (55, 25, 25, 25)),
        (128, 14, (55, *[50] * 6)),
        (128, 15, (50, *[50] * 14)),
        (192, 13, (51, 20, 20)),
        (256, 14, (55, *[30] * 4)),
    ],
)
def test_parameters_within_the_standard_pass_openfhe_check(
    security: int, log_degree: int, bits: tuple[int, ...]
) -> None:
    chosen = replace(leveled(log_degree, bits, 0), security=security)
    assert is_secure(chosen.ring_degree, chosen.modulus_bits, security)
    assert OpenfheContext(chosen).fhe.GetRingDimension() == chosen.ring_degree


@pytest.mark.parametrize(
    ("chosen", "reason", "place"),
    [
        (
            leveled(12, (38, 28, 28, 28, 28), 0),
            "The specified ring dimension (4096) does not comply with HE standards recommendation"
            " (8192).",
            "ring degree 4096, 5 primes and 1 special, 210 bits, 128-bit security",
        ),
        (
            replace(leveled(13, (38, 28, 28, 28, 28), 0), security=192),
            "The specified ring dimension (8192) does not comply with HE standards recommendation"
            " (16384).",
            "ring degree 8192, 5 primes and 1 special, 210 bits, 192-bit security",
        ),
        (
            REFRESHING,
            "The specified ring dimension (1024) does not comply with HE standards recommendation"
            " (32768).",
            "ring degree 1024, 23 primes and 2 special, 880 bits, 128-bit security",
        ),
        (
            parameters(15, depth=23),
            "The specified ring dimension (32768) does not comply with HE standards recommendation"
            " (65536).",
            "ring degree 32768, 24 primes and 2 special, 913 bits, 128-bit security",
        ),
        (
            replace(LEVELED, security=80),
            "no level of 80-bit security",
            "ring degree 8192, 5 primes and 1 special, 210 bits, 80-bit security",
        ),
        (
            replace(LEVELED, primes=(*LEVELED.primes[1:], LEVELED.primes[0])),
            "firstModSize cannot be less than scalingModSize",
            "ring degree 8192, 5 primes and 1 special, 210 bits, 128-bit security",
        ),
        (
            replace(LEVELED, primes=DEEP.primes),
            "it would take other primes",
            "ring degree 8192, 5 primes and 1 special, 210 bits, 128-bit security",
        ),
        (
            replace(LEVELED, special_primes=(*LEVELED.special_primes, 97)),
            "it would take other special primes",
            "ring degree 8192, 5 primes and 2 special, 217 bits, 128-bit security",
        ),
    ],
)
def test_openfhe_refuses_other_parameters(
    chosen: EncryptionParameters, reason: str, place: str
) -> None:
    """The check of the security level is the library's own, and no plan can switch it off."""
    with pytest.raises(CompileError) as caught:
        OpenfheContext(chosen)
    assert str(caught.value) == (
        f"OpenFHE refuses the encryption parameters: {reason}\n"
        f"  --> {place}\n"
        "  help: compile the model again with this version of hec"
    )


@pytest.mark.parametrize("log_degree", [12, 13, 14, 15])
def test_openfhe_takes_every_leveled_instance_that_fits(log_degree: int) -> None:
    instances, ring_degree = OpenfheInstances(chain), 2**log_degree
    limit, fitting = max_modulus_bits(ring_degree, 128), 0
    for levels in range(1, 2 * (log_degree - 11) ** 2 + 3, log_degree - 11):
        for first, scaling in product((0, 4, 20), (22, 24, 26, 31, 40, 54)):
            modulus = Modulus(min(scaling + first, LARGEST_PRIME_BITS), scaling, levels)
            enough_primes = scaling > log_degree + 9
            if enough_primes and instances.fits(modulus, limit):
                fitting += 1
                OpenfheContext(instances.make(ring_degree, modulus, limit, 128))
    assert fitting >= 2


@pytest.mark.parametrize(
    ("log_degree", "bits"),
    [(12, (29, 20)), (13, (38, 30, 30, 30, 30)), (14, [54] * 7), (15, (53, *[48] * 16))],
)
def test_openfhe_asks_for_one_bit_less_than_the_standard_allows(
    log_degree: int, bits: Sequence[int]
) -> None:
    chosen = leveled(log_degree, bits, 0)
    assert round(chosen.modulus_bits) == max_modulus_bits(chosen.ring_degree, 128)
    with pytest.raises(CompileError, match="does not comply with HE standards"):
        OpenfheContext(chosen)
