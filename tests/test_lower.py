"""Lowering keeps the meaning under every scale plan, and scales meet exactly."""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.depth import deepest_path, depth_by_layer
from hec.compiler.errors import InvalidProgram
from hec.compiler.functions import Function
from hec.compiler.lower import ScalePlan, label, lower, scales
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Linear, Polynomial, TensorGraph
from hec.compiler.typing_rules import infer_types
from hec.passes.choose_layouts import choose_layouts
from sample_graphs import (
    Builder,
    Strict,
    assert_keeps_meaning,
    compiled,
    expected,
    nominal,
    outputs,
    random_graph,
    samples,
)

PLANS = {
    "one prime each": ScalePlan(30, 30, 30),
    "primes of the matrix": ScalePlan(36, 24, 24),
    "primes of the working scale": ScalePlan(24, 20, 24),
    "a matrix in one prime": ScalePlan(28, 22, 50),
    "a matrix and a square in one prime": ScalePlan(24, 16, 56),
    "lazy, a matrix in one prime": ScalePlan(28, 22, 50, lazy=True),
    "lazy, a matrix and a square in one prime": ScalePlan(24, 16, 56, lazy=True),
    "inputs of a larger scale": ScalePlan(24, 16, 56, fresh=8),
}

TWO_PRIMES = ScalePlan(28, 22, 25, lazy=True)


def residual(degree: int = 0) -> TensorGraph:
    """Return branches of depth 0, 1 and 3 that meet in one layer, twice."""
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 20)
    for _ in range(2):
        y = b.linear((x,), 1, 12)
        z = b.polynomial(y, degree) if degree else b.multiply(y, y)
        x = b.linear((x, y, b.multiply(z, z)), 1, 20)
    return b.graph(x)


def count(program: Program, kind: type) -> int:
    return sum(isinstance(instruction, kind) for instruction in program.instructions)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_branches_meet_at_equal_levels_and_scales(plan: ScalePlan) -> None:
    _, lowered = assert_keeps_meaning(residual(), 32, plan)
    assert count(lowered.program, ckks_ir.Add) == 4
    assert count(lowered.program, ckks_ir.ModSwitch) >= 4


@pytest.mark.parametrize("seed", range(15))
def test_random_graphs_under_any_plan(seed: int) -> None:
    graph = random_graph(seed)
    plans = list(PLANS.values())
    if any(isinstance(operation, Polynomial) for operation in graph.operations):
        plans = plans[:1]  # as `parameters` does
    assert_keeps_meaning(graph, 64, plans[seed % len(plans)], tolerance=1e-11)


@pytest.mark.parametrize("degree", [3, 5, 7])
def test_polynomials_return_to_the_working_scale(degree: int) -> None:
    _, lowered = assert_keeps_meaning(residual(degree), 32, PLANS["one prime each"], 1e-11)
    types = infer_types(lowered.program)
    found = [
        types[position].scale
        for position, instruction in enumerate(lowered.program.instructions)
        if isinstance(instruction, ckks_ir.Polynomial)
    ]
    assert found == [2.0**30] * 2


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_layers_return_to_the_working_scale(plan: ScalePlan) -> None:
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 8)
    y = b.linear((b.multiply(*[b.linear((x,), 1, 8)] * 2),), 1, 8)
    _, lowered = compiled(b.graph(y), 16, plan)
    types = infer_types(lowered.program)
    assert plan.scale - 1 <= min(log2(value.scale) for value in types)
    assert max(log2(value.scale) for value in types) < 2 * (plan.scale + plan.prime)


@pytest.mark.parametrize(
    ("plan", "rescalings"),
    [
        ("one prime each", 3),
        ("a matrix in one prime", 1),
        ("a matrix and a square in one prime", 1),
        ("lazy, a matrix in one prime", 1),
        ("lazy, a matrix and a square in one prime", 1),
    ],
)
def test_a_large_prime_serves_several_products(plan: str, rescalings: int) -> None:
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 8)
    y = b.linear((b.multiply(*[b.linear((x,), 1, 8)] * 2),), 1, 8)
    _, lowered = compiled(b.graph(y), 16, PLANS[plan])
    assert count(lowered.program, ckks_ir.Rescale) == rescalings


def test_a_layer_that_drops_two_primes_returns_to_exactly_the_working_scale() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 8)
    _, lowered = compiled(b.graph(b.linear((b.multiply(x, x),), 1, 8)), 16, TWO_PRIMES)
    assert count(lowered.program, ckks_ir.Rescale) == 2
    assert infer_types(lowered.program)[-1].scale == pytest.approx(2.0**28, rel=1e-12)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_the_fold_is_where_its_errors_or_its_time_are_least(plan: ScalePlan) -> None:
    b = Builder(np.random.default_rng(0))
    b.linear((b.input("x", 1, 12),), 1, 3)
    _, lowered = compiled(b.graph(1), 64, plan)
    kinds = [type(x) for x in lowered.program.instructions if type(x) is not ckks_ir.ModSwitch]
    middle = [ckks_ir.RotateSum, ckks_ir.Rescale]
    if ckks_ir.Rescale not in kinds:
        middle = [ckks_ir.RotateSum]
    elif not plan.folds_first:
        middle.reverse()
    first = [ckks_ir.Input, ckks_ir.LinearTransform]
    assert kinds == [*first, *middle, ckks_ir.AddPlain, ckks_ir.Output]


def test_no_bias_is_no_instruction() -> None:
    b = Builder(np.random.default_rng(0))
    b.linear((b.input("x", 1, 12),), 1, 3)
    linear = b.operations[1]
    assert isinstance(linear, Linear)
    b.operations[1] = replace(linear, bias=np.zeros(3))
    _, lowered = compiled(b.graph(1), 64)
    assert count(lowered.program, ckks_ir.AddPlain) == 0


