"""Fourier series of half a period: fits against numpy, extension, weights, bounds."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler import fourier
from hec.compiler.approximation import Density
from hec.compiler.bootstrapping import DEGREES
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Array

HALF = np.linspace(-0.5, 0.5, 2001)
WIDE = np.linspace(-fourier.HALF.near, fourier.HALF.near, 2001)
RADIUS = 5.0  # the argument that x = 1/2 stands for

# Largest error on [-1/2, 1/2] for each degree, in units of RADIUS.
ERRORS = {
    "relu": (2.4e-2, 1.2e-2, 6.2e-3, 3.2e-3),
    "hard_swish": (1.2e-2, 6e-3, 3.1e-3, 1.6e-3),
    "silu": (2.5e-4, 9e-5, 6e-5, 4e-5),
    "gelu": (6e-4, 9e-5, 6e-5, 4e-5),
    "gelu_tanh": (6e-4, 9e-5, 6e-5, 4e-5),
    "mish": (5e-4, 9e-5, 6e-5, 4e-5),
    "sigmoid": (4e-5, 2e-5, 1e-5, 6e-6),
    "tanh": (3e-3, 7e-5, 2e-5, 6e-6),
    "erf": (4e-3, 5e-5, 2e-5, 6e-6),
    "softplus": (2.5e-4, 9e-5, 6e-5, 4e-5),
}


def scaled(name: str) -> tuple[Function, Array, Array]:
    function = Function(name)
    return function, function(2 * RADIUS * HALF) / RADIUS, function(2 * RADIUS * WIDE) / RADIUS


def fitted(name: str, degree: int) -> Array:
    function = Function(name)
    return fourier.fitted(lambda x: function(2 * RADIUS * x) / RADIUS, degree)


def naive(coefficients: Array, x: Array) -> Array:
    terms = coefficients[0] + 1j * coefficients[1]
    angles = np.pi * np.multiply.outer(x, np.arange(terms.size))
    return np.asarray(2 * (np.exp(1j * angles) @ terms).real)


def test_series_is_the_sum_that_it_says_in_any_shape() -> None:
    random = np.random.default_rng(0)
    for degree in (1, 2, *DEGREES):
        coefficients = random.normal(size=(2, degree + 1))
        for shape in ((), (3,), (2, 5), (7, 3 * fourier.BLOCK // 5)):
            x = random.uniform(-3, 3, shape)
            found = fourier.series(coefficients, x)
            assert found.shape == shape
            np.testing.assert_allclose(found, naive(coefficients, x), rtol=0, atol=1e-10)


def test_series_has_period_two() -> None:
    coefficients = fitted("relu", 15)
    np.testing.assert_allclose(
        fourier.series(coefficients, HALF + 2), fourier.series(coefficients, HALF), atol=1e-12
    )


def test_slope_is_the_derivative() -> None:
    coefficients, step = fitted("silu", 15), 1e-6
    ends = [fourier.series(coefficients, HALF + sign * step) for sign in (1, -1)]
    found = fourier.slope(coefficients, HALF)
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("name", ERRORS)
def test_largest_error_of_a_fit(name: str) -> None:
    _, wanted, _ = scaled(name)
    errors = [
        float(np.abs(fourier.series(fitted(name, degree), HALF) - wanted).max())
        for degree in DEGREES
    ]
    for error, limit in zip(errors, ERRORS[name], strict=True):
        assert 0.25 * limit <= error <= limit, errors


@pytest.mark.parametrize("name", ERRORS)
def test_a_value_slightly_outside_is_not_lost(name: str) -> None:
    _, _, wanted = scaled(name)
    for degree in DEGREES[1:]:
        found = fourier.series(fitted(name, degree), WIDE)
        assert np.abs(found - wanted).max() < 0.04


@pytest.mark.parametrize("name", ERRORS)
def test_the_other_half_and_the_coefficients_are_bounded(name: str) -> None:
    _, wanted, _ = scaled(name)
    period = np.linspace(-1, 1, 4001)
    for degree in DEGREES:
        coefficients = fitted(name, degree)
        assert coefficients.shape == (2, degree + 1) and coefficients[1, 0] == 0
        assert np.abs(fourier.series(coefficients, period)).max() <= 10 * np.abs(wanted).max()
        assert np.hypot(*coefficients).sum() <= 6 * np.abs(wanted).max()


def test_the_identity_only_refreshes() -> None:
    for degree, limit in ((7, 1e-4), (15, 6e-5)):
        found = fourier.series(fourier.fitted(lambda x: x, degree), HALF)
        assert np.abs(found - HALF).max() < limit


def test_weights_draw_the_fit_to_where_inputs_are() -> None:
    random = np.random.default_rng(1)
    relu = Function("relu")
    t = np.sort(np.clip(0.1 * random.normal(size=1000), -1, 1))
    density = Density(t, relu(t), np.full(t.size, 1 / t.size))
    drawn = fourier.fit(relu(2 * fourier.HALF.grid()), density, 15)
    plain = fourier.fit(relu(2 * fourier.HALF.grid()), None, 15)
    errors = [np.sqrt(np.mean((fourier.series(c, t / 2) - relu(t)) ** 2)) for c in (drawn, plain)]
    assert errors[0] < 0.7 * errors[1]
    far = np.linspace(-fourier.HALF.reach, fourier.HALF.reach, 2001)
    assert np.abs(fourier.series(drawn, WIDE) - relu(2 * WIDE)).max() < 0.25
    assert np.abs(fourier.series(drawn, far) - relu(2 * far)).max() < 0.5


def test_a_calibrated_fit_reaches_farther_at_next_to_no_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, relu = np.random.default_rng(1), Function("relu")
    t = np.clip(0.2 * random.normal(size=5000), -1, 1)
    density = Density(t, relu(t), np.full(t.size, 1 / t.size))
    far = np.linspace(fourier.HALF.near, fourier.HALF.reach, 101)
    errors = []
    for share in (fourier.FAR, 0.0):
        monkeypatch.setattr(fourier, "FAR", share)
        found = fourier.fit(relu(2 * fourier.HALF.grid()), density, 31)
        inside = np.sqrt(np.mean((fourier.series(found, t / 2) - relu(t)) ** 2))
        errors.append((inside, np.abs(fourier.series(found, far) - relu(2 * far)).max()))
    assert errors[0][0] < 1.05 * errors[1][0]
    assert errors[0][1] < 0.5 < 2 * errors[0][1] + 0.5 < errors[1][1] + 0.5


def test_many_points_are_evaluated_in_pieces_that_are_as_good() -> None:
    x = np.random.default_rng(0).uniform(-3, 3, 5 * fourier.PIECES)
    for degree in DEGREES:
        found, few = fourier.series(fitted("relu", degree), x), x[:1000]
        exact = fourier.series(fitted("relu", degree), few)
        np.testing.assert_allclose(found[:1000], exact, rtol=0, atol=1e-9)


def test_only_the_ratio_of_weights_matters_and_heavier_points_win() -> None:
    grid = np.zeros(fourier.GRID)
    density = Density(np.array([0.3, 0.3]), np.array([1.0, -1.0]), np.array([0.9, 0.1]))
    found = fourier.series(fourier.fit(grid, density, 15), np.array(0.15))
    assert 0.75 < found < 0.85  # the weighted mean, but for floor and ridge
