"""Activations that a bootstrap evaluates: fits, intervals, degrees, and the list of passes."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hec.compiler import fourier
from hec.compiler.bootstrapping import DEGREES
from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError, HecWarning, InvalidProgram
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Fit,
    Input,
    Linear,
    Multiply,
    Output,
    Polynomial,
    TensorGraph,
    check,
)
from hec.passes import REFRESHING_PASSES, check_normal_form, run_tensor_passes
from hec.passes.intervals import homogeneity, tail
from hec.passes.refresh_activations import _limits, refresh_activations
from hec.passes.series_stand_in import NOISE, series_stand_in
from hec.passes.trials import Trials
from random_graphs import meaning, random_graph
from residual_networks import COUNT, IMAGE, RELU, convolution, normal, residual_network
from small_graphs import SEEN, X, affine, graph, kinds

SEEDS = st.integers(0, 2**32 - 1)


SAMPLES = normal(60)
CALIBRATION = Calibration(SAMPLES, margin=1.1)


def bootstraps(of: TensorGraph) -> list[Bootstrap]:
    return [operation for operation in of.operations if isinstance(operation, Bootstrap)]


def records(of: TensorGraph) -> list[Fit]:
    return [operation.fit for operation in bootstraps(of) if operation.fit is not None]


def relative_error(before: TensorGraph, after: TensorGraph, samples: dict[str, Array]) -> float:
    exact, found = meaning(before, samples)[0], meaning(after, samples)[0]
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


@pytest.mark.parametrize(
    ("function", "degree", "limit"),
    [
        (RELU, 15, 0.05),
        (RELU, 31, 0.02),
        (RELU, 63, 0.008),
        (Function("leaky_relu", (0.1,)), 31, 0.02),
        (Function("clip", (0.0, 6.0)), 31, 0.13),
        (Function("silu"), 15, 0.02),
        (Function("gelu"), 15, 0.04),
        (Function("tanh"), 31, 0.06),
        (Function("sigmoid"), 15, 0.001),
    ],
)
def test_other_samples_mean_the_same(function: Function, degree: int, limit: float) -> None:
    before = residual_network(function)
    after = run_tensor_passes(before, Target(degree=degree), CALIBRATION, REFRESHING_PASSES)
    check_normal_form(after, CALIBRATION)
    assert set(kinds(after)) == {Input, Linear, Bootstrap}
    assert len(bootstraps(after)) == 3 and len(after.operations) == 8  # nothing but what was there
    assert limit / 3 < relative_error(before, after, normal(500, 2)) < limit


def test_the_lowest_degree_that_meets_the_target_is_chosen_for_all() -> None:
    before = residual_network()
    trials, errors = Trials(before, CALIBRATION, series_stand_in), []
    for degree in DEGREES:
        after = refresh_activations(before, Target(degree=degree), CALIBRATION)
        assert [fit.degree for fit in records(after)] == [degree] * 3
        errors.append(trials.error(trials.trial(dict.fromkeys((2, 4, 6), degree))))
    assert errors == sorted(errors, reverse=True)
    for lower, chosen in pairwise(DEGREES[1:]):
        limit = (errors[DEGREES.index(lower)] * errors[DEGREES.index(chosen)]) ** 0.5
        after = refresh_activations(before, Target(max_error=limit), CALIBRATION)
        assert {fit.degree for fit in records(after)} == {chosen}


def test_degree_seven_is_for_smooth_functions() -> None:
    loose, near = Target(max_error=0.5), Calibration({"x": 0.1 * SAMPLES["x"]}, margin=1.1)
    for function, degree in ((Function("silu"), 7), (Function("sigmoid"), 15), (RELU, 15)):
        after = refresh_activations(residual_network(function), loose, near)
        assert {fit.degree for fit in records(after)} == {degree}


def test_one_sample_of_few_may_change_its_class() -> None:
    for count, share in ((12, 1 / 12), (400, 0.01)):
        limits = _limits(Target(), Calibration(normal(count)))
        assert (limits.error, limits.disagreement) == (0.035, share)
    assert _limits(Target(max_error=0.2), CALIBRATION).disagreement == np.inf
    assert _limits(Target(degree=15), CALIBRATION).error == np.inf


def test_a_target_out_of_reach_warns() -> None:
    with pytest.warns(HecWarning) as caught:
        refresh_activations(residual_network(), Target(max_error=1e-9), CALIBRATION)
    lines = str(caught[0].message).splitlines()
    assert lines[0].startswith("fitted activations change the outputs by 0.0")
    assert lines[0].endswith(" of their root mean square, more than the 1e-09 asked for")
    assert lines[1] == "  --> 3 activations, of degree 63 at most"


def test_a_degree_that_no_bootstrap_has_is_refused() -> None:
    with pytest.raises(CompileError) as caught:
        refresh_activations(residual_network(), Target(degree=20), CALIBRATION)
    assert str(caught.value) == (
        "no bootstrap evaluates a series of degree 20\n"
        "  --> --degree 20\n"
        "  help: use one of 7, 15, 31, 63"
    )


def test_the_record_says_how_each_activation_was_fitted() -> None:
    before = residual_network()
    after = refresh_activations(before, Target(degree=15), CALIBRATION)
    exact, values = evaluate(before, SAMPLES), evaluate(after, SAMPLES)
    for one, position, name in zip(
        bootstraps(after), (2, 4, 6), ("act0", "act1", "act2"), strict=True
    ):
        fit = one.fit
        assert fit is not None and one.origin == (name,)
        assert (fit.function, fit.degree, one.coefficients.shape) == ("relu", 15, (2, 16))
        low, high = fit.interval
        assert low < fit.observed[0] < 0 < fit.observed[1] < high
        result = values[after.operations.index(one) + 1]
        error = float(np.sqrt(np.mean((result - exact[position]) ** 2)))
        assert fit.error == pytest.approx(error, rel=0.1)  # the record's has the noise
        assert fit.tail is not None and 1e-9 < fit.tail < 0.02


def test_each_channel_has_an_interval_and_none_is_much_narrower_than_the_widest() -> None:
    after = refresh_activations(residual_network(), Target(degree=15), CALIBRATION)
    argument = evaluate(after, normal(2000, 3))[bootstraps(after)[0].operand]
    reach = np.abs(argument).reshape(-1, 4, 36).max(axis=(0, 2))
    assert (reach[:3] > 0.3).all() and (reach < fourier.LOST).all()
    assert reach[3] < 0.22


def test_channels_have_no_mean_error() -> None:
    before = residual_network()
    after = refresh_activations(before, Target(degree=15), CALIBRATION)
    position = after.operations.index(bootstraps(after)[0]) + 1
    errors = evaluate(after, SAMPLES)[position] - evaluate(before, SAMPLES)[2]
    each = errors.reshape(60, 4, 36)
    assert (np.abs(each.mean(axis=(0, 2))) < 0.03 * each.std(axis=(0, 2))).all()


def test_later_layers_are_fitted_to_what_earlier_ones_give() -> None:
    """The second fit corrects the first: without it, the mean of what it reads would be off."""
    before = residual_network()
    after = refresh_activations(before, Target(degree=7), CALIBRATION)
    second = after.operations.index(bootstraps(after)[1]) + 1
    errors = (evaluate(after, SAMPLES)[second] - evaluate(before, SAMPLES)[4]).reshape(60, 4, 36)
    assert (np.abs(errors.mean(axis=(0, 2))) < 0.03 * errors.std(axis=(0, 2))).all()


def test_fitted_values_have_the_noise_of_encryption() -> None:
    steep = Function("leaky_relu", (1.0,))  # the identity: nothing but noise is an error
    samples = {"x": np.random.default_rng(0).uniform(-1, 1, size=(200, 32))}
    before = graph(Input("x", (1, 2, 16)), Activation(0, steep, (1, 2, 16)))
    fit = records(refresh_activations(before, Target(degree=31), Calibration(samples)))[0]
    halves = (fit.interval[1] - fit.interval[0]) / 2 / fit.radius
    assert fit.error == pytest.approx(NOISE * halves, rel=0.1)


def test_a_tail_is_the_share_of_samples_to_come_that_lie_outside() -> None:
    random = np.random.default_rng(4)
    for radius in (3.0, 3.5, 4.0):
        seen, later = (random.normal(size=(count, 500)) / radius for count in (200, 20000))
        share = float((np.abs(later).max(axis=1) > 1).mean())
        assert share / 3 < tail(seen) < 3 * share + 1e-3
    assert tail(np.full((3, 4), 0.5)) == 0.0 and tail(np.full((3, 4), 1.5)) == 1.0


def test_functions_that_may_be_scaled() -> None:
    assert homogeneity(RELU) == 1
    assert homogeneity(Function("leaky_relu", (0.2,))) == 1
    assert homogeneity(Function("silu")) is None
    squares = refresh_activations(
        TensorGraph(
            (Input("x", IMAGE), Multiply(0, 0, IMAGE)),
            (Output("y", 1),),
        ),
        Target(degree=15),
        CALIBRATION,
    )
    assert kinds(squares) == [Input, Multiply]  # activate_polynomials turns it into a function


def test_polynomials_are_refreshed_and_products_stay_and_squares_beside_them() -> None:
    random = np.random.default_rng(5)
    samples = {"x": random.normal(size=(100, COUNT)) * np.repeat([1, 4, 0.5, 2], 36)}
    calibration = Calibration(samples, margin=1.1)
    own = random.uniform(0.2, 1, size=(4, COUNT))
    conv = Linear((0,), (convolution(random, 1.0),), np.zeros(COUNT), IMAGE)
    before = TensorGraph(
        (
            Input("x", IMAGE),
            Multiply(0, 0, IMAGE),
            Polynomial(0, np.array([0.1, 0.2, -0.3, 0.04]), "power", IMAGE),
            conv,
            Polynomial(3, own[:3], "power", IMAGE),
            Polynomial(3, own, "power", IMAGE),
            Multiply(1, 3, IMAGE),
            Linear((4, 5), (convolution(random, 1.0),) * 2, np.zeros(COUNT), IMAGE),
        ),
        tuple(Output(f"y{i}", i) for i in (1, 6, 7)),
    )
    after = run_tensor_passes(before, Target(degree=31), calibration, REFRESHING_PASSES)
    check_normal_form(after, calibration)
    counts = Counter(kinds(after))
    assert set(counts) == {Input, Linear, Multiply, Bootstrap} and counts[Multiply] == 3
    for found, exact in zip(meaning(after, samples), meaning(before, samples), strict=True):
        assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 0.01


def test_without_samples_the_fit_covers_the_sound_interval() -> None:
    before = graph(X, affine(0, np.eye(2) * 2), Activation(1, Function("silu"), (1, 2)))
    after = refresh_activations(before, Target(degree=15), Calibration(None, (-1.0, 1.0)))
    fit = records(after)[0]
    assert fit.interval == (-2.0, 2.0) and fit.tail is None
    samples = {"x": np.random.default_rng(0).uniform(-1, 1, (100, 2))}
    for found, exact in zip(meaning(after, samples), meaning(before, samples), strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=3e-4)


def test_constant_inputs_are_fitted() -> None:
    before = graph(X, Activation(0, RELU, (1, 2)))
    samples = {"x": np.zeros((100, 2))}
    after = refresh_activations(before, Target(degree=15), Calibration(samples))
    np.testing.assert_allclose(meaning(after, samples)[0], 0, atol=1e-2)


def test_without_activations_nothing_changes() -> None:
    before = graph(X, affine(0, np.eye(2) * 2))
    assert refresh_activations(before, Target(), CALIBRATION) is before


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=SEEDS)
@example(seed=300)
def test_random_graphs_keep_their_meaning_and_reach_normal_form(seed: int) -> None:
    before, samples = random_graph(seed)
    calibration = Calibration(samples, margin=1.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HecWarning)  # a random graph may miss the error target
        after = run_tensor_passes(before, Target(degree=31), calibration, REFRESHING_PASSES)
    check(after, made_by="all")
    check_normal_form(after)
    assert set(kinds(after)) <= {Input, Linear, Multiply, Bootstrap}
    curves = [x.fit.curve for x in after.operations if isinstance(x, Bootstrap) and x.fit]
    reach = max((np.abs(curve.exact).max() for curve in curves if curve), default=1.0)
    for found, exact in zip(meaning(after, samples), meaning(before, samples), strict=True):
        # A function that grows to 40 at the ends of its interval is fitted less exactly between.
        assert np.sqrt(np.mean((found - exact) ** 2)) < 0.1 * max(1.0, reach)


def test_random_graphs_have_every_operation() -> None:
    counts: Counter[type] = Counter()
    for seed in range(40):
        before, samples = random_graph(seed)
        calibration = Calibration(samples, margin=1.1)
        after = run_tensor_passes(before, Target(degree=15), calibration, REFRESHING_PASSES)
        counts.update(kinds(after))
    assert set(counts) == {Input, Linear, Multiply, Bootstrap} and min(counts.values()) >= 4


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            lambda b: graph(X, b, Polynomial(0, np.ones(3), "chebyshev", (1, 2))),
            "normal form: operation 2: polynomial is not Chebyshev of degree 3 or more",
        ),
        (lambda b: graph(X, b), "normal form: operation 0 reaches 2"),
    ],
)
def test_normal_form_names_what_is_wrong(broken: object, message: str) -> None:
    assert callable(broken)
    series = Bootstrap(0, fourier.fitted(lambda x: x, 7), (1, 2))
    with pytest.raises(InvalidProgram) as caught:
        check_normal_form(broken(series), Calibration(SEEN))
    assert str(caught.value) == message
    half = replace(series, operand=1)
    check_normal_form(graph(X, affine(0, np.eye(2) / 4), half), Calibration(SEEN))
