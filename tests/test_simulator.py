"""The simulator errs as predicted, and as encryption does; without errors it is the clear."""

from __future__ import annotations

from functools import lru_cache
from math import log2

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import bootstrap_plans
import hec
from bootstrap_plans import DEGREE, RELU
from hec.compiler import noise
from hec.compiler.bootstrapping import level_scales
from hec.compiler.ckks_ir import (
    Bootstrapping,
    EncryptionParameters,
    LinearTransform,
    Output,
    Polynomial,
)
from hec.compiler.evaluate import evaluate
from hec.compiler.forecast import forecast
from hec.compiler.fourier import fitted, series, slope
from hec.compiler.kernels import apply_linear, encode_linear
from hec.compiler.lower import lower
from hec.compiler.plan import Plan
from hec.compiler.tensor_ir import Polynomial as TensorPolynomial
from hec.compiler.tensor_ir import TensorGraph
from hec.runtime.cleartext import Cleartext, Slots
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear, run_simulated
from hec.runtime.simulator import Simulator, _Table
from onnx_oracle import network, node, random
from sample_graphs import (
    FLAT,
    compiled,
    nominal,
    outputs,
    packed_outputs,
    random_graph,
    samples,
)
from sample_plans import TINY, dense, diagonals
from sample_plans import plan_of as sample_plan

Array = NDArray[np.float64]
BITS = 1.5  # how far predicted, simulated and real errors may lie apart
AVERAGED_BITS = 4.0  # by which that of a mean of copies may be predicted too large: by the rules


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def apart(one: float, other: float) -> float:
    """Return the distance of two errors in bits."""
    return abs(log2(one / other))


def magnitudes(graph: TensorGraph, sources: tuple[int, ...]) -> list[float]:
    values = evaluate(graph, samples(graph, 50))
    return [rms(values[source]) for source in sources]


@pytest.mark.parametrize("seed", range(15))
def test_errors_are_those_of_the_forecast(seed: int) -> None:
    """In the worst slots; a series' slope is that of inputs all over [-1, 1], often larger."""
    graph = random_graph(seed)
    laid_out, lowered = compiled(graph, 256)
    parameters = nominal(256, lowered.program.parameters.top_level, 40, first=50)
    lowered = lower(laid_out, parameters, FLAT)
    inputs, backend = samples(graph, 50), Simulator(parameters, seed)
    clear = packed_outputs(lowered.program, inputs, Cleartext(parameters))
    noisy = packed_outputs(lowered.program, inputs, backend)
    found = forecast(lowered.program, magnitudes(graph, lowered.sources)).deviations
    slack = BITS * any(isinstance(operation, TensorPolynomial) for operation in graph.operations)
    for position, item in enumerate(lowered.program.instructions):
        if isinstance(item, Output):
            error = (noisy[item.name] - clear[item.name]) ** 2
            worst = float(np.sqrt(np.quantile(error.mean(axis=0), 0.99)))
            assert -BITS < log2(found[item.operand] / worst) < BITS + slack
            read = rms(item.layout.unpack(noisy[item.name] - clear[item.name]))
            assert -BITS < log2(found[position] / read) < AVERAGED_BITS + slack
    assert backend.overflows == 0


def test_a_value_that_the_modulus_cannot_hold_is_counted() -> None:
    parameters = EncryptionParameters(8, (2**30, 2**20), (2**40,), 128)
    backend = Simulator(parameters)
    x = Slots(np.array([[1.0, -3.0, 0.5, 5.0]]), 1, 2.0**28)
    assert backend.overflows == 0
    backend.mod_switch(x, 1)  # 50 bits hold them all
    assert backend.overflows == 0
    backend.mod_switch(x, 0)  # 30 bits hold up to 2 in absolute value
    assert backend.overflows == 2
    backend.rescale(Slots(x.values, 1, 2.0**48.5))
    assert backend.overflows == 4
    backend.multiply(Slots(x.values, 1, 2.0**24), Slots(x.values, 1, 2.0**24))
    assert backend.overflows == 6


def test_a_sample_that_overflows_is_lost_and_the_others_are_not() -> None:
    parameters = EncryptionParameters(8, (2**30, 2**20), (2**40,), 128)
    x = Slots(np.array([[1.0, -1.0, 0.5, 1.5], [1.0, -3.0, 0.5, 0.0]]), 1, 2.0**28)
    found = Simulator(parameters).mod_switch(x, 0)
    np.testing.assert_array_equal(found.values[0], x.values[0])
    assert not np.isclose(found.values[1], x.values[1]).any()
    assert (np.abs(found.values[1]) <= 2).all()  # what 30 bits hold at this scale


