"""Ciphertexts of OpenFHE as bytes: whole they come back, and anything else is refused.

The ring of the plan with bootstraps is insecure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bootstrap_plans import RELU
from fhe_sessions import LEVELED, Session, leveled_part, refreshing_part, tables
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import CompileError, InvalidProgram
from hec.runtime.openfhe_client import OpenfheSecret
from hec.runtime.openfhe_primes import chain
from hec.runtime.openfhe_wire import packed_bytes

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

HELP = "  help: send it again, made with the same plan"
SCALE = 2.0**30


@pytest.fixture(scope="module")
def leveled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    yield Session(leveled_part(), tmp_path_factory.mktemp("leveled"))


@pytest.fixture(scope="module")
def refreshing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    yield Session(refreshing_part(), tmp_path_factory.mktemp("refreshing"))


@pytest.fixture(scope="module")
def data(leveled: Session) -> bytes:
    """A ciphertext at level 2."""
    values = leveled.random.uniform(-1, 1, LEVELED.slots)
    return leveled.secret.encrypt(values, 2, SCALE, "test")


def refusal(session: Session, data: bytes, level: int = 2) -> str:
    """Return why the server and the client refuse a ciphertext, in the same words."""
    before = tables()
    messages = []
    for load in (session.evaluator.load, session.secret.decrypt):
        with pytest.raises(CompileError) as caught:
            load(data, level, SCALE, "message: tensor 'x'")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert tables() == before
    return messages[0]


def test_whatever_computed_a_ciphertext_it_travels(leveled: Session, refreshing: Session) -> None:
    for session in (leveled, refreshing):
        backend, x = session.backend, session.fresh(4)[1]
        plain = backend.encode(np.ones(session.parameters.slots), 4, backend.scale(x))
        computed = [
            x,
            backend.rotate(x, 1),
            *backend.rotate_each(x, (1, 5)),
            backend.multiply(x, x),
            backend.rescale(backend.multiply(x, x)),
            backend.multiply_plain(x, plain),
            backend.add_plain(x, plain),
            backend.mod_switch(x, 0),
            backend.rescale(backend.mod_switch(backend.multiply(x, x), 2)),
        ]
        if session is refreshing:
            fresh = backend.bootstrap(x, RELU)
            computed += [fresh, backend.mod_switch(backend.rescale(fresh), 3)]
        for y in computed:
            level, scale = backend.level(y), backend.scale(y)
            sent = session.evaluator.save(y, level, scale)
            size = packed_bytes(
                session.parameters.ring_degree, session.parameters.primes[: level + 1], 2
            )
            assert len(sent) == size
            read = session.evaluator.load(sent, level, scale, "test")
            assert session.evaluator.save(read, level, scale) == sent
            assert (backend.level(read), backend.scale(read)) == (level, scale)


def test_two_encryptions_of_the_same_values_share_no_limb(leveled: Session) -> None:
    zeros = np.zeros(LEVELED.slots)
    first, second = (leveled.secret.encrypt(zeros, 0, SCALE, "test") for _ in range(2))
    same = np.frombuffer(first, np.uint8) == np.frombuffer(second, np.uint8)
    assert same.mean() < 0.01


@pytest.mark.parametrize("length", [0, 1, 1000, -1])
def test_a_truncated_ciphertext_is_refused(length: int, leveled: Session, data: bytes) -> None:
    cut = data[:length]
    assert refusal(leveled, cut) == (
        f"The ciphertext cannot be used: expected {len(data)} bytes for level 2, found {len(cut)}\n"
        f"  --> message: tensor 'x'\n{HELP}"
    )


@pytest.mark.parametrize("level", [0, 1, 3, 4])
def test_a_ciphertext_of_another_level_is_refused(
    level: int, leveled: Session, data: bytes
) -> None:
    size = packed_bytes(8192, LEVELED.primes[: level + 1], 2)
    assert refusal(leveled, data, level) == (
        f"The ciphertext cannot be used: expected {size} bytes for level {level},"
        f" found {len(data)}\n  --> message: tensor 'x'\n{HELP}"
    )


@pytest.mark.parametrize("position", [0, 8192 * 5, -4])
def test_a_residue_that_is_not_below_its_prime_is_refused(
    position: int, leveled: Session, data: bytes
) -> None:
    """The first residue modulo the first prime, which has 5 bytes; modulo the next; the last."""
    width = 5 if position == 0 else 4
    start = position % len(data)
    hostile = data[:start] + b"\xff" * width + data[start + width :]
    assert refusal(leveled, hostile) == (
        "The ciphertext cannot be used: its residues exceed the primes of the plan\n"
        f"  --> message: tensor 'x'\n{HELP}"
    )


def test_a_ciphertext_without_a_second_polynomial_is_refused(leveled: Session, data: bytes) -> None:
    half = len(data) // 2
    assert refusal(leveled, data[:half] + bytes(half)) == (
        f"The ciphertext cannot be used: it is not encrypted\n  --> message: tensor 'x'\n{HELP}"
    )


def test_a_flipped_bit_is_refused_or_leaves_a_ciphertext(leveled: Session, data: bytes) -> None:
    before, backend = tables(), leveled.backend
    for position in range(0, len(data), len(data) // 97):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        try:
            x = leveled.evaluator.load(bytes(damaged), 2, SCALE, "test")
        except CompileError:
            continue
        assert (x.NumberCiphertextElements(), backend.level(x), backend.scale(x)) == (2, 2, SCALE)
        backend.rescale(backend.multiply(backend.rotate(x, 1), x))
    assert tables() == before


@pytest.mark.parametrize("level", [0, 2])
def test_another_secret_reads_nothing(level: int, leveled: Session) -> None:
    sent = leveled.secret.encrypt(np.ones(LEVELED.slots), level, SCALE, "test")
    with pytest.raises(CompileError) as caught:
        OpenfheSecret(leveled.context).decrypt(sent, level, SCALE, "answer")
    assert str(caught.value) == (
        "The ciphertext cannot be used: The decryption failed because the approximation error is"
        f" too high. Check the parameters.\n  --> answer\n{HELP}"
    )


@pytest.mark.parametrize("bits", [24, 35, 52])
def test_an_answer_at_level_0_may_have_any_scale(
    bits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also that of a product that is not rescaled, whose error is larger than a scaling prime."""
    wide = EncryptionParameters(8192, *chain(8192, (55, 25, 25, 25)), 128)
    session = Session(leveled_part(chosen=wide), tmp_path_factory.mktemp("wide"))
    values, x = session.fresh(0, 2.0**bits)
    np.testing.assert_allclose(session.decrypted(x), values, rtol=0, atol=8e3 / 2**bits)
    values, x = session.fresh(0, 2.0**26)
    plain = session.backend.encode(values, 0, 2.0**26)
    square = session.decrypted(session.backend.multiply_plain(x, plain))
    np.testing.assert_allclose(square, values * values, rtol=0, atol=2e-4)


def test_a_product_that_is_not_relinearized_is_our_bug(leveled: Session) -> None:
    x = leveled.fresh(2)[1]
    product = leveled.context.fhe.EvalMultNoRelin(x, x)
    with pytest.raises(InvalidProgram, match=r"^a ciphertext of OpenFHE is not relinearized$"):
        leveled.evaluator.save(product, 2, product.GetScalingFactor())


def test_an_answer_of_another_type_is_our_bug(leveled: Session) -> None:
    x = leveled.fresh(2, SCALE)[1]
    for level, scale in ((1, SCALE), (2, SCALE * 1.001)):
        with pytest.raises(InvalidProgram) as caught:
            leveled.evaluator.save(x, level, scale)
        assert str(caught.value) == (f"expected an output at {level}, {scale}, found (2, {SCALE})")


def test_values_that_the_modulus_cannot_hold_are_refused(leveled: Session) -> None:
    with pytest.raises(CompileError) as caught:
        leveled.secret.encrypt(np.full(LEVELED.slots, 1e9), 0, SCALE, "input 'x'")
    assert str(caught.value) == (
        "The values cannot be encrypted (the modulus is too small): up to 1e+09 times the expected"
        " range\n  --> input 'x'\n  help: scale the input as in calibration"
    )
