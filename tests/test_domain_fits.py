"""Fits of functions that are not defined everywhere: they end with the domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import hec
from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Fit,
    Input,
    Output,
    Polynomial,
    TensorGraph,
)
from hec.passes import REFRESHING_PASSES, TENSOR_PASSES, TensorPass, run_tensor_passes
from hec.passes.extend_functions import extend_functions
from hec.runtime.client import Client
from hec.runtime.server import Server
from onnx_oracle import network, node, oracle
from random_graphs import meaning
from small_graphs import affine, graph
from test_domains import INVERSE_OF_SQUARE

CALIBRATED: list[tuple[Function, tuple[float, float], float, float]] = [
    # function, where inputs lie, largest relative error of degree 15: polynomial, series
    (Function("abs"), (-2.0, 2.0), 0.06, 0.02),
    (Function("sin"), (-3.0, 3.0), 2e-5, 6e-4),
    (Function("cos"), (-3.0, 3.0), 1e-4, 6e-4),
    (Function("atan"), (-3.0, 3.0), 0.025, 4e-4),
    (Function("sinh"), (-2.0, 2.0), 3e-8, 3e-3),
    (Function("cosh"), (-2.0, 2.0), 2e-7, 2e-3),
    (Function("asinh"), (-3.0, 3.0), 0.01, 3e-4),
    (Function("shrink", (0.5, 0.5)), (-2.0, 2.0), 0.06, 0.02),
    (Function("power", (9.0,)), (0.8, 1.5), 1e-7, 0.02),
    (Function("log"), (0.2, 3.0), 1e-3, 2e-3),
    (Function("sqrt"), (0.0, 4.0), 4e-3, 4e-3),
    (Function("sqrt"), (0.5, 4.0), 1e-5, 2e-4),
    (Function("reciprocal"), (0.25, 2.0), 2e-3, 3e-3),
    (Function("reciprocal"), (-2.0, -0.25), 2e-3, 3e-3),
    (Function("power", (-0.5,)), (0.25, 2.0), 3e-4, 6e-4),
    (Function("power", (1.5,)), (0.0, 2.0), 5e-5, 2e-4),
    (Function("power", (-2.0,)), (0.5, 2.0), 1e-3, 3e-3),
    (Function("tan"), (-1.2, 1.2), 3e-4, 3e-3),
    (Function("asin"), (-1.0, 1.0), 6e-3, 8e-3),
    (Function("acos"), (-1.0, 1.0), 3e-3, 3e-3),
    (Function("acosh"), (1.0, 4.0), 4e-3, 4e-3),
    (Function("atanh"), (-0.9, 0.9), 3e-4, 1e-3),
    (INVERSE_OF_SQUARE, (-0.75, 0.75), 2e-4, 2e-3),
]


def fitted_on(
    function: Function,
    seen: tuple[float, float],
    passes: Sequence[TensorPass],
    shape: tuple[int, ...],
) -> tuple[float, Fit]:
    """Return the relative error on samples that were not seen, and the record of the fit."""
    before = TensorGraph((Input("x", shape), Activation(0, function, shape)), (Output("y", 1),))
    random = np.random.default_rng(0)
    samples = {"x": random.uniform(*seen, (300, 4))}
    samples["x"][0, 0], samples["x"][0, 1] = seen
    after = run_tensor_passes(before, Target(degree=15), Calibration(samples, margin=1.1), passes)
    test = {"x": random.uniform(*seen, (2000, 4))}
    wanted, (found,) = function(test["x"]), meaning(after, test)
    (fit,) = (
        op.fit for op in after.operations if isinstance(op, Polynomial | Bootstrap) and op.fit
    )
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))), fit


@pytest.mark.parametrize("case", CALIBRATED, ids=[f"{f} {seen}" for f, seen, *_ in CALIBRATED])
@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 4)], ids=["own", "shared"])
def test_a_polynomial_fits_on_the_calibrated_interval(
    case: tuple[Function, tuple[float, float], float, float], shape: tuple[int, ...]
) -> None:
    function, seen, limit, _ = case
    error, fit = fitted_on(function, seen, TENSOR_PASSES, shape)
    assert error < limit
    assert_within_the_domain(function, seen, fit)


@pytest.mark.parametrize("case", CALIBRATED, ids=[f"{f} {seen}" for f, seen, *_ in CALIBRATED])
def test_a_series_fits_on_the_calibrated_interval(
    case: tuple[Function, tuple[float, float], float, float],
) -> None:
    function, seen, _, limit = case
    error, fit = fitted_on(function, seen, REFRESHING_PASSES, (1, 1, 4))
    assert error < limit
    assert fit.tail is not None and fit.tail < 0.005  # no input lies beyond the domain's end
    assert_within_the_domain(function, seen, fit)


def assert_within_the_domain(function: Function, seen: tuple[float, float], fit: Fit) -> None:
    low, high = fit.interval
    assert low <= seen[0] and seen[1] <= high
    x: Array = np.linspace(low, high, 1000)
    assert np.isfinite(function(x)).all()


def test_an_approximated_input_may_leave_the_domain_by_a_little() -> None:
    """The square root of a fitted ReLU: exact inputs are not negative, fitted ones are."""
    shape = (1, 1, 4)
    before = TensorGraph(
        (
            Input("x", shape),
            Activation(0, Function("relu"), shape),
            Activation(1, Function("sqrt"), shape),
        ),
        (Output("y", 2),),
    )
    samples = {"x": np.random.default_rng(0).normal(size=(300, 4))}
    seen = Calibration(samples, margin=1.1)
    whole = extend_functions(before, Target(), seen)
    for passes in (TENSOR_PASSES, REFRESHING_PASSES):
        after = run_tensor_passes(whole, Target(degree=15), seen, passes)
        exact, (found,) = evaluate(before, samples)[2], meaning(after, samples)
        assert np.isfinite(found).all()
        assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 0.15


def test_without_samples_the_sound_interval_is_fitted() -> None:
    shape = (1, 2)
    before = graph(
        Input("x", shape),
        affine(0, np.array([[0.5, 0.25], [1.0, -0.5]]), np.full(2, 2.0)),
        Activation(1, Function("log"), shape),
    )
    sound = Calibration(None, (-1.0, 1.0))
    x = {"x": np.random.default_rng(0).uniform(-1, 1, (500, 2))}
    for passes, limit in ((TENSOR_PASSES, 1e-3), (REFRESHING_PASSES, 1e-2)):
        after = run_tensor_passes(before, Target(degree=15), sound, passes)
        np.testing.assert_allclose(meaning(after, x)[0], meaning(before, x)[0], atol=limit)


# under encryption


@pytest.mark.encrypted
def test_a_logarithm_and_a_quotient_on_real_ciphertexts() -> None:
    nodes = [
        node("MatMul", "x,w", "h"),
        node("Log", "h", "l"),
        node("MatMul", "x,v", "g"),
        node("Div", "l,g"),
    ]
    random = np.random.default_rng(0)
    weights = {"w": random.uniform(0.1, 1, (6, 4)), "v": random.uniform(0.1, 1, (6, 4))}
    model = network(nodes, {"x": (1, 6)}, weights)
    samples = random.uniform(0.2, 2, (300, 1, 6)).astype(np.float32)
    plan = hec.compile(model, samples, Target(backend="tenseal", max_error=0.02))
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    for x in samples[:3]:
        found = np.asarray(client.decrypt(server.run(client.encrypt(x)))).ravel()
        (exact,) = oracle(model, {"x": x})
        np.testing.assert_allclose(found, exact[0], rtol=0, atol=0.03)
