"""What the passes on polynomials make of small graphs, down to the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler.calibration import Calibration, Range
from hec.compiler.errors import CompileError
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Basis,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
)
from hec.passes import run_tensor_passes
from hec.passes.complete_quartics import complete_quartics
from hec.passes.complete_squares import FEW, complete_squares
from hec.passes.fold_into_polynomials import fold_into_polynomials
from hec.passes.normalize_polynomials import normalize_polynomials
from hec.passes.recognize_polynomials import recognize_polynomials
from small_graphs import (
    FIT,
    X,
    affine,
    apply,
    dense,
    graph,
    kinds,
    linear,
    polynomial,
)

# recognize_polynomials


def test_scaled_chain_becomes_one_quadratic() -> None:
    shifted = affine(0, np.diag([2.0, 3.0]), np.array([1.0, 1.0]), "shift")
    square = Multiply(1, 1, (1, 2), ("square",))
    total = Linear(
        (2, 0),
        (sp.csr_array(np.eye(2)), sp.csr_array(-4 * np.eye(2))),
        np.array([5.0, 6.0]),
        (1, 2),
        ("add",),
    )
    after = apply(recognize_polynomials, graph(X, shifted, square, total))
    assert kinds(after) == [Input, Polynomial]
    # (2x + 1)^2 - 4x + 5 and (3x + 1)^2 - 4x + 6
    expected = [[6.0, 7.0], [0.0, 2.0], [4.0, 9.0]]
    np.testing.assert_allclose(polynomial(after).coefficients, expected, atol=1e-14)
    assert polynomial(after).origin == ("shift", "square", "add")
    assert polynomial(after).basis == "power"


def test_coefficients_alike_for_all_elements_are_shared() -> None:
    after = apply(recognize_polynomials, graph(X, Multiply(0, 0, (1, 2))))
    np.testing.assert_array_equal(polynomial(after).coefficients, [0.0, 0.0, 1.0])


def test_product_of_a_value_and_its_shift() -> None:
    after = apply(
        recognize_polynomials, graph(X, affine(0, np.eye(2), np.ones(2)), Multiply(0, 1, (1, 2)))
    )
    np.testing.assert_array_equal(polynomial(after).coefficients, [0.0, 1.0, 1.0])


def test_cube_takes_two_levels_either_way_and_is_composed() -> None:
    after = apply(recognize_polynomials, graph(X, Multiply(0, 0, (1, 2)), Multiply(1, 0, (1, 2))))
    np.testing.assert_array_equal(polynomial(after).coefficients, [0.0, 0.0, 0.0, 1.0])


def test_square_of_a_square_is_not_composed_into_a_third_level() -> None:
    after = apply(recognize_polynomials, graph(X, Multiply(0, 0, (1, 2)), Multiply(1, 1, (1, 2))))
    assert kinds(after) == [Input, Polynomial, Multiply]


def test_square_of_a_shifted_square_has_three_levels_and_is_composed() -> None:
    shifted = affine(1, np.eye(2), np.ones(2))
    before = graph(X, Multiply(0, 0, (1, 2)), shifted, Multiply(2, 2, (1, 2)))
    after = apply(recognize_polynomials, before)
    np.testing.assert_array_equal(polynomial(after).coefficients, [1.0, 0.0, 2.0, 0.0, 1.0])


def test_degree_is_capped() -> None:
    cube = Polynomial(0, np.array([0.0, 0.0, 0.0, 1.0]), "power", (1, 2))
    again = Polynomial(1, cube.coefficients, "power", (1, 2))
    after = apply(recognize_polynomials, graph(X, cube, again))
    assert kinds(after) == [Input, Polynomial, Polynomial]


def test_dense_layer_is_a_new_base() -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    after = apply(recognize_polynomials, graph(X, mixed, Multiply(1, 1, (1, 2))))
    assert kinds(after) == [Input, Linear, Polynomial]
    assert polynomial(after).operand == 1


def test_products_of_different_values_stay() -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert kinds(apply(recognize_polynomials, graph(X, mixed, Multiply(0, 1, (1, 2))))) == [
        Input,
        Linear,
        Multiply,
    ]


def test_powers_that_cancel_leave_an_affine_step() -> None:
    difference = Linear(
        (1, 1, 0),
        (sp.csr_array(np.eye(2)), sp.csr_array(-np.eye(2)), sp.csr_array(3 * np.eye(2))),
        np.ones(2),
        (1, 2),
    )
    after = apply(recognize_polynomials, graph(X, Multiply(0, 0, (1, 2)), difference))
    assert kinds(after) == [Input, Linear]


# complete_squares, complete_quartics, normalize_polynomials


def test_plain_square_is_only_a_product_and_keeps_the_fit() -> None:
    square = Polynomial(0, np.array([0.0, 0.0, 1.0]), "power", (1, 2), ("sq",), FIT)
    after = apply(complete_squares, graph(X, square))
    assert kinds(after) == [Input, Multiply]
    operation = after.operations[1]
    assert isinstance(operation, Multiply)
    assert (operation.fit, operation.origin) == (FIT, ("sq",))


@pytest.mark.parametrize("basis", ["power", "chebyshev"])
def test_quadratic_is_shifted_squared_and_scaled(basis: Basis) -> None:
    # 2 x^2 + 4 x + 5 = 2 (x + 1)^2 + 3
    coefficients = {"power": [5.0, 4.0, 2.0], "chebyshev": [6.0, 4.0, 1.0]}[basis]
    after = apply(complete_squares, graph(X, Polynomial(0, np.array(coefficients), basis, (1, 2))))
    assert kinds(after) == [Input, Linear, Multiply, Linear]
    np.testing.assert_array_equal(linear(after, 1).bias, [1.0, 1.0])
    np.testing.assert_array_equal(dense(linear(after)), 2 * np.eye(2))
    np.testing.assert_array_equal(linear(after).bias, [3.0, 3.0])


def test_what_is_too_large_to_be_squared_is_refused() -> None:
    square = Polynomial(0, np.array([0.0, 0.0, 1.0]), "power", (1, 2), ("first", "second"))
    large = Calibration({X.name: np.full((4, 2), 1e101)})
    with pytest.raises(CompileError) as caught:
        complete_squares(graph(X, square), Target(), large)
    assert str(caught.value) == (
        "values reach beyond 1e+100 before they are squared: nothing can compute with them\n"
        "  --> nodes 'first', 'second'\n"
        "  help: give --calibration with real inputs, and let the network keep its values small,"
        " by normalizations or smaller weights"
    )
    complete_squares(graph(X, square), Target(), Calibration({X.name: np.full((4, 2), 1e99)}))


@pytest.mark.parametrize(("slope", "looked_at"), [(0.0, FEW), (1.0, 3 * FEW)])
def test_few_samples_will_do_where_nothing_is_shifted(
    monkeypatch: pytest.MonkeyPatch, slope: float, looked_at: int
) -> None:
    seen, ranges = list[int](), Calibration.ranges

    def counted(calibration: Calibration, graph: TensorGraph) -> list[Range]:
        assert calibration.samples is not None
        seen.append(len(calibration.samples["x"]))
        return ranges(calibration, graph)

    monkeypatch.setattr(Calibration, "ranges", counted)
    quartic = Polynomial(0, np.arange(1.0, 6.0), "power", (1, 2))  # is no business of this pass
    squares = [Polynomial(0, np.array([0.0, c, 1.0]), "power", (1, 2)) for c in (0.0, slope)]
    apply(complete_squares, graph(X, quartic, *squares), {"x": np.ones((3 * FEW, 2))})
    assert seen == [looked_at]


@pytest.mark.parametrize("tiny", [0.0, 1e-9, -1e-200])
def test_nearly_linear_elements_keep_a_linear_operand(tiny: float) -> None:
    coefficients = np.array([[1.0, 2.0], [4.0, 3.0], [2.0, tiny]])
    after = apply(complete_squares, graph(X, Polynomial(0, coefficients, "power", (1, 2))))
    assert linear(after).operands == (2, 1)
    np.testing.assert_array_equal(dense(linear(after), 1), np.diag([0.0, 3.0]))
    np.testing.assert_array_equal(linear(after, 1).bias, [1.0, 0.0])


def test_constant_elements_need_no_linear_operand() -> None:
    coefficients = np.array([[1.0, 2.0], [4.0, 0.0], [2.0, 0.0]])
    after = apply(complete_squares, graph(X, Polynomial(0, coefficients, "power", (1, 2))))
    assert linear(after).operands == (2,)


def test_huge_range_completes_without_losing_the_constant() -> None:
    coefficients = np.array([1.0, 1e-3, 1e-6])
    samples = {"x": np.array([[-3e3, 1e3]])}
    after = apply(complete_squares, graph(X, Polynomial(0, coefficients, "power", (1, 2))), samples)
    np.testing.assert_allclose(linear(after, 1).bias, 500.0)


@pytest.mark.parametrize("coefficients", [[2.0, 3.0], [2.0], [2.0, 3.0, 0.0]])
def test_lower_degrees_become_linear(coefficients: list[float]) -> None:
    before = graph(X, Polynomial(0, np.array(coefficients), "power", (1, 2)))
    assert kinds(apply(complete_squares, before)) == [Input, Linear]


def test_quartic_before_a_narrow_layer_becomes_two_squares() -> None:
    # (x + 1)^4 + 3 (x + 1)^2 + 2 (x + 1) + 7
    coefficients = np.array([13.0, 12.0, 9.0, 4.0, 1.0])
    quartic = Polynomial(0, coefficients, "power", (1, 2), (), FIT)
    after = apply(complete_quartics, graph(X, quartic, affine(1, np.array([[1.0, 2.0]]))))
    assert kinds(after) == [Input, Linear, Multiply, Multiply, Linear, Linear]
    assert linear(after, 4).operands == (3, 2, 1)
    for index, factor in enumerate([1.0, 3.0, 2.0]):
        np.testing.assert_allclose(dense(linear(after, 4), index), factor * np.eye(2), atol=1e-12)
    np.testing.assert_allclose(linear(after, 4).bias, [7.0, 7.0], atol=1e-12)
    assert isinstance(after.operations[3], Multiply) and after.operations[3].fit == FIT


def test_quartic_at_an_output_or_with_no_fourth_power_stays() -> None:
    full, low = np.array([1.0, 2.0, 3.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0, 1.0, 1e-9])
    narrow = affine(1, np.array([[1.0, 2.0]]))
    at_output = graph(X, Polynomial(0, full, "power", (1, 2)))
    cubic = graph(X, Polynomial(0, low, "power", (1, 2)), narrow)
    assert kinds(apply(complete_quartics, at_output)) == [Input, Polynomial]
    assert kinds(apply(complete_quartics, cubic)) == [Input, Polynomial, Linear]


def test_fourth_power_alone_becomes_two_squares_anywhere() -> None:
    fourth = Polynomial(0, np.array([0.0, 0.0, 0.0, 0.0, 1.0]), "power", (1, 2))
    assert kinds(apply(run_tensor_passes, graph(X, fourth))) == [Input, Multiply, Multiply]


def test_cubic_is_rewritten_exactly_on_the_seen_interval() -> None:
    cubic = Polynomial(0, np.array([0.0, 0.0, 0.0, 1.0, 0.0]), "power", (1, 2))
    after = apply(normalize_polynomials, graph(X, cubic))
    assert kinds(after) == [Input, Linear, Polynomial]
    np.testing.assert_allclose(dense(linear(after, 1)), np.eye(2) / 1.5)  # seen: -1 to 2
    np.testing.assert_allclose(linear(after, 1).bias, [-1 / 3, -1 / 3])
    # (0.5 + 1.5 t)^3 in the Chebyshev basis
    expected = [0.125 + 3 * 0.5 * 1.125, 1.125 + 0.75 * 3.375, 3 * 0.5 * 1.125, 3.375 / 4]
    np.testing.assert_allclose(polynomial(after).coefficients, expected)
    assert polynomial(after).basis == "chebyshev"


def test_scaling_after_a_polynomial_goes_into_its_coefficients() -> None:
    cubic = Polynomial(0, np.array([0.0, 0.0, 0.0, 0.5]), "chebyshev", (1, 2))
    scaled = affine(1, np.diag([2.0, 2.0]), np.ones(2))
    after = apply(fold_into_polynomials, graph(X, cubic, scaled))
    assert kinds(after) == [Input, Polynomial]
    np.testing.assert_array_equal(polynomial(after).coefficients, [1.0, 0.0, 0.0, 1.0])


def test_scaling_that_a_layer_takes_leaves_the_polynomial_shared() -> None:
    cubic = Polynomial(0, np.array([0.0, 0.0, 0.0, 0.5]), "chebyshev", (1, 2))
    before = graph(X, cubic, affine(1, np.diag([2.0, 3.0])), affine(2, np.ones((1, 2))))
    after = apply(fold_into_polynomials, before)
    assert polynomial(after, 1).coefficients.ndim == 1


def test_scaling_of_a_polynomial_read_elsewhere_stays() -> None:
    cubic = Polynomial(0, np.array([0.0, 0.0, 0.0, 0.5]), "chebyshev", (1, 2))
    before = graph(X, cubic, affine(1, np.diag([2.0, 3.0])), outputs=(1, 2))
    assert kinds(apply(fold_into_polynomials, before)) == [Input, Polynomial, Linear]