def test_the_product_of_a_matrix_may_overflow() -> None:
    parameters = EncryptionParameters(32, (2**30,), (2**40,), 128)
    backend = Simulator(parameters)
    matrix = diagonals(1, 16, (1, 1), (0,))
    kernel = backend.linear_kernel(LinearTransform(0, matrix, 1, 0, 2.0**15), 0)
    kernel([Slots(np.full((1, 16), 2.0**8), 0, 2.0**15)])
    assert backend.overflows == 16 - int((np.abs(matrix.values.toarray()) <= 2.0**-9).sum())


def test_a_fused_matrix_errs_like_its_steps() -> None:
    parameters = nominal(64, 3, 30)
    matrix = diagonals(1, 64, (2, 2), tuple(range(-6, 6)))
    instruction = LinearTransform(0, matrix, 4, -2, 2.0**30)
    blocks = np.random.default_rng(0).uniform(-1, 1, (2, 1, 64)).repeat(400, axis=1)
    x = [Slots(block, 3, 2.0**30) for block in blocks]
    exact = dense(matrix, blocks[:, 0])
    simulator = Simulator(parameters)
    fused = simulator.linear_kernel(instruction, 3)(x)
    errors = []
    for _ in range(40):  # an encoding is one error for all samples
        encoded = encode_linear(instruction, simulator, 3)
        steps = apply_linear(x, encoded, simulator)
        errors.append([y.values - e for y, e in zip(steps, exact, strict=True)])
    for block in range(2):
        step_by_step = rms(np.array([e[block] for e in errors]))
        assert apart(rms(fused[block].values - exact[block]), step_by_step) < 0.3
    assert {(y.level, y.scale) for y in fused} == {(3, 2.0**60)}


def test_every_step_errs_as_the_noise_rules_say() -> None:
    parameters = nominal(512, 2, 30, first=40)
    simulator, degree = Simulator(parameters), parameters.ring_degree
    x = Slots(np.zeros((200, 512)), 1, 1.0)
    large = Slots(x.values, 1, float(parameters.primes[1]))
    switch = rms(noise.key_switching(parameters, 1))
    for found, expected in (
        (simulator.rotate(x, 1), switch),
        (simulator.multiply(x, x), switch),
        (simulator.rescale(large), noise.rescaling(degree)),
        (simulator.encrypt(x.values, 1, 1.0), noise.encryption(degree)),
        (simulator.encode(x.values, 1, 1.0), noise.encoding(degree)),
        (simulator.add(x, x), 0.0),
        (simulator.mod_switch(x, 0), 0.0),
    ):
        assert rms(found.values) == pytest.approx(expected, rel=0.03)


def test_errors_shrink_with_the_scale() -> None:
    simulator = Simulator(TINY)
    zeros = np.zeros((500, TINY.slots))
    small, large = (rms(simulator.encrypt(zeros, 1, 2.0**bits).values) for bits in (20, 30))
    assert small / large == pytest.approx(2.0**10, rel=0.05)


def test_a_single_number_is_rounded_to_the_grid() -> None:
    simulator = Simulator(TINY)
    assert simulator.encode(np.asarray(0.3), 1, 8.0).values == 0.25
    assert simulator.encode(np.asarray(-1.0), 1, 2.0**20).values == -1.0


