"""Files of OpenFHE's evaluation keys: whole they are read, and anything else is refused.

Whatever is refused leaves the key tables of the process as they were.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fhe_sessions import (
    REFRESHING,
    SHORT,
    Session,
    fhe,
    leveled_part,
    refreshing_part,
    tables,
)
from hec.compiler.errors import CompileError
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.plan_parts import ClientPart
from hec.runtime import container, key_file, keys, openfhe_keys
from hec.runtime.openfhe_client import OpenfheSecret, new_secret_key
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_server import OpenfheEvaluator

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

PART = leveled_part(KeyManifest((1, 2), True), SHORT)
END_BYTES = 4 + 32 + 8  # length of the trailer, checksum, magic
WRONG = "The evaluation keys are not those that the plan needs"
AGAIN = "make the keys again with this plan"
COPY = "copy the file again from where it was made, or make it again"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    gc.collect()  # keys of earlier modules would leave the tables at any moment
    yield Session(PART, tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def whole(session: Session) -> bytes:
    return session.path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evaluation.key"


def refusal(session: Session, evaluation_keys: Path | bytes) -> tuple[str, str]:
    """Return problem and help; the tables stay as they are."""
    before = tables()
    with pytest.raises(CompileError) as caught:
        session.server(evaluation_keys)
    (problem,) = caught.value.problems
    del caught  # with the frames of its traceback, which hold keys
    assert problem.place.startswith("evaluation.key")
    assert tables() == before
    return problem.message, problem.help


def trailer_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[-END_BYTES:][:4], "little")
    trailer: dict[str, Any] = json.loads(data[-END_BYTES - length : -END_BYTES])
    return trailer


def sealed(archives: bytes, trailer: dict[str, Any]) -> bytes:
    """Return a file whose length and checksum fit."""
    header = json.dumps(trailer, sort_keys=True, separators=(",", ":")).encode()
    body = archives + header + len(header).to_bytes(4, "little")
    return body + hashlib.sha256(body).digest() + key_file.MAGIC


def changed(data: bytes, **changes: object) -> bytes:
    trailer = trailer_of(data)
    return sealed(data[: sum(trailer["sizes"])], trailer | changes)


def written(part: ClientPart, path: Path, make: Callable[[Any, Any], None]) -> bytes:
    """Return the file of the keys that `make` makes with a context and a secret key."""
    context = OpenfheContext(part.parameters, insecure_for_tests=True)
    secret = new_secret_key(context)
    tag = secret.GetKeyTag()
    make(context.fhe, secret)
    key_file.write(path, part, tag)
    openfhe_keys.forget(tag)
    return path.read_bytes()


def test_a_file_is_read_back_and_holds_exactly_the_keys_of_the_manifest(
    session: Session, whole: bytes
) -> None:
    tag = trailer_of(whole)["tag"]
    assert tables()[tag] == ([5, 25], True)  # left by k slots is the automorphism 5^k
    assert session.backend.keys.rotations == {1, 2}
    assert session.path.stat().st_mode & 0o777 == 0o644


def test_sealing_a_file_again_changes_nothing(whole: bytes) -> None:
    assert changed(whole) == whole


def test_keys_may_be_bytes(session: Session, whole: bytes) -> None:
    values, x = session.fresh(1, 2.0**26)
    again = session.server(whole)
    rotated = again.backend.rotate(x, 1)
    np.testing.assert_allclose(session.decrypted(rotated), np.roll(values, -1), rtol=0, atol=5e-3)


@pytest.mark.parametrize("length", [0, 1, 43])
def test_a_stub_is_other_data(length: int, session: Session, whole: bytes) -> None:
    assert refusal(session, whole[:length]) == (
        "Expected evaluation keys, found other data",
        "give evaluation keys made by hec",
    )


def test_every_truncation_is_refused(session: Session, whole: bytes) -> None:
    for length in [45, 100, *np.linspace(200, len(whole) - 1, 20, dtype=int)]:
        assert refusal(session, whole[: int(length)]) == (
            "The file is damaged: its end is missing, or it is no file of evaluation keys",
            COPY,
        )


def test_every_flipped_bit_is_refused(session: Session, whole: bytes, path: Path) -> None:
    trailer = len(whole) - 500
    spread = np.linspace(0, trailer, 20, dtype=int).tolist()
    end = range(len(whole) - END_BYTES, len(whole), 4)
    for position in [*spread, *range(trailer, len(whole), 13), *end]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        refusal(session, path)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    assert refusal(session, bytes(damaged)) == (
        "The file is damaged: its content does not match its checksum",
        COPY,
    )


def test_a_missing_file_and_a_folder_are_refused(session: Session, tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "nothing", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(CompileError) as caught:
            session.server(path)
        assert str(caught.value) == (
            f"Cannot read the evaluation keys: {reason}\n  --> {path}\n  help: check the path"
        )


def test_keys_of_another_plan_are_refused(session: Session, path: Path) -> None:
    OpenfheSecret(session.context).write_evaluation_keys(replace(PART, plan_id="b" * 64), path)
    assert refusal(session, path) == (
        "Expected evaluation keys for plan aaaaaaaaaaaa; this is for bbbbbbbbbbbb",
        "client and server must use the same plan; make it again with this one",
    )


def test_a_secret_key_is_refused(session: Session) -> None:
    secret = container.pack("secret key", PART, {"secret": (session.secret.to_bytes(),)})
    assert refusal(session, secret) == (
        "Expected evaluation keys, found a secret key",
        "give evaluation keys; the secret key must never leave the data owner",
    )
    assert refusal(session, session.secret.to_bytes()) == (
        "The file is damaged: its end is missing, or it is no file of evaluation keys",
        COPY,
    )


def test_keys_of_seal_are_refused(session: Session) -> None:
    for plan_id, message, help in (
        (
            PART.plan_id,
            "Expected evaluation keys, found other data",
            "give evaluation keys made by",
        ),
        ("b" * 64, "Expected evaluation keys for plan aaaaaaaaaaaa", "client and server must use"),
    ):
        seal = replace(PART, backend="tenseal", plan_id=plan_id)
        found = refusal(session, keys.pack_evaluation_keys(seal, b"relinearization", (b"galois",)))
        assert found[0].startswith(message) and found[1].startswith(help)


@pytest.mark.parametrize(
    ("steps", "product"), [((1,), True), ((1, 2, 3), True), ((1, 3), True), ((1, 2), False)]
)
def test_keys_that_are_not_those_of_the_manifest_are_refused(
    steps: tuple[int, ...],
    product: bool,
    session: Session,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = leveled_part(KeyManifest(steps, product), SHORT)
    OpenfheSecret(session.context).write_evaluation_keys(part, path)
    monkeypatch.setattr(openfhe_keys, "read", None)  # refused before OpenFHE reads a byte
    assert refusal(session, path) == (WRONG, AGAIN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "Expected format version 1, found version 2"),
        ({"kind": "keys"}, "The file is damaged: expected one of secret key, evaluation keys,"),
        ({"kind": "encrypted input"}, "Expected evaluation keys, found an encrypted input"),
        ({"parameters": "0" * 64}, "The file is damaged: its encryption parameters are not those"),
        ({"sizes": [1, 2]}, "The file is damaged: expected two sizes that add up, found [1, 2]"),
        ({"sizes": [-1, 5]}, "The file is damaged: expected two sizes that add up, found [-1, 5]"),
        ({"sizes": []}, "The file is damaged: expected two sizes that add up, found []"),
        ({"automorphisms": [5]}, WRONG),
        ({"automorphisms": [5, 25, 125]}, WRONG),
        ({"automorphisms": ["5", "25"]}, "The file is damaged: expected a whole number, found "),
        ({"tag": 7}, "The file is damaged: expected a text, found 7"),
        ({"tag": "0" * 32}, WRONG),
        ({"tag": ""}, WRONG),
        ({"more": 1}, "The file is damaged: expected an object with automorphisms, kind, "),
    ],
)  # fmt: skip
def test_a_hostile_trailer_is_refused(
    changes: dict[str, object], message: str, session: Session, whole: bytes
) -> None:
    before = tables()
    with pytest.raises(CompileError) as caught:
        session.server(changed(whole, **changes))
    assert str(caught.value).startswith(message)
    assert tables() == before


def test_a_trailer_longer_than_the_file_is_refused(session: Session, whole: bytes) -> None:
    body = whole[:-END_BYTES] + b"\xff\xff\xff\x7f"
    assert refusal(session, body + hashlib.sha256(body).digest() + key_file.MAGIC) == (
        "The file is damaged: its header is too long",
        COPY,
    )


def test_archives_that_openfhe_cannot_read_are_refused(session: Session, path: Path) -> None:
    """A forger can seal what he likes; what OpenFHE notices is undone."""
    OpenfheSecret(session.context).write_evaluation_keys(PART, path)
    data = path.read_bytes()
    trailer = trailer_of(data)
    rotations, product = trailer["sizes"]
    halves = data[: rotations // 2] + data[rotations : rotations + product]
    half = sealed(halves, trailer | {"sizes": [rotations // 2, product]})
    message, help = refusal(session, half)
    assert message.startswith("The file is damaged: OpenFHE cannot read it: ")
    assert help == COPY
    cut = sealed(data[: rotations + 1000], trailer | {"sizes": [rotations, 1000]})
    assert refusal(session, cut)[0].startswith("The file is damaged: OpenFHE cannot read it: ")


def test_an_archive_without_the_key_that_it_promises_is_refused(
    session: Session, path: Path
) -> None:
    """Its list of relinearization keys is empty, and OpenFHE does not mind."""
    OpenfheSecret(session.context).write_evaluation_keys(PART, path)
    data = path.read_bytes()
    trailer = trailer_of(data)
    rotations, _ = trailer["sizes"]
    product = openfhe_keys.archive_start(trailer["tag"]) + bytes(8)
    forged = sealed(data[:rotations] + product, trailer | {"sizes": [rotations, len(product)]})
    assert refusal(session, forged) == (WRONG, AGAIN)


def test_archives_of_several_keys_are_refused(session: Session, path: Path) -> None:
    """Keys under other tags would stay in the tables, or replace those of another client."""
    data = session.path.read_bytes()
    OpenfheSecret(session.context).write_evaluation_keys(PART, path)
    context = fhe.CryptoContext
    own = session.server(path)  # two clients' keys are in the tables now
    both = path.with_name("both")
    assert context.SerializeEvalAutomorphismKey(str(both), fhe.BINARY, "")
    product = openfhe_keys.product_key(own.backend.keys.tag)
    trailer = trailer_of(data) | {"tag": own.backend.keys.tag}
    trailer["sizes"] = [both.stat().st_size, len(product)]
    assert refusal(session, sealed(both.read_bytes() + product, trailer)) == (WRONG, AGAIN)


OTHER_CLIENT = """
import sys
from pathlib import Path
from fhe_sessions import Session, leveled_part
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.key_manifest import KeyManifest
from hec.runtime.openfhe_primes import chain
smaller = EncryptionParameters(4096, *chain(4096, (27, 20)), 128)
Session(leveled_part(KeyManifest((1, 2), True), smaller), Path(sys.argv[1]))
"""


def test_keys_of_other_parameters_are_refused(session: Session, tmp_path: Path) -> None:
    """A forger can name the plan's own in the trailer, but they bring a context along."""
    command = [sys.executable, "-c", OTHER_CLIENT, str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
    data = (tmp_path / "evaluation.key").read_bytes()
    parameters = trailer_of(session.path.read_bytes())["parameters"]
    assert refusal(session, data)[0].endswith("encryption parameters are not those of its plan")
    assert refusal(session, changed(data, parameters=parameters)) == (WRONG, AGAIN)


def test_keys_without_those_of_the_bootstrap_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """OpenFHE would end the process. The ring is insecure."""
    part = refreshing_part(REFRESHING)
    folder = tmp_path_factory.mktemp("keys")
    session = Session(part, folder)

    def make(context: Any, secret: Any) -> None:
        context.EvalMultKeyGen(secret)
        context.EvalRotateKeyGen(secret, [*range(1, 17), *range(32, 512, 16)])

    assert refusal(session, written(part, folder / "few", make)) == (WRONG, AGAIN)


def test_a_folder_that_cannot_be_written_to_is_named(session: Session, tmp_path: Path) -> None:
    before, path = tables(), tmp_path / "missing" / "evaluation.key"
    with pytest.raises(CompileError) as caught:
        session.secret.write_evaluation_keys(PART, path)
    assert str(caught.value) == (
        "Cannot write the file: No such file or directory\n"
        f"  --> {path}\n"
        "  help: check the folder, its permissions, and the disk"
    )
    assert tables() == before


def test_a_file_is_for_everyone_whatever_the_umask(session: Session, path: Path) -> None:
    """The server runs as another user, perhaps; there is no secret in it."""
    umask = os.umask(0o077)
    try:
        session.secret.write_evaluation_keys(PART, path)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_appears_whole_and_leaves_nothing_beside_it(
    session: Session, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.secret.write_evaluation_keys(PART, path)
    good = path.read_bytes()

    def full(tag: str) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openfhe_keys, "product_key", full)
    with pytest.raises(CompileError, match=r"^Cannot write the file: No space left on device"):
        session.secret.write_evaluation_keys(PART, path)
    assert path.read_bytes() == good
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_server_of_a_secure_plan_makes_its_own_context(session: Session) -> None:
    alone = OpenfheEvaluator(PART, session.path, "evaluation.key")
    assert alone.backend.has_exactly(PART.keys)
