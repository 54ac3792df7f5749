"""What the passes on affine layers make of small graphs, down to the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    EpilogueStep,
    Input,
    Linear,
    Multiply,
    Polynomial,
)
from hec.passes.eliminate_dead_code import eliminate_dead_code
from hec.passes.eliminate_identities import eliminate_identities
from hec.passes.fold_scales import fold_scales
from hec.passes.fuse_linear import fuse_linear
from hec.passes.share_scaled_layers import share_scaled_layers
from small_graphs import (
    RANDOM,
    SEEN,
    X,
    affine,
    apply,
    dense,
    graph,
    kinds,
    linear,
)

# dead code and identities


def test_dead_code_goes_and_inputs_stay() -> None:
    unused = Input("unused", (1, 3))
    before = graph(X, affine(0, np.eye(2)), unused, Multiply(0, 0, (1, 2)))
    after = eliminate_dead_code(before, Target(), Calibration())
    assert kinds(after) == [Input, Input, Multiply]
    assert after.outputs[0].operand == 2


def test_identity_is_read_through_and_output_is_reshaped_by_the_client() -> None:
    reshape = Linear((1,), (sp.csr_array(np.eye(2)),), np.zeros(2), (2, 1))
    after = apply(eliminate_identities, graph(X, Multiply(0, 0, (1, 2)), reshape))
    assert kinds(after) == [Input, Multiply]
    assert after.outputs[0].epilogue == (EpilogueStep("reshape", shape=(2, 1)),)


def test_identity_with_a_bias_stays() -> None:
    before = graph(X, affine(0, np.eye(2), np.array([0.0, 1.0])))
    assert kinds(apply(eliminate_identities, before)) == [Input, Linear]


# fuse_linear


def test_two_layers_become_one_with_both_origins() -> None:
    first = affine(0, np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]), np.array([1.0, 0, 0]), "a")
    second = affine(1, np.array([[1.0, 0.0, -1.0]]), np.array([10.0]), "b")
    after = apply(fuse_linear, graph(X, first, second))
    assert kinds(after) == [Input, Linear]
    np.testing.assert_array_equal(dense(linear(after)), [[1.0, 1.0]])
    np.testing.assert_array_equal(linear(after).bias, [11.0])
    assert linear(after).origin == ("a", "b")


def test_sum_of_two_layers_of_one_tensor_is_one_matrix() -> None:
    left, right = (affine(0, RANDOM.normal(size=(2, 2))) for _ in range(2))
    eye = sp.csr_array(np.eye(2))
    after = apply(
        fuse_linear, graph(X, left, right, Linear((1, 2), (eye, eye), np.zeros(2), (1, 2)))
    )
    assert kinds(after) == [Input, Linear]
    assert linear(after).operands == (0,)


def test_layers_that_cancel_leave_no_stored_zero() -> None:
    eye, minus = sp.csr_array(np.eye(2)), sp.csr_array(-np.eye(2))
    cancelled = Linear((0, 1), (eye, minus), np.ones(2), (1, 2))
    after = apply(fuse_linear, graph(X, affine(0, np.eye(2)), cancelled))
    assert linear(after).matrices[0].nnz == 0


def test_bottleneck_stays_two_layers() -> None:
    wide = Input("x", (1, 60))
    down, up = RANDOM.normal(size=(3, 60)), RANDOM.normal(size=(60, 3))
    samples = {"x": RANDOM.normal(size=(4, 60)) / 10}
    after = apply(fuse_linear, graph(wide, affine(0, down), affine(1, up)), samples)
    assert kinds(after) == [Input, Linear, Linear]


def test_dense_after_pooling_has_fewer_diagonals_and_is_fused() -> None:
    wide = Input("x", (1, 600))
    pool, last = np.kron(np.eye(20), np.full((1, 30), 1 / 30)), RANDOM.normal(size=(10, 20))
    samples = {"x": RANDOM.normal(size=(4, 600))}
    after = apply(fuse_linear, graph(wide, affine(0, pool), affine(1, last)), samples)
    assert kinds(after) == [Input, Linear]


def test_selection_fuses_into_every_reader() -> None:
    swap = affine(0, np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    mixed = affine(1, np.array([[1.0, 2.0, 3.0]]))
    after = apply(fuse_linear, graph(X, swap, mixed, Multiply(1, 1, (1, 3)), outputs=(2, 3)))
    assert kinds(after) == [Input, Linear, Linear, Multiply]
    np.testing.assert_array_equal(dense(linear(after, 2)), [[2.0, 2.0]])


def test_layer_with_a_product_and_a_layer_as_readers_is_not_computed_twice() -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    before = graph(X, mixed, Multiply(1, 1, (1, 2)), affine(1, np.ones((2, 2))), outputs=(2, 3))
    after = apply(fuse_linear, before)
    assert linear(after, 3).operands == (1,)


def test_scaling_before_a_product_is_fused_even_if_the_layer_is_read_elsewhere() -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    half = affine(1, np.diag([0.5, 0.25]))
    before = graph(X, mixed, half, Multiply(2, 1, (1, 2)))
    after = apply(fuse_linear, before)
    assert linear(after, 2).operands == (0,)


# share_scaled_layers


def test_layer_read_scaled_and_unscaled_is_computed_once() -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 2.0]), "conv")
    half = affine(1, np.diag([0.5, 0.25]), np.array([0.0, 1.0]), "scale")
    eye = sp.csr_array(np.eye(2))
    total = Linear((1, 3), (eye, eye), np.zeros(2), (1, 2))
    after = apply(share_scaled_layers, graph(X, mixed, half, Multiply(2, 2, (1, 2)), total))
    assert kinds(after) == [Input, Linear, Multiply, Linear]
    np.testing.assert_array_equal(dense(linear(after, 1)), [[0.5, 1.0], [0.75, 1.0]])
    np.testing.assert_array_equal(linear(after, 1).bias, [0.5, 1.5])
    np.testing.assert_array_equal(dense(linear(after)), np.diag([2.0, 4.0]))
    np.testing.assert_array_equal(linear(after).bias, [0.0, -4.0])
    assert linear(after, 1).origin == ("conv", "scale")


@pytest.mark.parametrize("diagonal", [[0.5, 0.0], [1.0, 1e-8]])
def test_scaling_that_cannot_be_undone_is_not_shared(diagonal: list[float]) -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    scaled = affine(1, np.diag(diagonal))
    before = graph(X, mixed, scaled, Multiply(2, 2, (1, 2)), affine(1, np.eye(2)), outputs=(3, 4))
    assert len(apply(share_scaled_layers, before).operations) == 5


# fold_scales


def test_factors_go_to_client_matrices_and_coefficients() -> None:
    first = affine(0, np.array([[3.0, 0.0], [1.0, 1.0]]))  # reaches 3
    square = Multiply(1, 1, (1, 2))
    last = affine(2, np.array([[1.0, 1.0]]), np.array([1.0]))
    after = apply(fold_scales, graph(X, first, square, last))
    source = after.operations[0]
    assert isinstance(source, Input)
    assert (source.divisor, source.interval) == (2.0, (-1.0, 2.0))
    np.testing.assert_allclose(dense(linear(after, 1)), [[2.0, 0.0], [2 / 3, 2 / 3]])
    assert after.outputs[0].factor == pytest.approx(10.5625)  # 3^2 + 0.75^2 + 1
    np.testing.assert_allclose(dense(linear(after)), [[9 / 10.5625] * 2])


def test_margin_widens_input_and_output() -> None:
    before = graph(X, affine(0, np.eye(2)))
    after = fold_scales(before, Target(), Calibration(SEEN, margin=1.5))
    source = after.operations[0]
    assert isinstance(source, Input)
    assert (source.divisor, source.interval) == (3.0, (-1.75, 2.75))


def test_scaling_of_a_product_costs_no_operation() -> None:
    before = graph(X, Multiply(0, 0, (1, 2)), affine(1, 5 * np.eye(2)))
    after = apply(fold_scales, before)
    assert kinds(after) == [Input, Multiply]
    assert after.outputs[0].factor == pytest.approx(20.0)


def test_scaling_of_an_input_before_a_polynomial_becomes_the_divisor() -> None:
    cubic = Polynomial(1, np.array([0.0, 0.0, 0.0, 0.5]), "chebyshev", (1, 2))
    after = apply(fold_scales, graph(X, affine(0, 0.25 * np.eye(2)), cubic))
    assert kinds(after) == [Input, Polynomial]
    assert isinstance(after.operations[0], Input) and after.operations[0].divisor == 4.0


def test_product_read_by_a_polynomial_gets_its_scale_back() -> None:
    square = Multiply(0, 0, (1, 2))
    cubic = Polynomial(1, np.array([0.0, 0.0, 0.0, 0.5]), "chebyshev", (1, 2))
    samples = {"x": SEEN["x"] / 4}
    after = apply(fold_scales, graph(X, square, cubic), samples)
    assert kinds(after) == [Input, Multiply, Linear, Polynomial]


def test_all_zero_tensors_have_factor_one() -> None:
    zero = affine(0, np.zeros((2, 2)))
    after = apply(fold_scales, graph(X, zero, Multiply(1, 1, (1, 2))))
    assert after.outputs[0].factor == 1.0


def test_only_the_output_that_reads_a_removed_reshape_is_reshaped() -> None:
    reshape = Linear((1,), (sp.csr_array(np.eye(2)),), np.zeros(2), (2, 1))
    before = graph(X, Multiply(0, 0, (1, 2)), reshape, outputs=(1, 2))
    after = apply(eliminate_identities, before)
    assert [len(output.epilogue) for output in after.outputs] == [0, 1]


def test_layer_read_by_a_product_and_scaled_by_a_polynomial_is_computed_once() -> None:
    mixed = affine(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    scaled = affine(1, np.eye(2) / 8)
    cubic = Polynomial(2, np.array([0.0, 0.0, 0.0, 0.5]), "chebyshev", (1, 2))
    fused = apply(fuse_linear, graph(X, mixed, scaled, cubic, Multiply(1, 3, (1, 2))))
    assert kinds(fused) == [Input, Linear, Linear, Polynomial, Multiply]
    after = apply(fold_scales, fused)
    assert kinds(after) == [Input, Linear, Polynomial, Multiply]
    np.testing.assert_allclose(dense(linear(after, 1)), [[0.25, 0.5], [0.75, 1.0]])


def test_two_polynomials_that_want_different_scales_both_get_theirs() -> None:
    cubic = np.array([0.0, 0.0, 0.0, 0.5])
    before = graph(
        X,
        affine(0, 0.25 * np.eye(2)),
        Polynomial(1, cubic, "chebyshev", (1, 2)),
        affine(0, 0.5 * np.eye(2)),
        Polynomial(3, cubic, "chebyshev", (1, 2)),
        outputs=(2, 4),
    )
    after = apply(fold_scales, before)
    assert kinds(after) == [Input, Linear, Polynomial, Polynomial]
