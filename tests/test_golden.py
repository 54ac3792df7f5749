"""Golden plans: what the compiler makes of small networks, so that a change shows in review.

`pytest --update-golden` rewrites tests/golden. The first lines count what costs time: a slower plan
is a larger number there. Networks too large to print have a file of these lines alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

import hec
from conftest import Golden
from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.plan import Plan
from hec.compiler.program_counts import ProgramCounts, counts_of
from hec.compiler.target import BackendName, Target
from hec.compiler.text import parse_program, payloads, print_program
from hec.runtime import executor
from networks import Convolution, Dense, network
from sample_plans import TINY, deep_program
from test_ladder import MODELS, ROOT, data, plan_of

LENET = (Convolution(32, 5, 2), Convolution(64, 5, 2), Dense(512), Dense(10))  # as bench/lenet


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


def counts_text(counts: ProgramCounts) -> str:
    return "".join(f"{name.replace('_', ' ')}: {n}\n" for name, n in asdict(counts).items())


def mlp(backend: BackendName) -> Plan:
    target = Target(backend=backend)
    return hec.compile(ROOT / "examples" / "models" / "mlp.onnx", data("normalized")[0], target)


def lenet(backend: BackendName) -> Plan:
    target = Target(backend=backend)
    samples = np.random.default_rng(1).normal(size=(64, 1, 28, 28)).astype(np.float32)
    return hec.compile(network((1, 28, 28), LENET), samples, target)


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_the_golden_one(name: str, golden: Golden) -> None:
    program = plan_of(name).server.program
    golden.check(f"{name}.txt", f"{counts_text(counts_of(program))}\n{print_program(program)}")


@pytest.mark.parametrize(
    ("compiled", "backend"), [(mlp, "tenseal"), (mlp, "openfhe"), (lenet, "tenseal")]
)
def test_what_a_prediction_takes_is_as_golden(
    compiled: Callable[[BackendName], Plan], backend: BackendName, golden: Golden
) -> None:
    counts = counts_of(compiled(backend).server.program)
    golden.check(f"{compiled.__name__}-{backend}.txt", counts_text(counts))


def assert_counted_as_run(program: Program) -> None:
    """Counts of instructions are those of the steps that the executor takes."""
    told, steps = counts_of(program), counted(program)
    assert told.key_switches == steps.key_switches
    assert told.key_switch_limbs == steps.key_switch_limbs
    assert told.plain_products == steps.plain_products
    assert told.products == steps.products
    assert told.rescalings == steps.rescalings


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_those_of_a_run(name: str) -> None:
    assert_counted_as_run(plan_of(name).server.program)


def test_counts_of_every_operation_are_those_of_a_run() -> None:
    assert_counted_as_run(deep_program(TINY))


@pytest.mark.parametrize("name", MODELS)
def test_the_golden_text_parses_back(name: str) -> None:
    program = plan_of(name).server.program
    text = print_program(program)
    assert print_program(parse_program(text, payloads(program))) == text
