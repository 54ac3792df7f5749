"""Minimax polynomials are the best there are; they serve where no samples tell what matters."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from hec.compiler.approximation import fit, grid
from hec.compiler.calibration import Range
from hec.compiler.functions import Function
from hec.compiler.remez import CLOSE, minimax, odd_minimax
from hec.compiler.tensor_ir import Activation, Array
from hec.passes.stand_in import stand_in

WHOLE = ((-1.0, 1.0),)
ONE = np.ones(1)


def values(coefficients: Array, x: Array) -> Array:
    return np.asarray(np.polynomial.chebyshev.chebval(x, coefficients), np.float64)


@pytest.mark.parametrize("degree", [3, 5, 8, 12])
def test_the_error_of_a_power_is_that_of_chebyshev(degree: int) -> None:
    """x^n is approximated by lower degrees no better than to 2^(1 - n)."""
    found = minimax(lambda x: x**degree, WHOLE, degree - 1)
    assert found.error == pytest.approx(2.0 ** (1 - degree), rel=2 * CLOSE)


@pytest.mark.parametrize(("degree", "known"), [(2, 0.125), (4, 0.0676209), (8, 0.0346896)])
def test_the_error_of_the_absolute_value_is_that_of_the_literature(
    degree: int, known: float
) -> None:
    """R. S. Varga and A. J. Carpenter, On the Bernstein conjecture, 1985."""
    assert minimax(np.abs, WHOLE, degree).error == pytest.approx(known, rel=2 * CLOSE)


@pytest.mark.parametrize("function", [np.abs, np.tanh, np.exp, lambda x: np.maximum(x, 0.0)])
@pytest.mark.parametrize("intervals", [WHOLE, ((-1.0, -0.1), (0.2, 1.0)), ((-1.0, 0.25),)])
@pytest.mark.parametrize("degree", [2, 7, 15])
def test_errors_alternate_on_the_intervals(
    function: Callable[[Array], Array], intervals: tuple[tuple[float, float], ...], degree: int
) -> None:
    """De la Vallee Poussin: as many alternations as terms and one more bound the best error."""
    found = minimax(function, intervals, degree)
    x = np.concatenate([np.linspace(low, high, 20_001) for low, high in intervals])
    errors = values(found.coefficients, x) - function(x)
    assert np.abs(errors).max() <= found.error * 1.01 + 1e-12
    if found.error < 1e-10:
        return  # as exact as float64 is
    large = np.sign(errors[np.abs(errors) >= (1 - 5 * CLOSE) * found.error])
    assert 1 + np.count_nonzero(np.diff(large)) >= degree + 2


@pytest.mark.parametrize("degree", [7, 15, 31])
def test_the_largest_error_is_less_than_that_of_least_squares(degree: int) -> None:
    relu = np.maximum(grid(), 0.0)
    squares = np.abs(values(fit(relu, None, degree), grid()) - relu).max()
    assert minimax(lambda x: np.maximum(x, 0.0), WHOLE, degree).error < 0.75 * squares


def test_polynomials_are_found_exactly_and_so_is_nothing() -> None:
    exact = np.array([0.5, -1.0, 0.25, 2.0])
    found = minimax(lambda x: values(exact, x), WHOLE, 3)
    np.testing.assert_allclose(found.coefficients, exact, rtol=0, atol=1e-10)
    zero = minimax(np.zeros_like, WHOLE, 3)
    assert zero.error == 0.0 and not zero.coefficients.any()


@pytest.mark.parametrize("degree", [31, 63])
def test_high_degrees_have_their_known_rate(degree: int) -> None:
    """S. N. Bernstein: n times the error for |x| tends to 0.2802, from above for even n."""
    assert (degree - 1) * minimax(np.abs, WHOLE, degree).error == pytest.approx(0.2802, rel=0.01)


@pytest.mark.parametrize("degree", [3, 7, 15])
def test_an_odd_polynomial_is_the_best_on_both_sides(degree: int) -> None:
    odd = odd_minimax(np.sign, (0.1, 1.0), degree)
    both = minimax(np.sign, ((-1.0, -0.1), (0.1, 1.0)), degree)
    assert not odd.coefficients[::2].any()
    assert odd.error == pytest.approx(both.error, rel=3 * CLOSE)


def test_the_error_for_the_sign_falls_as_the_gap_lets_it() -> None:
    """A. Eremenko and P. Yuditskii, 2007: by ((1 - gap) / (1 + gap))^(1/2) for each degree."""
    for gap in (0.02, 0.1):
        errors = [odd_minimax(np.sign, (gap, 1.0), degree).error for degree in (31, 47, 63)]
        rate = ((1 - gap) / (1 + gap)) ** 8
        for one, other in itertools.pairwise(errors):
            assert 0.6 * rate < other / one < rate


def test_without_samples_the_largest_error_is_the_least() -> None:
    """Nothing tells where inputs fall, so the worst of them counts."""
    activation = Activation(0, Function("relu"), (1, 2))
    low, high = np.array([-2.0, -1.0]), np.array([3.0, 1.0])
    for degree in (7, 15):
        made = stand_in(activation, Range(low, high), None, degree, 1.1)
        x = np.linspace(-2, 3, 4001)[:, None] * np.ones(2)
        worst = np.abs(made.values(x) - np.maximum(x, 0)).max()
        best = minimax(lambda t: np.maximum(0.5 + 2.5 * t, 0), WHOLE, degree).error
        assert worst == pytest.approx(best, rel=0.03)


def test_a_jump_is_left_to_least_squares() -> None:
    """No polynomial is closer to a jump than half of it, and 0 is as close as any."""
    step = Function("thresholded_relu", (1.0,))
    made = stand_in(Activation(0, step, (1, 1)), Range(-ONE, 3 * ONE), None, 7, 1.1)
    squares = fit(step(1 + 2 * grid()), None, 7)
    np.testing.assert_allclose(made.coefficients, squares)
