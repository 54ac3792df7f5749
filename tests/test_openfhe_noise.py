"""The noise model on OpenFHE: hybrid key switching, and functional bootstraps in a small ring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bootstrap_plans import refreshing_program
from fhe_sessions import MARKS, REFRESHING, part_of
from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart, ServerPart
from hec.runtime import sides
from hec.runtime.openfhe_client import OpenfheSecret
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_server import OpenfheEvaluator
from noise_networks import compiled, samples
from sample_plans import first_slots
from value_errors import (
    NOTHING,
    Array,
    assert_as_predicted,
    compared,
    decrypted,
    in_the_clear,
    simulated,
)

pytestmark = MARKS
ENCRYPTED = 6  # samples


@pytest.mark.parametrize("name", ["squares", "degree 7"])
def test_values_err_on_openfhe_as_predicted(name: str) -> None:
    model, plan = compiled(name, "openfhe")
    assert plan.client.backend == "openfhe" and plan.client.parameters.digits
    given = samples(model, ENCRYPTED, 1)
    exact = in_the_clear(plan, given)
    errors = compared(plan, exact, decrypted(plan, given))
    assert len(errors) >= 5 and errors[-1].name.endswith("Output")
    assert_as_predicted(errors[1:])  # decryption adds more to an input than encryption did


def insecure_plan() -> Plan:
    """Return bootstrap, matrix, bootstrap of all slots, in a ring that no file could name."""
    program = refreshing_program(REFRESHING, (0, 1, 17, 100, 300, 511))
    full, instructions = first_slots(REFRESHING.slots, REFRESHING.slots), []
    for x in program.instructions:
        if isinstance(x, ckks_ir.Input | ckks_ir.Output):
            instructions.append(replace(x, layout=full))
        else:
            instructions.append(x)
    changed = Program(REFRESHING, tuple(instructions))
    return Plan(part_of(changed), ServerPart(changed, ("",) * len(instructions)))


def with_magnitudes(plan: Plan, given: dict[str, Array]) -> Plan:
    sizes = dict[int, float]()
    for position, values in in_the_clear(plan, given).items():
        used = (np.abs(values) > NOTHING).any(axis=0)
        sizes[position] = float(np.sqrt(np.mean(values[:, used] ** 2)))
    count = len(plan.server.labels)
    magnitudes = tuple(sizes.get(position, 0.5) for position in range(count))
    return replace(plan, server=replace(plan.server, magnitudes=magnitudes))


def test_values_err_around_functional_bootstraps_as_predicted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = OpenfheContext(REFRESHING, insecure_for_tests=True)

    def evaluator(part: ClientPart, keys: bytes | Path, place: str) -> OpenfheEvaluator:
        return OpenfheEvaluator(part, keys, place, context)

    monkeypatch.setattr(sides, "evaluator", evaluator)
    given = {"x": np.random.default_rng(0).uniform(-0.5, 0.5, (ENCRYPTED, 1, REFRESHING.slots))}
    plan = with_magnitudes(insecure_plan(), given)
    exact = in_the_clear(plan, given)
    assert_as_predicted(compared(plan, exact, simulated(plan, given)))
    found = decrypted(plan, given, OpenfheSecret(context))
    assert_as_predicted(compared(plan, exact, found))
