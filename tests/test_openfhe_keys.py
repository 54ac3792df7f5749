"""Keys of several clients in one process: they never mix, and leave with the last of their users.

OpenFHE keeps evaluation keys in tables of the process. The ring of the plan with bootstraps is
insecure.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import RELU
from fhe_sessions import SHORT, Session, fhe, leveled_part, refreshing_part, tables
from hec.compiler import fourier
from hec.compiler.errors import CompileError
from hec.compiler.key_manifest import KeyManifest
from hec.runtime import openfhe_keys
from hec.runtime.openfhe_client import OpenfheSecret
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_server import OpenfheEvaluator

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

Array = NDArray[np.float64]
PART = leveled_part(KeyManifest((1, 2), True), SHORT)
SCALE = 2.0**40
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def empty_tables() -> Iterator[None]:
    """Every test starts and ends with empty tables."""
    gc.collect()
    assert tables() == {}
    yield
    gc.collect()
    assert tables() == {}


def client(folder: Path, name: str) -> Session:
    (folder / name).mkdir()
    return Session(PART, folder / name)


def assert_computes(session: Session) -> None:
    values, x = session.fresh(1, SCALE)
    found = session.decrypted(session.backend.rotate(x, 1))
    np.testing.assert_allclose(found, np.roll(values, -1), rtol=0, atol=TOLERANCE)
    values, x = session.fresh(1, 2.0**22)
    product = session.backend.rescale(session.backend.multiply(x, x))
    np.testing.assert_allclose(session.decrypted(product), values**2, rtol=0, atol=2e-3)


def test_two_clients_do_not_mix(tmp_path: Path) -> None:
    first, second = client(tmp_path, "first"), client(tmp_path, "second")
    assert len(tables()) == 2
    for session in (first, second, first):
        assert_computes(session)


def test_the_result_of_one_client_is_nothing_to_another(tmp_path: Path) -> None:
    first, second = client(tmp_path, "first"), client(tmp_path, "second")
    y = first.backend.rotate(first.fresh(1, SCALE)[1], 1)
    with pytest.raises(CompileError, match="approximation error is too high"):
        second.secret.decrypt(first.evaluator.save(y, 1, SCALE), 1, SCALE, "test")


def test_a_ciphertext_of_another_client_gives_noise(tmp_path: Path) -> None:
    """The server cannot tell; but it computes with the keys of the client that it serves."""
    first, second = client(tmp_path, "first"), client(tmp_path, "second")
    data = second.secret.encrypt(np.ones(SHORT.slots), 1, SCALE, "test")
    x = first.backend.rotate(first.evaluator.load(data, 1, SCALE, "test"), 1)
    assert x.GetKeyTag() == first.backend.keys.tag
    for reader in (first, second):
        with pytest.raises(CompileError, match="approximation error is too high"):
            reader.secret.decrypt(first.evaluator.save(x, 1, SCALE), 1, SCALE, "test")


def test_keys_leave_with_their_user_and_others_stay(tmp_path: Path) -> None:
    first, second = client(tmp_path, "first"), client(tmp_path, "second")
    left = second.backend.keys.tag
    del first
    gc.collect()
    assert tables() == {left: ([5, 25], True)}
    assert_computes(second)


def test_keys_of_one_file_are_shared_and_leave_with_the_last_user(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    before = tables()
    second = session.server(session.path)
    assert tables() == before
    session.evaluator, session.backend = second, second.backend
    gc.collect()
    assert tables() == before
    assert_computes(session)


def test_the_user_of_shared_keys_survives_a_damaged_copy(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    damaged = bytearray(session.path.read_bytes())
    damaged[1000] ^= 1
    with pytest.raises(CompileError, match="does not match its checksum"):
        session.server(bytes(damaged))
    assert_computes(session)


def test_making_keys_leaves_the_tables_alone(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    before = tables()
    OpenfheSecret(session.context).write_evaluation_keys(PART, tmp_path / "other.key")
    session.secret.write_evaluation_keys(PART, tmp_path / "again.key")
    assert tables() == before
    assert_computes(session)
    session.evaluator = session.server(tmp_path / "again.key")
    session.backend = session.evaluator.backend
    assert_computes(session)


def test_evaluation_keys_are_made_anew_every_time(tmp_path: Path) -> None:
    """Of one secret key, but under tags of their own: which files belong together, none tells."""
    session = client(tmp_path, "first")
    session.secret.write_evaluation_keys(PART, tmp_path / "again.key")
    second = session.server(tmp_path / "again.key")
    assert second.backend.keys.tag != session.backend.keys.tag
    assert len(tables()) == 2


def test_keys_that_only_bootstraps_and_products_need_leave_too(tmp_path: Path) -> None:
    session = Session(refreshing_part(), tmp_path)
    ((rotations, has_product),) = tables().values()
    assert has_product and rotations == openfhe_keys.needed(session.parameters, session.part.keys)
    x = session.random.uniform(-0.5, 0.5, 512)
    y = session.backend.rescale(session.backend.bootstrap(session.encrypted(x, 3), RELU))
    np.testing.assert_allclose(session.decrypted(y), fourier.series(RELU, x), rtol=0, atol=2.5e-4)


@pytest.mark.parametrize(("steps", "product"), [((), True), ((1,), False), ((), False)])
def test_a_plan_may_need_only_some_kinds_of_keys(
    steps: tuple[int, ...], product: bool, tmp_path: Path
) -> None:
    part = leveled_part(KeyManifest(steps, product), SHORT)
    session = Session(part, tmp_path)
    assert session.backend.has_exactly(part.keys)
    assert list(tables().values()) == ([([5] * len(steps), product)] if steps or product else [])


def test_forgetting_unknown_keys_changes_nothing(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    before = tables()
    openfhe_keys.forget("nobody")
    assert tables() == before
    assert_computes(session)


def test_a_secret_key_comes_back_from_its_bytes(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    data = session.secret.to_bytes()
    assert len(data) == 4096 * (4 + 3)  # 28 and 20 bits
    again = OpenfheSecret.from_bytes(session.context, data, "secret.key")
    assert again.to_bytes() == data
    session.secret = again
    assert_computes(session)


def test_a_secret_key_is_made_anew_every_time() -> None:
    context = OpenfheContext(SHORT)
    keys = {OpenfheSecret(context).to_bytes() for _ in range(3)}
    assert len(keys) == 3


def test_bytes_that_are_no_secret_key_are_refused() -> None:
    context = OpenfheContext(SHORT)
    data = OpenfheSecret(context).to_bytes()
    for wrong in (b"", data[:-1], data + b"0", b"\xff" * len(data)):
        with pytest.raises(CompileError) as caught:
            OpenfheSecret.from_bytes(context, wrong, "secret.key")
        assert str(caught.value) == (
            "The secret key cannot be used: it is not one for these parameters\n"
            "  --> secret.key\n"
            "  help: send it again, made with the same plan"
        )


def test_a_file_of_evaluation_keys_holds_no_secret_key(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    limb = bytes(fhe.Serialize(session.secret._secret_key, fhe.BINARY))
    residues = [limb[start : start + 256] for start in range(4096, len(limb) - 4096, 4096)]
    evaluation_keys = session.path.read_bytes()
    assert len(residues) > 10
    assert not any(piece in evaluation_keys for piece in residues)


def test_a_server_needs_no_secret_to_make_its_context(tmp_path: Path) -> None:
    session = client(tmp_path, "first")
    alone = OpenfheEvaluator(PART, session.path, "evaluation.key")
    values = session.random.uniform(-1, 1, SHORT.slots)
    x = alone.load(session.secret.encrypt(values, 1, SCALE, "test"), 1, SCALE, "test")
    answer = alone.save(alone.backend.rotate(x, 2), 1, SCALE)
    found = session.secret.decrypt(answer, 1, SCALE, "test")
    np.testing.assert_allclose(found, np.roll(values, -2), rtol=0, atol=TOLERANCE)
