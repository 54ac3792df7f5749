"""Forecasts: seconds are those of the steps that run, and errors follow their rules."""

from __future__ import annotations

from dataclasses import astuple, fields, replace
from math import sqrt

import numpy as np
import pytest

from bootstrap_plans import parameters, refreshing_program
from hec.compiler import ckks_ir, noise, predicted_seconds
from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    Bootstrapping,
    DiagonalMatrix,
    Instruction,
    LinearTransform,
    Program,
)
from hec.compiler.cost import (
    CostCounter,
    Counted,
    bootstrap_seconds,
    composed_of,
    costs_of,
    openfhe_costs,
)
from hec.compiler.cost_table import REFERENCE, Line, SealSteps
from hec.compiler.errors import InvalidProgram
from hec.compiler.forecast import CONFIDENCE, Forecast, bootstrap_count, forecast
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.memory import server_memory
from hec.compiler.openfhe_costs import OpenfheCosts
from hec.compiler.predicted_seconds import seconds_of
from hec.compiler.rotation_routes import route
from hec.compiler.schedule import Split, rotations
from hec.compiler.typing_rules import infer_types
from hec.runtime import executor
from sample_graphs import FLAT, compiled, random_graph
from sample_plans import DEEP, SCALE, TINY, deep_program, diagonals, first_slots

HALF = 0.5
FRESH = noise.encryption(TINY.ring_degree) / SCALE


def counted(program: Program) -> CostCounter:
    """Run the program on the counter alone."""
    counter = CostCounter(program.parameters.ring_degree, program.parameters.primes)
    inputs = {
        x.name: [Counted(x.level, x.scale)] * x.layout.blocks
        for x in program.instructions
        if isinstance(x, ckks_ir.Input)
    }
    executor.run(executor.prepare(program, counter), inputs)
    return counter


def predicted(*instructions: Instruction, magnitude: float = HALF) -> Forecast:
    entry = ckks_ir.Input("x", first_slots(TINY.slots, 4), 4, SCALE, 1.0)
    program = Program(TINY, (entry, *instructions))
    return forecast(program, [magnitude] * len(program.instructions))


def last(*instructions: Instruction, magnitude: float = HALF) -> float:
    return predicted(*instructions, magnitude=magnitude).deviations[-1]


@pytest.mark.parametrize("seed", range(12))
def test_seconds_are_those_of_the_steps(seed: int) -> None:
    """Up to one addition for each output ciphertext of a matrix and of a giant step."""
    program = compiled(random_graph(seed), 64)[1].program
    seconds = forecast(program, [HALF] * len(program.instructions)).seconds
    messages = (ckks_ir.Input, ckks_ir.Output)
    found = sum(
        each
        for each, x in zip(seconds, program.instructions, strict=True)
        if not isinstance(x, messages)
    )
    assert found == pytest.approx(counted(program).seconds, rel=0.03)


def test_each_kind_of_instruction_costs_what_its_steps_cost() -> None:
    program = deep_program(TINY)
    seconds = forecast(program, [HALF] * 12).seconds
    costs = REFERENCE.seal_steps(TINY.ring_degree)
    switch = costs.key_switch(5)
    linear = program.instructions[2]
    assert isinstance(linear, LinearTransform)
    turns = rotations(linear.matrix.index, Split(2, 0), TINY.slots)
    assert (turns, len(linear.matrix.index)) == (5, 8)
    matrix = 5 * switch + 8 * (costs.multiply_plain(5) + costs.add(5))
    for position, expected in {
        0: costs.load(5),
        1: 2 * costs.load(5),
        2: matrix,
        3: 2 * costs.rescale(5),
        4: 0.0,
        5: 2 * costs.add(4),
        6: 2 * (costs.multiply(4) + costs.key_switch(4)),
        8: 4 * (costs.key_switch(3) + costs.add(3)),
        10: 2 * costs.save(3),
    }.items():
        assert seconds[position] == pytest.approx(expected)


