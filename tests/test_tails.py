"""Intervals hold samples yet to come, and polynomials stay bounded for those that they do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hec.compiler.approximation import BOUND, fit, fit_each, grid, histogram, magnitude, moments
from hec.compiler.calibration import Calibration, Range
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array
from hec.passes.stand_in import OUTSIDE, WIDER, stand_in
from hec.passes.tails import reach

FUNCTIONS = (
    Function("relu"),
    Function("clip", (0.0, 6.0)),
    Function("sigmoid"),
    Function("tanh"),
    Function("softplus"),
    Function("exp"),
)


def draws(kind: str, rows: int, samples: int) -> Array:
    random = np.random.default_rng(5)
    made: dict[str, Callable[[], Array]] = {
        "exponential": lambda: random.exponential(size=(rows, samples)),
        "uniform": lambda: random.uniform(size=(rows, samples)),
        "normal": lambda: np.abs(random.normal(size=(rows, samples))),
        "pareto": lambda: random.pareto(8.0, size=(rows, samples)),
    }
    return made[kind]()


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        ("exponential", -np.log(OUTSIDE)),
        ("uniform", 1.0),
        ("normal", 4.17),
        ("pareto", OUTSIDE ** (-1 / 8) - 1),
    ],
)
@pytest.mark.parametrize("samples", [64, 1024])
def test_the_reach_is_the_quantile_of_the_tail(kind: str, exact: float, samples: int) -> None:
    found = reach(draws(kind, 200, samples), OUTSIDE) / exact
    least, most = {64: (0.85, 1.9), 1024: (0.75, 1.4)}[samples]
    assert least < np.median(found) < most
    assert np.quantile(found, 0.05) > 0.5


def test_a_bounded_tail_reaches_less_far_than_an_exponential_one() -> None:
    flat, steep = (draws(kind, 100, 512) for kind in ("uniform", "exponential"))
    assert np.median(reach(flat, OUTSIDE) / flat.max(axis=1)) < 1.3
    assert np.median(reach(steep, OUTSIDE) / steep.max(axis=1)) > 1.5


def test_few_samples_are_taken_to_have_an_exponential_tail() -> None:
    """The shape of a tail needs many excesses: one of five alone is next to nothing."""
    found = reach(draws("uniform", 1, 6), 1e-3)
    assert found > 1.5


@pytest.mark.parametrize("peaks", [[[3.0]], [[2.0, 2.0, 2.0]], [[0.0, 0.0]], [[0.0, 1.0]]])
def test_the_reach_is_never_less_than_what_was_seen(peaks: list[list[float]]) -> None:
    found = reach(np.array(peaks), OUTSIDE)
    assert np.isfinite(found).all()
    assert found[0] >= max(peaks[0])


def test_rows_have_scales_of_their_own() -> None:
    one = draws("exponential", 1, 500)
    both = reach(np.concatenate([one, 10 * one]), OUTSIDE)
    assert both[1] == pytest.approx(10 * both[0])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FUNCTIONS),
    st.integers(2, 31),
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 3), (1, 2, 3, 3)]),
    st.integers(1, 300),
)
def test_a_polynomial_is_bounded_on_the_wider_interval_that_it_states(
    function: Function, degree: int, seed: int, shape: tuple[int, ...], samples: int
) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(random.normal(), random.exponential() + 0.1, (samples, int(np.prod(shape))))
    operand = Range(x.min(axis=0), x.max(axis=0), x)
    made = stand_in(Activation(0, function, shape), operand, function(x), degree, 1.1)
    low, high = made.bounded
    assert high - low == pytest.approx(WIDER * (made.interval[1] - made.interval[0]), rel=0.5)
    assert low < made.interval[0] < x.min() and x.max() < made.interval[1] < high
    ends = WIDER * made.radius  # of every element, in units of the polynomial's argument
    t = np.linspace(-ends, ends, 101)[:, None] * np.ones(x.shape[1])
    core = made.family.values(made.coefficients, t)
    inside = np.linspace(-1, 1, 101)[:, None]
    exact = function((inside - made.shift) / made.scale) / made.gain
    assert (np.abs(core).max(axis=0) <= BOUND * np.abs(exact).max() * 1.001).all()


def test_an_unbounded_fit_gets_a_higher_floor() -> None:
    """Samples in the middle alone would let the ends grow without limit."""
    t = np.random.default_rng(0).normal(size=(2, 4000)) / 30
    values = np.stack([np.maximum(grid(), 0.0), np.sign(grid())])
    wanted = np.stack([np.maximum(t[0], 0.0), np.sign(t[1])])
    coefficients = fit_each(moments(t, wanted, 31), values, 31)
    assert (magnitude(coefficients) <= BOUND).all()
    alone = fit(values[1], histogram(t[1], wanted[1]), 31)
    assert magnitude(alone) <= BOUND


def test_a_fit_of_its_own_is_the_weighted_least_squares_solution() -> None:
    random = np.random.default_rng(1)
    t = np.clip(random.normal(size=(3, 500)) / 3, -1, 1)
    wanted, values = np.tanh(3 * t), np.tanh(3 * grid())[None].repeat(3, axis=0)
    found = fit_each(moments(t, wanted, 9), values, 9)
    for row in range(3):
        points = np.concatenate([t[row], grid()])
        weight = np.concatenate([np.full(500, 1 / 500), np.full(grid().size, 0.01 / grid().size)])
        matrix = np.polynomial.chebyshev.chebvander(points, 9) * np.sqrt(weight)[:, None]
        right = np.concatenate([wanted[row], values[row]]) * np.sqrt(weight)
        np.testing.assert_allclose(found[:, row], np.linalg.lstsq(matrix, right)[0], atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 0.8, 0.625])
def test_moments_of_a_narrower_argument_need_no_samples(factor: float) -> None:
    random = np.random.default_rng(6)
    t, wanted = random.uniform(-1, 1, (3, 50)), random.normal(size=(3, 50))
    found, expected = (moments(t, wanted, 31).narrowed(factor), moments(factor * t, wanted, 31))
    np.testing.assert_allclose(found.means, expected.means, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.products, expected.products, rtol=0, atol=1e-12)


def test_a_channel_that_is_next_to_nothing_is_bounded_like_the_others() -> None:
    """An all-negative neuron of a ReLU is 0; no polynomial is at most a multiple of that."""
    random = np.random.default_rng(2)
    x = random.normal(size=(400, 2)) + np.array([0.0, -9.0])
    activation = Activation(0, Function("relu"), (1, 2))
    seen = Range(x.min(axis=0), x.max(axis=0), x)
    noisy = np.maximum(x, 0.0) + 1e-6 * random.normal(size=x.shape)
    assert stand_in(activation, seen, noisy, 3, 1.1).radius > 0.7


def test_the_tail_of_a_fit_is_that_of_its_interval() -> None:
    samples = np.random.default_rng(3).normal(size=(500, 4))
    calibration = Calibration({"x": samples}, margin=1.1)
    assert calibration.samples is not None
    seen = Range(samples.min(axis=0), samples.max(axis=0), samples)
    made = stand_in(
        Activation(0, Function("relu"), (1, 4)), seen, np.maximum(samples, 0), 7, calibration.margin
    )
    assert made.tail is not None
    assert 1e-7 < made.tail < 0.02
