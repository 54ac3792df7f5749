"""Whole programs on OpenFHE: against the cleartext backend, and against Microsoft SEAL.

The ring of the program with bootstraps is insecure.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import refreshing_program
from fhe_sessions import LEVELED, REFRESHING, part_of
from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.memory import server_memory
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart, ServerPart
from hec.runtime import executor, sides
from hec.runtime.cleartext import Cleartext, Slots
from hec.runtime.client import Client
from hec.runtime.openfhe_client import OpenfheSecret
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_server import OpenfheEvaluator
from hec.runtime.server import Server
from sample_plans import deep_program, linear_program, plan_of

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

Array = NDArray[np.float64]
SEAL_TOLERANCE = 5e-4  # 28-bit scales, outputs up to 3
LEVELED_TOLERANCE = 4e-3  # the same; OpenFHE's key switches have an error of 5e-4 in slot 0
REFRESHED_TOLERANCE = 4e-4  # two bootstraps whose argument has an error of 4e-5 of deviation


@pytest.fixture
def insecure(monkeypatch: pytest.MonkeyPatch) -> OpenfheContext:
    """Let servers take a ring that is too small: `insecure_for_tests`."""
    context = OpenfheContext(REFRESHING, insecure_for_tests=True)

    def evaluator(part: ClientPart, keys: bytes | Path, place: str) -> OpenfheEvaluator:
        return OpenfheEvaluator(part, keys, place, context)

    monkeypatch.setattr(sides, "evaluator", evaluator)
    return context


def insecure_plan(program: Program) -> Plan:
    """Return a plan that no file could hold: its ring is too small."""
    return Plan(part_of(program), ServerPart(program, ("",) * len(program.instructions)))


def expected(program: Program, tensors: dict[str, Array]) -> dict[str, Array]:
    """Return the outputs by the cleartext backend, as flat vectors."""
    values = {}
    for x in program.instructions:
        if isinstance(x, ckks_ir.Input):
            packed = x.layout.pack(tensors[x.name].reshape(1, -1) / x.divisor)[0]
            values[x.name] = [Slots(block[None], x.level, x.scale) for block in packed]
    outputs = executor.run(executor.prepare(program, Cleartext(program.parameters)), values)
    return {
        y.name: y.layout.unpack(np.stack([b.values[0] for b in outputs[y.name]])[None])[0]
        * y.factor
        for y in program.instructions
        if isinstance(y, ckks_ir.Output)
    }


def answers(
    plan: Plan, tensors: dict[str, Array], folder: Path, secret: sides.Secret | None = None
) -> dict[str, Array]:
    """Return the outputs by client and server, as flat vectors; the keys are a file."""
    client = Client(plan, secret)
    client.save_evaluation_keys(folder / "evaluation.key")
    server = Server(plan, folder / "evaluation.key")
    result = client.decrypt(server.run(client.encrypt(tensors)))
    named = result if isinstance(result, dict) else {plan.client.outputs[0].name: result}
    return {name: np.ravel(values).astype(np.float64) for name, values in named.items()}


@pytest.mark.parametrize("shifts", [(0, 5), (0, 1, 17, 100, 300, 511)])
def test_bootstrap_matrix_bootstrap_is_the_program_in_the_clear(
    shifts: tuple[int, ...], insecure: OpenfheContext, tmp_path: Path
) -> None:
    """Some of the rotations have no keys of their own."""
    program = refreshing_program(REFRESHING, shifts)
    plan = insecure_plan(program)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8))
    found = answers(plan, {"x": x}, tmp_path, OpenfheSecret(insecure))["y"]
    reference = expected(program, {"x": x})["y"]
    assert np.abs(reference).max() > 0.03
    np.testing.assert_allclose(found, reference, rtol=0, atol=REFRESHED_TOLERANCE)


def test_diagonals_encoded_at_every_run_give_the_same_answer(
    insecure: OpenfheContext, tmp_path: Path
) -> None:
    """With no memory left for them, another thread encodes while ciphertexts are computed."""
    program = refreshing_program(REFRESHING)
    plan = insecure_plan(program)
    client = Client(plan, OpenfheSecret(insecure))
    client.save_evaluation_keys(tmp_path / "evaluation.key")
    least = server_memory(program).least
    server = Server(plan, tmp_path / "evaluation.key", max_ram=least)
    for seed in range(2):
        x = np.random.default_rng(seed).uniform(-0.5, 0.5, (1, 8))
        found = np.ravel(client.decrypt(server.run(client.encrypt(x))))
        reference = expected(program, {"x": x})["y"]
        np.testing.assert_allclose(found, reference, rtol=0, atol=REFRESHED_TOLERANCE)


@pytest.mark.parametrize("name", ["linear", "deep"])
def test_seal_and_openfhe_give_the_same_answer(name: str, tmp_path: Path) -> None:
    """The same program with the same primes, every operation of the IR but bootstraps."""
    program = linear_program(LEVELED) if name == "linear" else deep_program(LEVELED)
    random = np.random.default_rng(1)
    shapes = {"image": (1, 12), "left": (1, 8), "right": (1, 8)}
    tensors = {
        x.name: random.uniform(-0.4, 0.4, shapes[x.name])
        for x in program.instructions
        if isinstance(x, ckks_ir.Input)
    }
    reference = expected(program, tensors)
    found = {}
    for backend in ("tenseal", "openfhe"):
        folder = tmp_path / backend
        folder.mkdir()
        found[backend] = answers(plan_of(program, backend=backend), tensors, folder)
        assert found[backend].keys() == reference.keys()
    for output, values in reference.items():
        seal, openfhe = found["tenseal"][output], found["openfhe"][output]
        np.testing.assert_allclose(seal, values, rtol=0, atol=SEAL_TOLERANCE)
        np.testing.assert_allclose(openfhe, values, rtol=0, atol=LEVELED_TOLERANCE)
        np.testing.assert_allclose(openfhe, seal, rtol=0, atol=LEVELED_TOLERANCE)
