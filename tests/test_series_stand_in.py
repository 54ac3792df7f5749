"""Series that stand for activations: how much of the period they take, and skewed intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler.calibration import Range
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array
from hec.passes.intervals import skewed_intervals
from hec.passes.series_stand_in import SPANS, series_stand_in
from hec.passes.stand_in import StandIn

RELU = Function("relu")


def largest(x: Array) -> Array:
    """Return how far rows of magnitudes reach: no margin."""
    return np.asarray(x.max(axis=1), np.float64)


def made(function: Function, x: Array) -> StandIn:
    activation = Activation(0, function, (1, x.shape[1]))
    return series_stand_in(activation, Range(x.min(axis=0), x.max(axis=0), x), function(x), 31, 1.0)


def test_channels_share_the_skew_that_makes_their_intervals_shortest() -> None:
    x = np.array([[-1.0, 3.0], [-2.0, 6.0]])
    low, high = skewed_intervals(x, RELU, largest)
    np.testing.assert_allclose(low, [-1.0, -2.0])
    np.testing.assert_allclose(high, [3.0, 6.0])


def test_a_channel_that_leans_the_other_way_fits_in_too() -> None:
    x = np.array([[-1.0, 3.0], [-1.0, 3.0], [-0.5, 0.2]])
    low, high = skewed_intervals(x, RELU, largest)
    assert (low <= x.min(axis=1)).all() and (high >= x.max(axis=1)).all()
    np.testing.assert_allclose((low + high) / (high - low), 0.5)  # one centre, in their units


def test_a_function_that_is_not_homogeneous_has_one_interval_as_wide_as_its_inputs() -> None:
    x = np.array([[-1.0, 2.0], [1.0, 7.0]])
    low, high = skewed_intervals(x, Function("clip", (0.0, 6.0)), largest)
    np.testing.assert_allclose(low, [-1.0, -1.0])
    np.testing.assert_allclose(high, [7.0, 7.0])
    low, high = skewed_intervals(np.full((2, 3), 4.0), Function("tanh"), largest)
    assert (low < 4.0).all() and (high > 4.0).all()


@pytest.mark.parametrize(
    ("function", "span"),
    [
        (RELU, 0.6),
        (Function("clip", (0.0, 6.0)), 0.75),
        (Function("sigmoid"), 0.75),
        (Function("power", (3.0,)), 0.6),
    ],
    ids=str,
)
def test_level_functions_take_more_of_the_period(function: Function, span: float) -> None:
    x = np.random.default_rng(0).uniform(-12, 12, (200, 8))
    stand_in = made(function, x)
    assert stand_in.radius == stand_in.family.radius == span
    assert span in {each.radius for each in SPANS}


def test_a_longer_span_is_why_a_kink_costs_less() -> None:
    x = np.random.default_rng(0).uniform(-12, 12, (200, 8))
    error = float(np.sqrt(np.mean((made(RELU, x).values(x) - RELU(x)) ** 2)))
    assert error < 0.017  # on half of the period it is 0.0188
