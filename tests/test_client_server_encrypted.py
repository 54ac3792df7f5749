"""Client and server on real ciphertexts: the answer is right, and only the owner can read it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.errors import CompileError, HecWarning
from hec.compiler.plan import Plan
from hec.compiler.tensor_ir import EpilogueStep
from hec.runtime import container, executor
from hec.runtime.cleartext import Cleartext, Slots
from hec.runtime.client import Client
from hec.runtime.server import Server
from sample_plans import deep_program, linear_program, plan_of

pytestmark = pytest.mark.encrypted

Array = NDArray[np.float64]
TOLERANCE = 2e-3  # 28-bit scales; outputs up to 10
ROOT = Path(__file__).resolve().parent.parent


def expected(program: Program, tensors: dict[str, Array]) -> dict[str, Array]:
    """Return the outputs by the cleartext backend, as flat vectors."""
    values = {}
    for x in program.instructions:
        if isinstance(x, ckks_ir.Input):
            packed = x.layout.pack(tensors[x.name].reshape(1, -1) / x.divisor)[0]
            values[x.name] = [Slots(block[None], x.level, x.scale) for block in packed]
    clear = Cleartext(program.parameters)
    outputs = executor.run(executor.prepare(program, clear), values)
    return {
        y.name: y.layout.unpack(np.stack([b.values[0] for b in outputs[y.name]])[None])[0]
        * y.factor
        for y in program.instructions
        if isinstance(y, ckks_ir.Output)
    }


def image(seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-2, 2, (1, 12))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(linear_program())


@pytest.fixture(scope="module")
def client(plan: Plan) -> Iterator[Client]:
    yield Client(plan)


@pytest.fixture(scope="module")
def server(plan: Plan, client: Client) -> Iterator[Server]:
    yield Server(plan, client.evaluation_keys())


def test_the_answer_is_that_of_the_program(plan: Plan, client: Client, server: Server) -> None:
    for seed in range(3):
        x = image(seed)
        answer = client.decrypt(server.run(client.encrypt(x)))
        assert isinstance(answer, np.ndarray) and answer.shape == (1, 10)
        reference = expected(plan.server.program, {"image": x})["scores"]
        np.testing.assert_allclose(answer[0], reference, rtol=0, atol=TOLERANCE)


def test_every_operation_on_real_ciphertexts_several_inputs_and_outputs() -> None:
    plan = plan_of(deep_program())
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    random = np.random.default_rng(1)
    tensors = {name: random.uniform(-0.4, 0.4, (1, 8)) for name in ("left", "right")}
    answers = client.decrypt(server.run(client.encrypt(tensors)))
    assert isinstance(answers, dict)
    reference = expected(plan.server.program, tensors)
    assert answers.keys() == reference.keys()
    for name, values in reference.items():
        np.testing.assert_allclose(answers[name].ravel(), values, rtol=0, atol=TOLERANCE)


def test_the_epilogue_runs_after_decryption(plan: Plan, client: Client) -> None:
    output = replace(plan.client.outputs[0], epilogue=(EpilogueStep("argmax", axis=1),))
    ranked = plan_of(linear_program(), outputs=(output,))
    owner = Client(ranked)
    answer = owner.decrypt(Server(ranked, owner.evaluation_keys()).run(owner.encrypt(image())))
    scores = expected(plan.server.program, {"image": image()})["scores"]
    assert isinstance(answer, np.ndarray) and answer.dtype == np.int64
    assert answer.tolist() == [[int(np.argmax(scores))]]


def test_keys_survive_a_folder(plan: Plan, client: Client, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "keys"
    client.save(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["evaluation.key", "secret.key"]
    again = Client.load(plan, folder)
    answer = server.run(again.encrypt(image()))
    np.testing.assert_allclose(
        np.asarray(again.decrypt(answer)), np.asarray(client.decrypt(answer)), atol=1e-12
    )
    other = Server(plan, (folder / "evaluation.key").read_bytes())
    answer = other.run(client.encrypt(image()))
    reference = expected(plan.server.program, {"image": image()})["scores"]
    np.testing.assert_allclose(np.ravel(client.decrypt(answer)), reference, atol=TOLERANCE)


SERVER_SCRIPT = """
import sys
from pathlib import Path
from hec.compiler.plan import Plan
from hec.runtime.server import Server
plan, keys, message, answer = map(Path, sys.argv[1:])
server = Server(Plan.load(plan), keys.read_bytes())
answer.write_bytes(server.run(message.read_bytes()))
"""


def test_client_and_server_in_two_processes_share_files_only(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "server.hec")
    plan.save_client(tmp_path / "client.hec")
    part = Plan.load_client(tmp_path / "client.hec")
    Client(part).save(tmp_path / "keys")
    owner = Client.load(part, tmp_path / "keys")
    (tmp_path / "message").write_bytes(owner.encrypt(image()))
    names = ("server.hec", "keys/evaluation.key", "message", "answer")
    command = [sys.executable, "-c", SERVER_SCRIPT, *(str(tmp_path / name) for name in names)]
    subprocess.run(command, cwd=ROOT, check=True)
    answer = owner.decrypt((tmp_path / "answer").read_bytes())
    reference = expected(plan.server.program, {"image": image()})["scores"]
    np.testing.assert_allclose(np.ravel(answer), reference, rtol=0, atol=TOLERANCE)


def test_another_secret_reads_noise(plan: Plan, client: Client, server: Server) -> None:
    answer = server.run(client.encrypt(image()))
    with_other = np.ravel(Client(plan).decrypt(answer))
    reference = expected(plan.server.program, {"image": image()})["scores"]
    assert np.abs(with_other - reference).min() > 1


def test_the_server_refuses_a_secret_key(plan: Plan, client: Client, tmp_path: Path) -> None:
    client.save(tmp_path / "keys")
    path = tmp_path / "keys" / "secret.key"
    with pytest.raises(CompileError) as caught:
        Server(plan, path.read_bytes(), str(path))
    assert str(caught.value) == (
        "Expected evaluation keys, found a secret key\n"
        f"  --> {path}\n"
        "  help: give evaluation keys; the secret key must never leave the data owner"
    )


def test_the_server_refuses_keys_of_another_plan(plan: Plan) -> None:
    other = plan_of(linear_program(), model="other.onnx")
    with pytest.raises(CompileError) as caught:
        Server(plan, Client(other).evaluation_keys())
    assert str(caught.value) == (
        f"Expected evaluation keys for plan {plan.plan_id[:12]}; "
        f"this is for {other.plan_id[:12]}\n"
        "  --> evaluation keys\n"
        "  help: client and server must use the same plan; make it again with this one"
    )


def test_the_server_refuses_keys_that_are_not_those_of_the_manifest(plan: Plan) -> None:
    part = plan.client
    for steps in (part.keys.rotations[:-1], (*part.keys.rotations, 77)):
        wrong = replace(part, keys=replace(part.keys, rotations=tuple(sorted(steps))))
        data = Client(wrong).evaluation_keys()
        with pytest.raises(CompileError) as caught:
            Server(plan, data, "evaluation.key")
        assert str(caught.value) == (
            "The evaluation keys are not those that the plan needs\n"
            "  --> evaluation.key\n"
            "  help: make the keys again with this plan"
        )


def test_the_server_refuses_an_answer_as_a_question(client: Client, server: Server) -> None:
    answer = server.run(client.encrypt(image()))
    with pytest.raises(CompileError, match="Expected an encrypted input, found an encrypted out"):
        server.run(answer)


def test_the_server_refuses_missing_and_swapped_ciphertexts(
    plan: Plan, client: Client, server: Server
) -> None:
    good = container.unpack(client.encrypt(image()), "encrypted input", plan.client)
    short = container.pack("encrypted input", plan.client, {"image": good["image"][:1]})
    with pytest.raises(CompileError) as caught:
        server.run(short, "message.bin")
    assert str(caught.value) == (
        "Expected the ciphertexts 'image' (2), found 'image' (1)\n"
        "  --> message.bin\n"
        "  help: make the message again with this plan"
    )
    huge = (good["image"][0], bytes(10**6))
    with pytest.raises(CompileError) as caught:
        server.run(container.pack("encrypted input", plan.client, {"image": huge}), "message.bin")
    assert str(caught.value) == (
        "The ciphertext cannot be used: 1000000 bytes are too many\n"
        "  --> message.bin: tensor 'image'\n"
        "  help: send it again, made with the same plan"
    )


def test_the_client_refuses_what_the_server_did_not_compute(
    plan: Plan, client: Client, server: Server
) -> None:
    fresh = container.unpack(client.encrypt(image()), "encrypted input", plan.client)
    forged = container.pack("encrypted output", plan.client, {"scores": fresh["image"][:1]})
    with pytest.raises(CompileError) as caught:
        client.decrypt(forged)
    assert str(caught.value) == (
        "The ciphertext cannot be used: expected 2 polynomials at level 0, found 2 at 1\n"
        "  --> encrypted output: tensor 'scores'\n"
        "  help: send it again, made with the same plan"
    )


def test_inputs_are_matched_by_name(client: Client) -> None:
    with pytest.raises(CompileError) as caught:
        client.encrypt({"picture": image()})
    assert str(caught.value) == (
        "Expected a value for 'image'; got 'picture'\n"
        "  --> inputs of the model\n"
        "  help: give a dictionary from input name to array"
    )


def test_one_array_is_not_enough_for_two_inputs() -> None:
    client = Client(plan_of(deep_program()))
    with pytest.raises(CompileError) as caught:
        client.encrypt(np.zeros(8))
    assert str(caught.value) == (
        "Expected a value for 'left', 'right'; got one unnamed array\n"
        "  --> inputs of the model\n"
        "  help: give a dictionary from input name to array"
    )


def test_values_far_outside_warn_and_absurd_ones_are_refused(client: Client) -> None:
    with pytest.warns(HecWarning, match="leave the calibrated range"):
        client.encrypt(image() * 1.5)
    with (
        pytest.warns(HecWarning, match="leave the calibrated range"),
        pytest.raises(CompileError, match=r"^The values cannot be encrypted \("),
    ):
        client.encrypt(np.full((1, 12), 1e30))


def test_a_secret_key_of_another_plan_is_refused(client: Client, tmp_path: Path) -> None:
    client.save(tmp_path / "keys")
    other = plan_of(linear_program(), model="other.onnx")
    with pytest.raises(CompileError, match="Expected a secret key for plan"):
        Client.load(other, tmp_path / "keys")
