"""Client and server on OpenFHE as processes of their own, which share nothing but files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fhe_sessions import LEVELED
from hec.compiler.plan import Plan
from hec.runtime.client import Client
from sample_plans import dense, linear_program, plan_of

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

Array = NDArray[np.float64]
TOLERANCE = 4e-3  # 28-bit scales, outputs up to 10


def process(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    code = "from hec.compiler.cli import main; main()"
    words = [sys.executable, "-c", code, *line.split()]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(linear_program(LEVELED), backend="openfhe")


@pytest.fixture(scope="module")
def folder(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plan's files, an input, keys, and the request and reply of a prediction."""
    folder = tmp_path_factory.mktemp("files")
    plan.save(folder / "server.hec")
    plan.save_client(folder / "client.hec")
    np.save(folder / "x.npy", np.random.default_rng(0).uniform(-2, 2, (1, 12)))
    for line in (
        "keygen client.hec -o keys/",
        "encrypt client.hec --keys keys/ x.npy -o x.enc",
        "run server.hec --keys keys/evaluation.key x.enc -o y.enc",
        "decrypt client.hec --keys keys/ y.enc -o y.npy",
    ):
        run = process(folder, line)
        assert (run.returncode, run.stderr) == (0, ""), line
    return folder


def expected(plan: Plan, x: Array) -> Array:
    """Return the scores by the definition of the program's matrix and bias."""
    image, linear, _, bias, scores = plan.server.program.instructions
    packed = image.layout.pack(x / image.divisor)[0]
    values = dense(linear.matrix, packed) + bias.values
    return np.asarray(scores.layout.unpack(values[None])[0] * scores.factor)


def test_a_prediction_travels_through_files(plan: Plan, folder: Path) -> None:
    answer = np.load(folder / "y.npy")
    assert answer.shape == (1, 10)
    reference = expected(plan, np.load(folder / "x.npy"))
    np.testing.assert_allclose(answer[0], reference, rtol=0, atol=TOLERANCE)


def test_the_secret_is_for_its_owner_only(folder: Path) -> None:
    keys = folder / "keys"
    assert sorted(path.name for path in keys.iterdir()) == ["evaluation.key", "secret.key"]
    assert keys.stat().st_mode & 0o777 == 0o700
    assert (keys / "secret.key").stat().st_mode & 0o777 == 0o600
    assert (keys / "evaluation.key").stat().st_mode & 0o777 == 0o644


def test_keys_are_not_made_twice(folder: Path) -> None:
    before = (folder / "keys" / "secret.key").read_bytes()
    run = process(folder, "keygen client.hec -o keys/")
    assert (run.returncode, run.stderr) == (
        2,
        "The folder already holds a secret key\n  --> keys/secret.key\n"
        "  help: choose another folder; whoever overwrites a secret key loses what it encrypted\n",
    )
    assert (folder / "keys" / "secret.key").read_bytes() == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "keys/secret.key",
            "Expected evaluation keys, found a secret key\n  --> keys/secret.key\n"
            "  help: give evaluation keys; the secret key must never leave the data owner\n",
        ),
        (
            "x.enc",
            "Expected evaluation keys, found an encrypted input\n  --> x.enc\n"
            "  help: give evaluation keys\n",
        ),
        (
            "cut.key",
            "The file is damaged: its end is missing, or it is no file of evaluation keys\n"
            "  --> cut.key\n"
            "  help: copy the file again from where it was made, or make it again\n",
        ),
        (
            "no.key",
            "Cannot read the evaluation keys: No such file or directory\n  --> no.key\n"
            "  help: check the path\n",
        ),
    ],
)
def test_the_server_refuses_other_files_than_its_keys(
    keys: str, message: str, folder: Path
) -> None:
    whole = (folder / "keys" / "evaluation.key").read_bytes()
    (folder / "cut.key").write_bytes(whole[: len(whole) // 2])
    run = process(folder, f"run server.hec --keys {keys} x.enc -o z.enc")
    assert (run.returncode, run.stderr) == (2, message)
    assert not (folder / "z.enc").exists()


def test_the_server_refuses_a_damaged_request(folder: Path) -> None:
    request = bytearray((folder / "x.enc").read_bytes())
    request[len(request) // 2] ^= 1
    (folder / "damaged.enc").write_bytes(request)
    run = process(folder, "run server.hec --keys keys/evaluation.key damaged.enc -o z.enc")
    assert (run.returncode, run.stderr) == (
        2,
        "The file is damaged: its content does not match its checksum\n  --> damaged.enc\n"
        "  help: copy the file again from where it was made, or make it again\n",
    )


def test_the_owner_refuses_a_request_as_a_reply(folder: Path) -> None:
    run = process(folder, "decrypt client.hec --keys keys/ x.enc -o z.npy")
    assert (run.returncode, run.stderr) == (
        2,
        "Expected an encrypted output, found an encrypted input\n  --> x.enc\n"
        "  help: give an encrypted output\n",
    )


def test_keys_of_seal_are_refused(plan: Plan, folder: Path) -> None:
    """A plan for another backend is another plan, even with the same program."""
    seal = plan_of(linear_program(LEVELED))
    Client(seal).save(folder / "seal")
    run = process(folder, "run server.hec --keys seal/evaluation.key x.enc -o z.enc")
    assert (run.returncode, run.stderr) == (
        2,
        f"Expected evaluation keys for plan {plan.plan_id[:12]}; this is for"
        f" {seal.plan_id[:12]}\n  --> seal/evaluation.key\n"
        "  help: client and server must use the same plan; make it again with this one\n",
    )
    run = process(folder, "decrypt client.hec --keys seal/ y.enc -o z.npy")
    assert (run.returncode, run.stderr) == (
        2,
        f"Expected a secret key for plan {plan.plan_id[:12]}; this is for {seal.plan_id[:12]}\n"
        "  --> seal/secret.key\n"
        "  help: client and server must use the same plan; make it again with this one\n",
    )
