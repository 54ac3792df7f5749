"""Every primitive step on Microsoft SEAL against numpy, on a small secure ring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tenseal import sealapi as seal

from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import CompileError, InvalidProgram
from hec.compiler.key_manifest import KeyManifest
from hec.runtime import tenseal_context
from hec.runtime.tenseal_backend import TensealBackend
from hec.runtime.tenseal_client import TensealSecret
from hec.runtime.tenseal_context import TensealContext
from sample_plans import DEEP, SCALE, SMALL

Array = NDArray[np.float64]
TOLERANCE = 1e-4  # 28-bit scale; the slots lie in [-1, 1]
STEPS = (1, 5, 4093)


class Session:
    """A client's secret and a server's backend side by side."""

    def __init__(self, parameters: EncryptionParameters, manifest: KeyManifest) -> None:
        self.context = TensealContext(parameters)
        self.secret = TensealSecret(self.context)
        relin, galois = self.secret.evaluation_keys(manifest)
        self.backend = TensealBackend(
            self.context,
            self.context.load(seal.RelinKeys(), relin, "relinearization key", "test"),
            [self.context.load(seal.GaloisKeys(), g, "rotation keys", "test") for g in galois],
        )
        self.random = np.random.default_rng(0)

    def fresh(self, level: int, scale: float = SCALE) -> tuple[Array, seal.Ciphertext]:
        values = self.random.uniform(-1, 1, self.context.parameters.slots)
        data = self.secret.encrypt(values, level, scale, "test")
        return values, self.context.load_ciphertext(data, level, scale, "test")

    def decrypted(self, x: seal.Ciphertext) -> Array:
        level, scale = self.backend.level(x), self.backend.scale(x)
        data = tenseal_context.to_bytes(x, self.context.ciphertext_bytes(level))
        return self.secret.decrypt(data, level, scale, "test")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    yield Session(DEEP, KeyManifest(STEPS, True))


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.encrypted
@pytest.mark.parametrize("level", [0, 2, 4])
def test_decryption_undoes_encryption(level: int, session: Session) -> None:
    values, x = session.fresh(level)
    assert (session.backend.level(x), session.backend.scale(x)) == (level, SCALE)
    close(session.decrypted(x), values)


@pytest.mark.encrypted
@pytest.mark.parametrize("steps", [0, 1, 5, -3, 4093, 4096, 4097])
def test_rotate_turns_left(steps: int, session: Session) -> None:
    values, x = session.fresh(1)
    close(session.decrypted(session.backend.rotate(x, steps)), np.roll(values, -steps))


@pytest.mark.encrypted
def test_rotate_uses_exactly_the_key_of_its_step(session: Session) -> None:
    _, x = session.fresh(1)
    with pytest.raises(CompileError) as caught:
        session.backend.rotate(x, 6)  # 1 + 5 would do, at twice the time
    assert str(caught.value) == (
        "The evaluation keys have no key for a rotation by 6 slots\n"
        "  help: make the keys again with this plan: they hold exactly the keys that it needs"
    )


@pytest.mark.encrypted
def test_multiply_plain_then_rescale_returns_to_the_scale(session: Session) -> None:
    backend = session.backend
    values, x = session.fresh(3)
    weights = session.random.uniform(-1, 1, len(values))
    plain = backend.encode(weights, 3, float(DEEP.primes[3]))
    y = backend.rescale(backend.multiply_plain(x, plain))
    assert (backend.level(y), backend.scale(y)) == (2, SCALE)
    close(session.decrypted(y), values * weights)


@pytest.mark.encrypted
def test_one_number_stands_for_all_slots(session: Session) -> None:
    values, x = session.fresh(2)
    plain = session.backend.encode(np.asarray(-0.25), 2, SCALE)
    close(session.decrypted(session.backend.add_plain(x, plain)), values - 0.25)
    close(session.decrypted(session.backend.multiply_plain(x, plain)), values * -0.25)


@pytest.mark.encrypted
@pytest.mark.parametrize("zero", [np.zeros(4096), np.full(4096, 1e-12), np.asarray(0.0)])
def test_a_product_with_zero_stays_encrypted(zero: Array, session: Session) -> None:
    values, x = session.fresh(2)
    product = session.backend.multiply_plain(x, session.backend.encode(zero, 2, SCALE))
    assert not product.is_transparent()
    close(session.decrypted(product), np.zeros_like(values))


@pytest.mark.encrypted
def test_add_plain_adds(session: Session) -> None:
    values, x = session.fresh(2)
    bias = session.random.uniform(-1, 1, len(values))
    close(
        session.decrypted(session.backend.add_plain(x, session.backend.encode(bias, 2, SCALE))),
        values + bias,
    )


@pytest.mark.encrypted
def test_add_tolerates_what_float64_rounds_and_no_more(session: Session) -> None:
    backend = session.backend
    values, x = session.fresh(2)
    others, y = session.fresh(2, SCALE * (1 + 1e-12))
    own = backend.scale(y)
    close(session.decrypted(backend.add(x, y)), values + others)
    assert backend.scale(y) == own != SCALE
    with pytest.raises(InvalidProgram, match=r"^SEAL cannot add: scale mismatch$"):
        backend.add(x, session.fresh(2, SCALE * 1.0001)[1])


@pytest.mark.encrypted
def test_add_refuses_other_levels(session: Session) -> None:
    with pytest.raises(InvalidProgram, match=r"^SEAL cannot add: "):
        session.backend.add(session.fresh(2)[1], session.fresh(3)[1])


@pytest.mark.encrypted
def test_multiply_and_square_are_relinearized(session: Session) -> None:
    backend = session.backend
    values, x = session.fresh(2)
    others, y = session.fresh(2)
    product, square = backend.multiply(x, y), backend.multiply(x, x)
    assert product.size() == square.size() == 2
    assert backend.scale(product) == SCALE * SCALE
    close(session.decrypted(product), values * others)
    close(session.decrypted(square), values * values)


@pytest.mark.encrypted
def test_operands_are_never_changed(session: Session) -> None:
    backend = session.backend
    values, x = session.fresh(2)
    plain = backend.encode(values, 2, SCALE)
    backend.rotate(x, 1)
    backend.multiply(x, x)
    backend.rescale(x)
    backend.mod_switch(x, 0)
    backend.multiply_plain(x, plain)
    backend.add_plain(x, plain)
    backend.add(x, x)
    assert (backend.level(x), backend.scale(x)) == (2, SCALE)
    close(session.decrypted(x), values)


@pytest.mark.encrypted
def test_mod_switch_keeps_scale_and_values(session: Session) -> None:
    values, x = session.fresh(4)
    y = session.backend.mod_switch(x, 1)
    assert (session.backend.level(y), session.backend.scale(y)) == (1, SCALE)
    close(session.decrypted(y), values)


@pytest.mark.encrypted
def test_a_scale_that_the_modulus_cannot_hold_is_our_bug(session: Session) -> None:
    _, x = session.fresh(0, 2.0**30)
    with pytest.raises(InvalidProgram, match=r"^SEAL cannot multiply: scale out of bounds$"):
        session.backend.multiply(x, x)
    with pytest.raises(InvalidProgram, match=r"^SEAL cannot encode: "):
        session.backend.encode(np.full(4096, 1e9), 0, 2.0**30)


@pytest.mark.encrypted
def test_a_backend_without_keys_says_so(session: Session) -> None:
    bare = TensealBackend(session.context)
    _, x = session.fresh(1)
    with pytest.raises(CompileError, match="no key for a product of ciphertexts"):
        bare.multiply(x, x)
    with pytest.raises(CompileError, match="no key for a rotation by 1 slots"):
        bare.rotate(x, 1)


@pytest.mark.encrypted
def test_the_keys_are_exactly_those_of_the_manifest(session: Session) -> None:
    assert session.backend.has_exactly(KeyManifest(STEPS, True))
    assert not session.backend.has_exactly(KeyManifest(STEPS[:2], True))
    assert not session.backend.has_exactly(KeyManifest((1, 2, 5), True))
    assert not session.backend.has_exactly(KeyManifest(STEPS, False))
    assert TensealBackend(session.context).has_exactly(KeyManifest((), False))


@pytest.mark.encrypted
def test_bytes_fit_what_is_reserved_for_them(session: Session) -> None:
    data = session.secret.encrypt(np.ones(4096), 4, SCALE, "test")
    whole = session.context.ciphertext_bytes(4)
    assert whole / 5 < len(data) < whole * 0.6  # half is a seed, 28 of 64 bits are used
    relin, galois = session.secret.evaluation_keys(KeyManifest(STEPS, True))
    assert len(relin) < session.context.key_bytes(1)
    assert len(galois) == 1
    assert len(galois[0]) < session.context.key_bytes(3)


@pytest.mark.encrypted
@pytest.mark.parametrize(
    ("level", "scale", "message"),
    [
        (1, SCALE, "expected 2 polynomials at level 1, found 2 at 2"),
        (2, SCALE * 2, "expected scale 5.36871e+08, found 2.68435e+08"),
        (0, SCALE, "expected 2 polynomials at level 0, found 2 at 2"),
    ],
)
def test_a_ciphertext_of_another_type_is_refused(
    level: int, scale: float, message: str, session: Session
) -> None:
    data = session.secret.encrypt(session.random.uniform(-1, 1, 4096), 2, SCALE, "test")
    with pytest.raises(CompileError, match="The ciphertext cannot be used: ") as caught:
        session.context.load_ciphertext(data, level, scale, "message: tensor 'x'")
    assert message in str(caught.value)


@pytest.mark.encrypted
def test_a_damaged_ciphertext_is_refused_or_stays_a_ciphertext(session: Session) -> None:
    data = session.secret.encrypt(np.ones(4096), 1, SCALE, "test")
    for position in [*range(150), *range(200, len(data), len(data) // 60)]:
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        try:
            x = session.context.load_ciphertext(bytes(damaged), 1, SCALE, "test")
        except CompileError:
            continue
        assert (x.size(), session.backend.level(x)) == (2, 1)
    for length in [0, 1, 15, 16, 17, 100, len(data) - 1]:
        with pytest.raises(CompileError):
            session.context.load_ciphertext(data[:length], 1, SCALE, "test")


@pytest.mark.encrypted
def test_a_secret_key_of_another_ring_is_refused() -> None:
    secret = TensealSecret(TensealContext(SMALL)).to_bytes()
    with pytest.raises(CompileError) as caught:
        TensealSecret.from_bytes(TensealContext(DEEP), secret, "secret.key")
    assert str(caught.value) == (
        "The secret key cannot be used: plaintext data is invalid\n"
        "  --> secret.key\n"
        "  help: send it again, made with the same plan"
    )


def test_the_security_check_is_on() -> None:
    insecure = EncryptionParameters(4096, DEEP.primes, DEEP.special_primes, 128)
    with pytest.raises(CompileError) as caught:
        TensealContext(insecure)
    assert str(caught.value) == (
        "Microsoft SEAL refuses the encryption parameters: parameters are not compliant with "
        "HomomorphicEncryption.org security standard\n"
        "  --> ring degree 4096, 5 primes and a special one, 210 bits, 128-bit security\n"
        "  help: compile the model again with this version of hec"
    )
    TensealContext(insecure, insecure_for_tests=True)


@pytest.mark.parametrize(
    "parameters",
    [
        EncryptionParameters(4096, (15, 17), (19,), 128),
        EncryptionParameters(4096, (2**62, 3), (5,), 128),
        EncryptionParameters(4095, SMALL.primes, SMALL.special_primes, 128),
        EncryptionParameters(4096, SMALL.primes, SMALL.special_primes, 64),
        EncryptionParameters(4096, (), SMALL.special_primes, 128),
    ],
)
def test_absurd_parameters_are_refused(parameters: EncryptionParameters) -> None:
    with pytest.raises(CompileError, match=r"^Microsoft SEAL refuses the encryption parameters: "):
        TensealContext(parameters)


def test_the_level_counts_the_rescalings_left() -> None:
    context = TensealContext(DEEP)
    assert len(context.parms_ids) == DEEP.top_level + 1
    assert context.galois_element(-1) == context.galois_element(DEEP.slots - 1)


@pytest.mark.encrypted
def test_objects_pass_through_a_private_folder_that_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr(tenseal_context, "MEMORY_FOLDER", tmp_path)

    class Saved:
        def save(self, path: str) -> None:
            modes.append(Path(path).parent.stat().st_mode & 0o777)
            assert Path(path).is_relative_to(tmp_path)
            Path(path).write_bytes(b"key")

    assert tenseal_context.to_bytes(Saved(), 100) == b"key"
    assert modes == [0o700]
    assert list(tmp_path.iterdir()) == []