def test_outputs_end_at_level_0_where_they_fit() -> None:
    for seed in range(10):
        _, lowered = compiled(random_graph(seed), 64)
        types = infer_types(lowered.program)
        ends = [i for i, x in enumerate(lowered.program.instructions) if type(x) is ckks_ir.Output]
        assert {types[position].level for position in ends} == {0}


def test_an_output_too_large_for_the_first_prime_stays_above_it() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 8)
    graph = b.graph(b.multiply(x, x))
    parameters = nominal(16, 3, 50)
    lowered = lower(choose_layouts(graph, 16, Target()), parameters, ScalePlan(32, 32, 50))
    assert infer_types(lowered.program)[-1].level == 3  # 2^64 does not fit 2^60, nor rescale
    inputs = samples(graph)
    found = outputs(lowered.program, inputs, Strict(parameters))
    np.testing.assert_allclose(found["y0"], expected(graph, inputs)["y0"], atol=1e-12)


@pytest.mark.parametrize("fresh", [0, 4])
def test_inputs_enter_at_a_scale_of_their_own(fresh: int) -> None:
    plan = ScalePlan(24, 16, 56, fresh=fresh)
    laid_out = choose_layouts(residual(), 32, Target())
    entry = lower(laid_out, nominal(32, 6, 56), plan).program.instructions[0]
    assert isinstance(entry, ckks_ir.Input) and entry.scale == 2.0 ** (24 + fresh)


def test_every_instruction_knows_its_operation() -> None:
    graph = residual()
    _, lowered = compiled(graph, 32)
    assert len(lowered.sources) == len(lowered.program.instructions)
    for source, instruction in zip(lowered.sources, lowered.program.instructions, strict=True):
        name = getattr(instruction, "label", "")
        assert name in ("", *graph.operations[source].__dict__.get("origin", ()))
    assert lowered.sources[-1] == graph.outputs[0].operand
    assert set(lowered.sources) == set(range(len(graph.operations)))


def test_labels_name_three_nodes_at_most() -> None:
    b = Builder(np.random.default_rng(0))
    linear = b.operations[b.linear((b.input("x", 1, 4),), 1, 4)]
    assert isinstance(linear, Linear)
    assert label(replace(linear, origin=("a", "b"))) == "a + b"
    assert label(replace(linear, origin=("a", "b", "c", "d", "e"))) == "a + b + c + 2 more"
    assert label(replace(linear, origin=())) == ""


@pytest.mark.parametrize("degree", [0, 7])
def test_a_chain_that_is_too_short_is_refused(degree: int) -> None:
    laid_out = choose_layouts(residual(degree), 32, Target())
    message = r"^lower: the modulus chain ends at operation \d+$"
    for levels in range(4):
        with pytest.raises(InvalidProgram, match=message):
            lower(laid_out, nominal(32, levels, 30), PLANS["one prime each"])


def test_an_activation_cannot_be_lowered() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.input("x", 1, 4)
    b.add(Activation(x, Function("relu"), (1, 4)))
    with pytest.raises(InvalidProgram, match=r"^lower: operation 1 is still an activation$"):
        compiled(b.graph(1), 16)


def test_depth_counts_the_deepest_path_by_layer() -> None:
    graph = residual(7)
    assert deepest_path(graph) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert depth_by_layer(graph) == {
        "linear1": 1,
        "polynomial2": 3,
        "multiply3": 1,
        "linear4": 1,
        "linear5": 1,
        "polynomial6": 3,
        "multiply7": 1,
        "linear8": 1,
    }


def test_depth_is_what_the_program_takes() -> None:
    for degree in (0, 3, 7):
        graph = residual(degree)
        levels = sum(depth_by_layer(graph).values())
        program = compiled(graph, 32)[1].program
        reached = min(t.level for t in infer_types(program)[:-2])
        assert program.parameters.top_level - reached == levels


def test_layers_of_one_name_count_together() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.multiply(*[b.input("x", 1, 4)] * 2)
    y = b.multiply(x, x)
    b.operations[y] = replace(b.operations[y], origin=("multiply1",))  # type: ignore[type-var]
    assert depth_by_layer(b.graph(y)) == {"multiply1": 2}
    b.operations[y] = replace(b.operations[y], origin=())  # type: ignore[type-var]
    assert depth_by_layer(b.graph(y)) == {"multiply1": 1, "operation 2": 1}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("seed", range(4))
def test_scales_are_those_of_the_program_that_would_be_written(seed: int, plan: ScalePlan) -> None:
    graph, parameters = random_graph(seed), nominal(32, 40, plan.prime)
    laid_out = choose_layouts(graph, 32, Target())
    types = infer_types(lower(laid_out, parameters, plan).program)
    found = scales(laid_out, parameters, plan)
    assert [level for level, _ in found] == [value.level for value in types]
    np.testing.assert_allclose([s for _, s in found], [value.scale for value in types], rtol=1e-12)


def test_a_bias_is_packed_once_and_none_is_added_where_it_is_zero() -> None:
    b = Builder(np.random.default_rng(0))
    x = b.linear((b.input("x", 1, 4),), 1, 4)
    matrix = sp.csr_array(np.eye(4))
    b.add(Linear((x,), (matrix,), np.zeros(4), (1, 4)))
    laid_out = choose_layouts(b.graph(2), 8, Target())
    assert laid_out.packed_bias(1) is laid_out.packed_bias(1) is not None
    assert laid_out.packed_bias(2) is None
    program = lower(laid_out, nominal(8, 4, 30), PLANS["one prime each"]).program
    assert count(program, ckks_ir.AddPlain) == 1