def test_diagonals_that_seal_cannot_keep_are_encoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    program = deep_program()
    types, sizes = infer_types(program), KernelSizes()
    usual = np.array(seconds_of(program, types, sizes))
    (position, x), *_ = (
        (i, x) for i, x in enumerate(program.instructions) if isinstance(x, LinearTransform)
    )
    level = types[x.operand].level
    bytes_of_one = DEEP.ring_degree * (level + 1) * LIMB_BYTES
    limit = server_memory(program).least + bytes_of_one
    monkeypatch.setattr(predicted_seconds, "DEFAULT_MAX_RAM", limit)
    assert seconds_of(program, types, sizes) == tuple(usual)  # nobody looks at so few bytes
    monkeypatch.setattr(predicted_seconds, "_SURELY_KEPT", 0)
    more = np.array(seconds_of(program, types, sizes)) - usual
    anew = len(x.matrix.index) - 1
    expected = anew * costs_of(DEEP, REFERENCE).encode(level + 1)
    assert anew > 0 and more[position] == pytest.approx(expected)
    assert more.sum() == pytest.approx(expected)


def test_another_table_gives_other_seconds_of_the_same_program() -> None:
    program = deep_program(TINY)
    slower = replace(REFERENCE, seal=tuple(twice(steps) for steps in REFERENCE.seal))
    reference = forecast(program, [HALF] * 12)
    found = forecast(program, [HALF] * 12, table=slower)
    assert found.deviations == reference.deviations
    assert found.seconds == pytest.approx([2 * each for each in reference.seconds])
    chosen = parameters()
    slower = replace(REFERENCE, openfhe=tuple(replace(x, bootstrap=2.0) for x in REFERENCE.openfhe))
    once = bootstrap_seconds(chosen, 15)
    assert bootstrap_seconds(chosen, 15, slower) == pytest.approx(2 * once)
    refreshing = forecast(refreshing_program(chosen), [HALF / 2] * 8, table=slower)
    assert refreshing.seconds[1] == pytest.approx(2 * once)


def twice(steps: SealSteps) -> SealSteps:
    lines = {
        field.name: Line(*(2 * number for number in astuple(getattr(steps, field.name))))
        for field in fields(steps)
        if field.name != "ring_degree"
    }
    return replace(steps, **lines)


def test_costs_grow_with_the_ring_and_the_level() -> None:
    small, large = REFERENCE.seal_steps(8192), REFERENCE.seal_steps(16384)
    for name in ("key_switch", "multiply_plain", "add", "multiply", "rescale"):
        assert getattr(small, name)(3) < getattr(large, name)(3) < getattr(large, name)(4)
    assert large.key_switch(8) > 2.5 * large.key_switch(4)


def test_an_input_has_a_fresh_error() -> None:
    assert last() == FRESH


def test_switching_down_and_leaving_add_no_error() -> None:
    output = ckks_ir.Output(1, "y", first_slots(TINY.slots, 4), 1.0)
    assert last(ckks_ir.ModSwitch(0, 2)) == FRESH
    assert last(ckks_ir.ModSwitch(0, 2), output) == FRESH


def test_independent_errors_add_in_squares() -> None:
    assert last(ckks_ir.Add(0, 0)) == pytest.approx(sqrt(2) * FRESH)
    encoded = noise.encoding(TINY.ring_degree) / SCALE
    bias = ckks_ir.AddPlain(0, np.ones((1, TINY.slots)))
    assert last(bias) == pytest.approx(np.hypot(FRESH, encoded))


def worst_switch(scale: float, level: int = 4) -> float:
    return float(noise.key_switching(TINY, level).max()) / scale


def test_a_square_doubles_the_error_times_the_value() -> None:
    for magnitude in (0.1, 1.0):
        expected = np.hypot(2 * magnitude * FRESH, worst_switch(SCALE * SCALE))
        found = last(ckks_ir.Multiply(0, 0), magnitude=magnitude)
        assert found == pytest.approx(expected)


def test_a_product_crosses_errors_and_values() -> None:
    entry = ckks_ir.Input("z", first_slots(TINY.slots, 4), 4, SCALE * 4, 1.0)
    found = last(entry, ckks_ir.Multiply(0, 1))
    crossed = HALF * np.hypot(FRESH, FRESH / 4)
    assert found == pytest.approx(np.hypot(crossed, worst_switch(4 * SCALE * SCALE)))


def test_a_rescaling_adds_its_rounding() -> None:
    square = ckks_ir.Multiply(0, 0)
    before, after = last(square), last(square, ckks_ir.Rescale(1))
    scale = SCALE * SCALE / TINY.primes[4]
    assert after == pytest.approx(np.hypot(before, noise.rescaling(TINY.ring_degree) / scale))


def test_every_fold_doubles_the_variance() -> None:
    switch = worst_switch(SCALE) ** 2
    expected = sqrt(2 * (2 * FRESH**2 + switch) + switch)
    assert last(ckks_ir.RotateSum(0, (4, 8))) == pytest.approx(expected)