def test_a_seed_fixes_all_errors() -> None:
    graph = random_graph(1)
    program = compiled(graph, 64)[1].program
    inputs = samples(graph)
    one, same, other = (
        outputs(program, inputs, Simulator(program.parameters, seed))["y0"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


def test_errors_of_two_steps_are_independent() -> None:
    simulator = Simulator(TINY)
    zeros = Slots(np.zeros((2000, TINY.slots)), 1, 1.0)
    one, other = simulator.rotate(zeros, 1).values, simulator.rotate(zeros, 1).values
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


def entering(chosen: EncryptionParameters, values: Array) -> Slots:
    return Slots(values, 3, level_scales(chosen.primes)[3])


def test_a_bootstrap_errs_by_the_slope_times_the_error_of_its_argument() -> None:
    chosen = bootstrap_plans.parameters()
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (50, chosen.slots))
    found = Simulator(chosen).bootstrap(entering(chosen, x), RELU)
    error = found.values - series(RELU, x)
    exact = Cleartext(chosen).bootstrap(entering(chosen, x), RELU)
    assert (found.level, found.scale) == (exact.level, exact.scale)
    steep = slope(RELU, x) * noise.bootstrapping(chosen)
    expected = np.hypot(rms(steep), noise.bootstrap_result(chosen, DEGREE))
    assert rms(error) == pytest.approx(expected, rel=0.02)
    flat = (x < -0.1) & (x > -0.45)
    assert rms(error[flat]) < rms(error) / 2


def test_copies_are_refreshed_as_one() -> None:
    """OpenFHE refreshes the slots after which a ciphertext repeats."""
    full = bootstrap_plans.parameters()
    chosen = bootstrap_plans.parameters(how=Bootstrapping((3, 2), (0, 16), full.slots // 4))
    quarter = np.random.default_rng(0).uniform(-0.5, 0.5, (3, full.slots // 4))
    found = Simulator(chosen).bootstrap(entering(chosen, np.tile(quarter, 4)), RELU)
    for values in np.split(found.values, 4, axis=1):
        np.testing.assert_array_equal(values, found.values[:, : full.slots // 4])
    assert rms(found.values[:, : full.slots // 4] - series(RELU, quarter)) > 0


@pytest.mark.parametrize("degree", [7, 63])
def test_a_series_in_a_table_is_exact_far_below_the_noise(degree: int) -> None:
    coefficients = fitted(lambda x: np.maximum(x, 0), degree)
    x = np.random.default_rng(0).uniform(-3, 3, (4, 1000))
    assert np.abs(_Table(coefficients)(x) - series(coefficients, x)).max() < 2e-5


def test_only_values_beyond_the_reach_lose_their_sample() -> None:
    chosen = bootstrap_plans.parameters()
    x = np.zeros((4, chosen.slots))
    x[1, :3] = 0.89
    x[2, 5] = -0.91
    x[3, 7] = 2.0
    backend = Simulator(chosen)
    backend.start_batch(4)
    backend.bootstrap(entering(chosen, x), RELU)
    assert backend.wrapped.tolist() == [False, False, True, True]
    backend.bootstrap(entering(chosen, x[::-1]), RELU)
    assert backend.wrapped.tolist() == [True, True, True, True]
    backend.start_batch(4)
    assert not backend.wrapped.any()


def test_a_simulation_counts_the_samples_that_wrapped() -> None:
    plan = refreshing_plan()
    inputs = np.full((6, 8), 0.2)
    inputs[[1, 4], 3] = 0.95
    found = run_simulated(plan, inputs)
    assert found.wrapped == 2
    assert run_clear(plan, inputs).wrapped == 0
    assert run_simulated(plan, inputs[:1]).wrapped == 0


def refreshing_plan() -> Plan:
    return sample_plan(bootstrap_plans.refreshing_program(bootstrap_plans.parameters(15)))


# Real ciphertexts. `hec.compile` chooses the smallest ring, here of degree 8192.


def mlp(activation: str) -> ModelProto:
    """Return 32-16-8-4 with squares, or 32-16-4 with a tanh."""
    weights = {
        "w1": random(32, 16) / 6,
        "w2": random(16, 8) / 4,
        "w3": random(8, 4) / 3,
        "last": random(16, 4) / 3,
    }
    first = node("MatMul", "x,w1", "a")
    if activation == "tanh":
        nodes = [first, node("Tanh", "a", "b"), node("MatMul", "b,last", "y")]
    else:
        nodes = [
            first,
            node("Mul", "a,a", "b"),
            node("MatMul", "b,w2", "c"),
            node("Mul", "c,c", "d"),
            node("MatMul", "d,w3", "y"),
        ]
    return network(nodes, {"x": (1, 32)}, weights)


@lru_cache
def plan_of(activation: str) -> Plan:
    calibration = np.random.default_rng(0).uniform(-1, 1, (200, 1, 32)).astype(np.float32)
    return hec.compile(mlp(activation), calibration, hec.Target(degree=7))


def has_series_of_degree_7(plan: Plan) -> bool:
    series = [x for x in plan.server.program.instructions if isinstance(x, Polynomial)]
    return [len(x.coefficients) for x in series] == [8]


@pytest.mark.encrypted
@pytest.mark.parametrize("activation", ["square", "tanh"])
def test_real_errors_are_those_simulated_and_below_the_promise(activation: str) -> None:
    plan = plan_of(activation)
    assert plan.client.parameters.ring_degree == 8192
    assert has_series_of_degree_7(plan) == (activation == "tanh")
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    inputs = np.random.default_rng(1).uniform(-1, 1, (6, 1, 32)).astype(np.float32)
    found = np.stack([client.decrypt(server.run(client.encrypt(x))) for x in inputs])
    clear = run_clear(plan, inputs).outputs["y"]
    real = np.asarray(found, np.float64).reshape(clear.shape) - clear
    many = inputs.repeat(200, axis=0)
    simulated = run_simulated(plan, many).outputs["y"] - clear.repeat(200, axis=0)
    assert apart(rms(real), rms(simulated)) < BITS
    assert np.abs(real).max() < 2.0**-plan.client.precision


@pytest.mark.parametrize("activation", ["square", "tanh"])
def test_simulated_errors_are_below_the_promise(activation: str) -> None:
    plan = plan_of(activation)
    inputs = np.random.default_rng(1).uniform(-1, 1, (300, 1, 32))
    found = run_simulated(plan, inputs)
    error = found.outputs["y"] - run_clear(plan, inputs).outputs["y"]
    assert np.abs(error).max() < 2.0**-plan.client.precision
    assert found.overflows == 0
    assert found.raw["y"].shape == (300, 4)
