"""Golden plans: what the compiler makes of small networks, so that a change shows in review.

`pytest --update-golden` rewrites tests/golden. The first lines count what costs time: a slower plan
is a larger number there.
"""

from __future__ import annotations

import pytest

from conftest import Golden
from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.plan import Plan
from hec.compiler.text import parse_program, payloads, print_program
from hec.runtime import executor
from test_ladder import MODELS, plan_of


def counted(program: Program) -> CostCounter:
    """Count the primitive steps of one prediction."""
    counter = CostCounter(program.parameters.ring_degree, program.parameters.primes)
    inputs = {
        x.name: [Counted(x.level, x.scale)] * x.layout.blocks
        for x in program.instructions
        if isinstance(x, ckks_ir.Input)
    }
    executor.run(executor.prepare(program, counter), inputs)
    return counter


def golden_text(plan: Plan) -> str:
    program = plan.server.program
    counter = counted(program)
    ciphertexts = sum(item.layout.blocks for item in plan.client.inputs)
    return (
        f"key switches: {counter.key_switches}\n"
        f"encoded plaintexts: {counter.plaintexts}\n"
        f"rotation keys: {len(plan.client.keys.rotations)}\n"
        f"input ciphertexts: {ciphertexts}\n"
        f"modulus: {program.parameters.modulus_bits:.0f} bits\n\n"
        f"{print_program(program)}"
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_the_golden_one(name: str, golden: Golden) -> None:
    golden.check(f"{name}.txt", golden_text(plan_of(name)))


@pytest.mark.parametrize("name", MODELS)
def test_the_golden_text_parses_back(name: str) -> None:
    program = plan_of(name).server.program
    text = print_program(program)
    assert print_program(parse_program(text, payloads(program))) == text