def linear(shifts: tuple[int, ...], step: int = 1, plain: float = SCALE) -> LinearTransform:
    return LinearTransform(0, diagonals(1, TINY.slots, (1, 1), shifts), step, 0, plain)


def test_a_matrix_without_rotations_gains_and_rounds() -> None:
    instruction = linear((0,))
    gains = instruction.matrix.values.toarray() ** 2
    filled = 4 / TINY.slots  # of the input
    rounded = filled * (noise.encoding(TINY.ring_degree) / SCALE * HALF) ** 2
    found = last(instruction)
    assert found == pytest.approx(sqrt(float(gains.mean()) * FRESH**2 + rounded))
    worst = predicted(instruction, output(1)).output_error / CONFIDENCE
    assert worst > sqrt(float(gains.max())) * FRESH


def output(operand: int) -> ckks_ir.Output:
    return ckks_ir.Output(operand, "y", first_slots(TINY.slots, 4), 1.0)


def test_what_repeats_is_rounded_in_a_share_of_the_coefficients() -> None:
    once = linear((0,), plain=2.0**14)
    small = diagonals(1, TINY.slots // 4, (1, 1), (0,))
    index, values = small.index, small.values
    repeated = DiagonalMatrix(TINY.slots, 1, 1, index, values)
    assert repeated.period == TINY.slots // 4
    quarter = LinearTransform(0, repeated, 1, 0, 2.0**14)
    assert last(quarter) == pytest.approx(last(once) / 2, rel=1e-3)


def test_rotations_add_errors() -> None:
    giants, babies = last(linear((0, 1, 2, 3), 1)), last(linear((0, 1, 2, 3), 4))
    assert giants < babies  # a giant's error comes at the larger scale of the product


def test_smaller_plaintexts_round_worse() -> None:
    assert last(linear((0,), plain=2.0**14)) > 2 * last(linear((0,), plain=2.0**28))


@pytest.mark.parametrize("degree", [3, 7])
def test_a_polynomial_multiplies_the_error_by_its_slope(degree: int) -> None:
    steep = np.eye(degree + 1)[degree]
    flat = np.eye(degree + 1)[0]
    assert last(ckks_ir.Polynomial(0, steep, SCALE)) > last(ckks_ir.Polynomial(0, flat, SCALE))
    rows = np.stack([steep, flat], axis=1)[:, None, :].repeat(TINY.slots // 2, axis=2)
    few, many, mixed = (
        predicted(ckks_ir.Polynomial(0, values, SCALE)) for values in (flat, steep, rows)
    )
    assert few.deviations[1] < mixed.deviations[1] < many.deviations[1]
    assert mixed.bounds[1] >= many.bounds[1]


def test_the_worst_output_decides() -> None:
    layout = first_slots(TINY.slots, 4)
    square = ckks_ir.Multiply(0, 0)
    outputs = (ckks_ir.Output(0, "a", layout, 8.0), ckks_ir.Output(1, "b", layout, 0.001))
    assert predicted(square, *outputs).output_error == pytest.approx(CONFIDENCE * 8 * FRESH)
    assert predicted(square).output_error == 0.0


def test_larger_scales_are_more_exact() -> None:
    graph = random_graph(3)
    errors = []
    for bits in (30, 36, 42):
        plan = replace(FLAT, scale=bits, plain=bits, prime=bits)
        program = compiled(graph, 64, plan)[1].program
        errors.append(forecast(program, [HALF] * len(program.instructions)).output_error)
    assert errors[0] > 30 * errors[1] > 900 * errors[2]


def test_sizes_of_a_matrix_are_computed_once() -> None:
    sizes = KernelSizes()
    one, other = linear((0, 1)), linear((0, 1, 2))
    assert sizes(one) is sizes(one)
    assert sizes(one) != sizes(other)
    assert sizes(other).key_switches == 2


def test_types_and_forecast_have_one_entry_per_instruction() -> None:
    program = deep_program(DEEP)
    found = forecast(program, [HALF] * 12)
    assert len(found.seconds) == len(found.deviations) == len(infer_types(program))
    assert found.total_seconds == sum(found.seconds)


# Seconds of a bootstrap with two threads (bench/openfhe_steps.py, OpenFHE 1.6.1, 2026-11-25):
# levels, degree, log2 of the ring degree and of the slots, bits, depth, digits.
Measured = tuple[tuple[int, int], int, int, int, int, int, int, float]
BOOTSTRAPS: list[Measured] = [
    ((2, 2), 31, 15, 14, 33, 22, 8, 9.45),
    ((2, 2), 31, 15, 12, 33, 22, 8, 7.32),
    ((3, 2), 15, 15, 14, 33, 22, 8, 5.96),
    ((3, 2), 15, 15, 13, 33, 22, 8, 5.15),
    ((3, 2), 15, 15, 12, 33, 22, 8, 5.10),
    ((3, 2), 31, 15, 14, 31, 23, 8, 6.55),
    ((3, 2), 15, 13, 12, 33, 22, 8, 0.94),
    ((2, 2), 31, 13, 12, 33, 22, 8, 1.64),
]


@pytest.mark.parametrize("measured", BOOTSTRAPS, ids=str)
def test_a_bootstrap_costs_what_was_measured(measured: Measured) -> None:
    levels, degree, log_degree, log_slots, bits, depth, digits, seconds = measured
    how = Bootstrapping(levels, (0, 0), 2**log_slots)
    chosen = parameters(log_degree, bits, depth, digits, how)
    assert bootstrap_seconds(chosen, degree) == pytest.approx(seconds, rel=0.2)


@pytest.mark.parametrize(
    ("limbs", "rotate", "hoisted", "multiply_plain", "rescale", "encode"),
    [
        (4, 10.4, 5.91, 0.37, 3.04, 2.01),
        (5, 12.4, 7.1, 0.48, 3.05, 2.5),
        (8, 21.2, 10.3, 0.65, 5.19, 3.04),
        (12, 36.2, 16.1, 1.0, 7.38, 4.2),
        (23, 104.0, 36.8, 2.2, 13.1, 7.45),
    ],
)
def test_steps_on_openfhe_cost_what_was_measured(
    limbs: int, rotate: float, hoisted: float, multiply_plain: float, rescale: float, encode: float
) -> None:
    costs = openfhe_costs(parameters(15))
    for found, milliseconds in (
        (costs.key_switch(limbs), rotate),
        (costs.hoisted_rotation(limbs), hoisted),
        (costs.multiply_plain(limbs), multiply_plain),
        (costs.rescale(limbs), rescale),
        (costs.encode(limbs), encode),
    ):
        assert found == pytest.approx(milliseconds / 1000, rel=0.25)


def test_the_backend_that_parameters_are_for_sets_the_price() -> None:
    assert isinstance(costs_of(parameters()), OpenfheCosts)
    assert isinstance(costs_of(TINY), SealSteps)
    with pytest.raises(InvalidProgram, match="not made for bootstraps"):
        bootstrap_seconds(TINY, 15)


def test_rotations_without_a_key_are_priced_by_what_composes_them() -> None:
    """Babies 0 and 3 share a decomposition; 1021 is composed of several."""
    chosen = parameters()
    costs, available = openfhe_costs(chosen), composed_of(chosen)
    each = costs.multiply_plain(5) + costs.add(5)
    for shifts, start in (((0, 3), 0), ((0, 1021), 0)):
        matrix = diagonals(1, chosen.slots, (1, 1), shifts)
        entry = ckks_ir.Input("x", first_slots(chosen.slots, 4), 4, SCALE, 1.0)
        program = Program(chosen, (entry, LinearTransform(0, matrix, 1024, start, SCALE)))
        hops = len(route(shifts[1], available, chosen.slots))
        found = forecast(program, [HALF] * 2).seconds[1]
        assert (hops > 1) == (shifts[1] == 1021)
        assert found == pytest.approx(hops * costs.key_switch(5) + 2 * each)


def test_a_program_that_refreshes_takes_the_seconds_of_its_bootstraps() -> None:
    chosen = parameters()
    program = refreshing_program(chosen)
    found = forecast(program, [HALF / 2] * 8)
    assert bootstrap_count(program) == 2
    assert found.seconds[1] == found.seconds[5] == bootstrap_seconds(chosen, 15)
    steps, messages = REFERENCE.openfhe_steps(chosen.ring_degree), (0, 7)
    entry, leaves = (program.instructions[position] for position in messages)
    assert isinstance(entry, ckks_ir.Input) and isinstance(leaves, ckks_ir.Output)
    level = infer_types(program)[leaves.operand].level
    assert found.seconds[0] == steps.load(entry.level + 1)
    assert found.seconds[7] == steps.save(level + 1)
    flat = noise.bootstrap_result(chosen, 15)
    assert flat < found.deviations[1] < 2 * noise.bootstrapping(chosen)
    assert found.deviations[5] > found.deviations[3]
