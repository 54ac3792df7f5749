"""What plans keep of fits: errors of approximation of every value, histograms, curves, results."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import hec
from hec.compiler import ckks_ir, pipeline
from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.plan import Plan
from hec.compiler.strategies import Strategies
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Bootstrap
from hec.passes.fit_portraits import BINS, POINTS, fitted_curve, input_histogram
from hec.passes.trials import MOST_TWINS
from hec.runtime.simulate import run_clear
from onnx_oracle import network, node
from residual_networks import normal, residual_network

Array = NDArray[np.float32]
RANDOM = np.random.default_rng(3)
WEIGHTS = {
    "w1": RANDOM.normal(size=(6, 5)).astype(np.float32) / 4,
    "w2": RANDOM.normal(size=(5, 5)).astype(np.float32) / 4,
    "w3": RANDOM.normal(size=(5, 3)).astype(np.float32),
}


def model(function: str) -> ModelProto:
    nodes = [
        node("MatMul", "x,w1", "a"),
        node(function, "a", "b"),
        node("MatMul", "b,w2", "c"),
        node(function, "c", "d"),
        node("MatMul", "d,w3", "y"),
    ]
    return network(nodes, {"x": (1, 6)}, WEIGHTS)


def exact(function: str, x: Array) -> Array:
    of = {"Tanh": np.tanh, "Relu": lambda v: np.maximum(v, 0)}[function]
    return np.asarray(of(of(x @ WEIGHTS["w1"]) @ WEIGHTS["w2"]) @ WEIGHTS["w3"])


def samples(count: int) -> Array:
    return np.random.default_rng(9).normal(size=(count, 6)).astype(np.float32)


def compiled(function: str, degree: int | None = None, count: int = 100) -> Plan:
    target = hec.Target(degree=degree, backend="tenseal")
    return hec.compile(model(function), samples(count)[:, None], target)


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize(
    ("function", "degree"), [("Relu", 2), ("Relu", 4), ("Tanh", 3), ("Relu", 7), ("Tanh", None)]
)
def test_errors_of_approximation_are_those_of_the_network(
    function: str, degree: int | None
) -> None:
    """Squares, quartics and series; that of the output is what a run in the clear shows."""
    plan, x = compiled(function, degree), samples(100)
    server, errors = plan.server, plan.server.approximation
    found = run_clear(plan, x).raw["y"]
    wanted = exact(function, x)
    (output,) = (i for i in server.program.instructions if isinstance(i, ckks_ir.Output))
    assert errors[output.operand] * output.factor == pytest.approx(rms(found - wanted), rel=1e-3)
    first = next(
        i
        for i, x in enumerate(server.program.instructions)
        if isinstance(x, ckks_ir.Multiply | ckks_ir.Polynomial)
    )
    assert not any(errors[:first]) and any(errors[first:])
    known = server.calibrated
    assert known is not None and known.samples == 100
    assert known.error == pytest.approx(rms(found - wanted) / rms(wanted), rel=1e-3)
    same = (found.argmax(axis=1) == wanted.argmax(axis=1)).mean()
    assert known.agreement == pytest.approx(same)


def test_they_are_measured_on_the_first_samples() -> None:
    plan = compiled("Tanh", 3, 400)
    found = run_clear(plan, samples(400)).raw["y"][:MOST_TWINS]
    wanted = exact("Tanh", samples(400)[:MOST_TWINS])
    (output,) = (i for i in plan.server.program.instructions if isinstance(i, ckks_ir.Output))
    error = plan.server.approximation[output.operand] * output.factor
    assert error == pytest.approx(rms(found - wanted), rel=1e-3)


def test_a_network_without_fits_has_no_errors_of_approximation() -> None:
    weights = {"w1": WEIGHTS["w1"]}
    nodes = [node("MatMul", "x,w1", "a"), node("Mul", "a,a", "y")]
    squares = network(nodes, {"x": (1, 6)}, weights)
    plan = hec.compile(squares, samples(20)[:, None], hec.Target(backend="tenseal"))
    assert plan.server.approximation == (0.0,) * len(plan.server.labels)
    known = plan.server.calibrated
    assert known is not None and (known.samples, known.agreement, known.error) == (20, 1.0, 0.0)


@pytest.mark.filterwarnings("ignore:no calibration data")
def test_without_samples_nothing_is_guessed() -> None:
    plan = hec.compile(model("Tanh"), None, hec.Target(degree=7, backend="tenseal"))
    assert plan.server.approximation == () and plan.server.calibrated is None
    assert all(item.fit.histogram is None for item in plan.server.fits)
    assert all(item.fit.curve is not None for item in plan.server.fits)


def test_one_column_tells_no_class() -> None:
    single = network(
        [node("MatMul", "x,w", "a"), node("Tanh", "a", "y")],
        {"x": (1, 6)},
        {"w": WEIGHTS["w1"][:, :1]},
    )
    plan = hec.compile(single, samples(50)[:, None], hec.Target(backend="tenseal"))
    assert plan.server.calibrated is not None and plan.server.calibrated.agreement is None


def test_bootstraps_have_errors_of_approximation_without_their_noise() -> None:
    graph, calibration = residual_network(), Calibration(normal(32), margin=1.1)
    libraries = pipeline.libraries()
    way = Strategies(graph, calibration, Target(), libraries, lambda step: None).refreshing()
    assert any(isinstance(x, Bootstrap) for x in way.graph.operations)
    (output,) = way.graph.outputs
    (wanted,) = (evaluate(graph, normal(32))[x.operand] * x.factor for x in graph.outputs)
    error = way.observed.approximation[output.operand] * output.factor
    assert error == pytest.approx(rms(way.observed.outputs[0] - wanted), rel=0.02)


def test_a_histogram_counts_every_input_between_its_ends() -> None:
    (first, second) = (item.fit for item in compiled("Tanh", 7, 300).server.fits)
    inputs = samples(300) @ WEIGHTS["w1"]
    seen = first.histogram
    assert seen is not None and second.histogram is not None
    ends = min(first.interval[0], inputs.min()), max(first.interval[1], inputs.max())
    assert (seen.low, seen.high) == pytest.approx(ends, rel=1e-5)
    assert sum(seen.counts) == inputs.size and len(seen.counts) == BINS
    expected, _ = np.histogram(inputs, BINS, (seen.low, seen.high))
    assert np.abs(np.array(seen.counts) - expected).max() <= 1  # float32's rounding at an edge


def test_no_histogram_of_nothing() -> None:
    assert input_histogram(np.zeros((0, 3)), (-1.0, 1.0)) is None
    assert input_histogram(np.array([np.nan]), (-1.0, 1.0)) is None
    assert input_histogram(np.zeros(3), (0.0, 0.0)) is None


@pytest.mark.parametrize(("count", "degree"), [(40, 7), (300, 7), (300, 2)])
def test_a_curve_shows_the_widest_channel_and_its_fit(count: int, degree: int) -> None:
    """With forty samples all channels share a polynomial; with more each has its own."""
    fit = compiled("Tanh", degree, count).server.fits[0].fit
    curve = fit.curve
    assert curve is not None and len(curve.x) == POINTS
    x, shown = np.array(curve.x), np.array(curve.fitted)
    np.testing.assert_allclose(curve.exact, np.tanh(x), rtol=1e-12)
    width = fit.interval[1] - fit.interval[0]
    assert width / 2 < x[-1] - x[0] <= 1.2 * width * (1 + 1e-9)
    inputs = samples(count) @ WEIGHTS["w1"]
    widest = inputs[:, np.argmax(inputs.max(axis=0) - inputs.min(axis=0))]
    error = rms(np.interp(widest, x, shown) - np.tanh(widest))
    assert fit.error / 2 < error < 2 * fit.error


def test_a_curve_ends_where_its_function_does() -> None:
    from hec.compiler.calibration import Range
    from hec.passes.families import POLYNOMIALS
    from hec.passes.stand_in import unweighted

    root = Function("sqrt")
    made = unweighted(POLYNOMIALS, root, Range(np.zeros(2), np.ones(2)), 3)
    curve = fitted_curve(root, made)
    assert curve is not None and (curve.x[0], curve.x[-1]) == (0.0, 1.0)
    below = unweighted(POLYNOMIALS, Function("tanh"), Range(-np.ones(2), np.ones(2)), 3)
    assert fitted_curve(root, below) is None
