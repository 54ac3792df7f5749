"""Passes around products of two tensors: Softmax, copies, streams, layouts, placement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.arrangement import before_copies, candidates, in_place
from hec.compiler.calibration import Calibration
from hec.compiler.domains import extended
from hec.compiler.functions import Function
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    TensorGraph,
    operands,
)
from hec.passes import SERIES_PASSES, SHARED_PASSES, run_tensor_passes
from hec.passes.activate_polynomials import activate_polynomials, has_products
from hec.passes.choose_layouts import choose_layouts
from hec.passes.extend_functions import extend_functions
from hec.passes.families import POLYNOMIALS, SERIES
from hec.passes.fuse_linear import fuse_linear
from hec.passes.heavy_tails import FURTHEST, each_outside, positive_reach
from hec.passes.intervals import channels_of
from hec.passes.move_broadcasts import move_broadcasts
from hec.passes.narrow_softmax import WIDEST, narrow_softmax
from hec.passes.stand_in import StandIn
from onnx_oracle import network, node, random
from random_graphs import meaning
from small_graphs import X, affine, apply, graph, kinds

TOKENS, FEATURES = 6, 8
SAMPLES = 64


def attention(scale: float) -> Any:
    """Return a model of one head of attention whose scores grow with `scale`."""
    nodes = [
        node("MatMul", "x,q", "query"),
        node("MatMul", "x,k", "key"),
        node("MatMul", "x,v", "value"),
        node("Transpose", "key", "turned", perm=[0, 2, 1]),
        node("MatMul", "query,turned", "scores"),
        node("Softmax", "scores", "shares"),
        node("MatMul", "shares,value", "mixed"),
        node("MatMul", "mixed,o"),
    ]
    weights = {name: random(FEATURES, 4, seed=i) / 2 for i, name in enumerate("qkv")}
    weights |= {"q": scale * weights["q"], "o": random(4, 3)}
    return network(nodes, {"x": (1, TOKENS, FEATURES)}, weights)


def seen(count: int = SAMPLES) -> dict[str, Array]:
    return {"x": np.random.default_rng(3).normal(size=(count, TOKENS * FEATURES))}


def softmax_graph(scale: float) -> tuple[TensorGraph, dict[str, Array]]:
    nodes = [node("Softmax", "x", "p"), node("MatMul", "p,w")]
    model = network(nodes, {"x": (1, 3, 5)}, {"w": random(5, 2)})
    samples = {"x": scale * np.random.default_rng(0).normal(size=(SAMPLES, 15))}
    return import_onnx(model, Target()).graph, samples


# Softmax


def sums(of: TensorGraph, samples: dict[str, Array]) -> NDArray[np.float64]:
    """Return the operands of all reciprocals on the samples."""
    from hec.compiler.evaluate import evaluate

    values = evaluate(of, samples)
    found = [
        values[x.operand]
        for x in of.operations
        if isinstance(x, Activation) and x.function.name == "reciprocal"
    ]
    return np.concatenate(found, axis=1)


def test_wide_sums_of_softmax_become_narrow_and_the_shares_stay() -> None:
    before, samples = softmax_graph(4.0)
    wide = sums(before, samples)
    assert wide.max() / wide.min() > 100 * WIDEST
    after = apply(narrow_softmax, before, samples)
    narrow = sums(after, samples)
    assert narrow.max() / narrow.min() < 5  # fewer than the elements of a row
    names = [x.function.name for x in after.operations if isinstance(x, Activation)]
    assert names == ["exp", "log", "exp", "reciprocal"]


def test_narrow_sums_of_softmax_stay_as_they_are() -> None:
    before, samples = softmax_graph(0.2)
    assert kinds(apply(narrow_softmax, before, samples)) == kinds(before)


def test_softmax_is_shifted_once() -> None:
    before, samples = softmax_graph(4.0)
    once = apply(narrow_softmax, before, samples)
    assert kinds(apply(narrow_softmax, once, samples)) == kinds(once)


def test_without_samples_the_shift_bounds_the_sums() -> None:
    before, samples = softmax_graph(4.0)
    after = narrow_softmax(before, Target(), Calibration(None, (-20.0, 20.0)))
    narrow = sums(after, samples)
    assert narrow.min() >= 1 / 5 - 1e-12 and narrow.max() <= 1 + 1e-12
    for old, new in zip(meaning(before, samples), meaning(after, samples), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-12)


@pytest.mark.parametrize("broken", ["bias", "other weight", "read elsewhere", "output"])
def test_what_is_not_quite_softmax_is_left_alone(broken: str) -> None:
    before, samples = softmax_graph(4.0)
    operations, outputs = list(before.operations), before.outputs
    total = next(
        i
        for i, x in enumerate(operations)
        if isinstance(x, Linear) and isinstance(operations[operands(x)[0]], Activation)
    )
    sum_, exp = operations[total], operands(operations[total])[0]
    assert isinstance(sum_, Linear)
    if broken == "bias":
        operations[total] = Linear(sum_.operands, sum_.matrices, sum_.bias + 1.0, sum_.shape)
    elif broken == "other weight":
        halves = sp.csr_array(sum_.matrices[0] / 2)
        operations[total] = Linear(sum_.operands, (halves,), sum_.bias, sum_.shape)
    elif broken == "read elsewhere":
        operations.append(Multiply(exp, exp, operations[exp].shape))
        outputs += (type(outputs[0])("squares", len(operations) - 1),)
    else:
        outputs += (type(outputs[0])("powers", exp),)
    graph_ = TensorGraph(tuple(operations), outputs)
    after = narrow_softmax(graph_, Target(), Calibration(samples))
    assert kinds(after) == kinds(graph_)


# exp


def test_exp_goes_on_along_its_tangent_beyond_its_inputs() -> None:
    function = extended(Function("exp"), -3.0, 1.0)
    assert function is not None
    x = np.array([-50.0, -3.0, 1.0, 1.5, 3.5])
    wanted = np.exp([-50.0, -3.0, 1.0, 1.5, 1.5]) + np.exp(1.5) * np.array([0, 0, 0, 0, 2.0])
    np.testing.assert_allclose(function(x), wanted, rtol=1e-15)


def test_exp_of_inputs_that_overflow_is_refused() -> None:
    assert extended(Function("exp"), 0.0, 1e6) is None


def test_exp_is_extended_where_its_inputs_end() -> None:
    before = graph(X, Activation(0, Function("exp"), (1, 2)))
    after = apply(extend_functions, before)
    (activation,) = (x for x in after.operations if isinstance(x, Activation))
    assert activation.function.extension is not None
    assert activation.function.extension.high == 2.5  # half beyond the largest


# copies


def spread(operand: int, copies: list[int], width: int, bias: float = 0.0) -> Linear:
    matrix = sp.csr_array(
        (np.ones(len(copies)), (range(len(copies)), copies)), (len(copies), width)
    )
    return Linear((operand,), (matrix,), np.full(len(copies), bias), (1, len(copies)))


RECIPROCAL = Function("sigmoid")


def copied(bias: float = 0.0, also: bool = False) -> TensorGraph:
    last = (affine(2, np.ones((1, 1))),) if also else ()
    return graph(
        X,
        affine(0, np.ones((1, 2))),
        Activation(1, RECIPROCAL, (1, 1)),
        spread(2, [0, 0], 1, bias),
        Multiply(0, 3, (1, 2)),
        *last,
        outputs=(4, 5) if also else (4,),
    )


def test_copies_come_before_the_activation_whose_product_is_next() -> None:
    after = apply(move_broadcasts, copied())
    assert kinds(after) == [Input, Linear, Linear, Activation, Multiply]
    assert after.operations[3].shape == (1, 2)


@pytest.mark.parametrize("case", [copied(bias=1.0), copied(also=True)], ids=["bias", "also read"])
def test_copies_that_are_more_than_copies_stay(case: TensorGraph) -> None:
    assert kinds(apply(move_broadcasts, case)) == kinds(case)


def test_copies_that_a_matrix_reads_stay() -> None:
    before = graph(
        X, Activation(0, RECIPROCAL, (1, 2)), spread(1, [0, 1, 0], 2), affine(2, np.ones((2, 3)))
    )
    assert kinds(apply(move_broadcasts, before)) == kinds(before)


def test_copies_that_fill_more_than_a_ciphertext_stay() -> None:
    many = 2**14 + 1
    before = graph(
        Input("x", (1, many)),
        Linear((0,), (sp.csr_array(np.ones((1, many))),), np.zeros(1), (1, 1)),
        Activation(1, RECIPROCAL, (1, 1)),
        spread(2, [0] * many, 1),
        Multiply(0, 3, (1, many)),
    )
    after = move_broadcasts(before, Target(), Calibration({"x": np.ones((1, many))}))
    assert kinds(after) == kinds(before)


# streams and squares


def test_a_stream_that_dense_layers_read_stays() -> None:
    values = np.random.default_rng(0)
    wide, *dense = (values.normal(size=(6, n)) for n in (12, 6, 6, 6))
    stream = Linear((2, 0), (sp.csr_array(wide), sp.csr_array(np.eye(6))), np.zeros(6), (1, 6))
    before = graph(
        Input("x", (1, 6)),
        affine(0, values.normal(size=(12, 6))),
        Activation(1, Function("tanh"), (1, 12)),
        stream,
        *(affine(3, matrix) for matrix in dense),
        Multiply(4, 5, (1, 6)),
        Multiply(6, 7, (1, 6)),
    )
    after = apply(fuse_linear, before, {"x": values.normal(size=(9, 6))})
    assert kinds(after) == kinds(before)
    thin = graph(*before.operations[:3], affine(2, wide), *before.operations[4:])
    after = apply(fuse_linear, thin, {"x": values.normal(size=(9, 6))})
    assert len(after.operations) == len(thin.operations) - 1


def test_a_selection_that_copies_dense_rows_many_times_stays() -> None:
    size, times = 128, 40
    dense = np.kron(np.eye(8), np.random.default_rng(0).normal(size=(16, 16)))
    copies = [row for _ in range(times) for row in range(size)]

    def copied_product(count: int) -> TensorGraph:
        return graph(
            Input("x", (1, size)),
            affine(0, dense),
            spread(1, copies[: count * size], size),
            Multiply(2, 2, (1, count * size)),
        )

    samples = {"x": np.random.default_rng(1).normal(size=(3, size))}
    many, few = copied_product(times), copied_product(3)
    assert kinds(apply(fuse_linear, many, samples)) == kinds(many)
    assert kinds(apply(fuse_linear, few, samples)) == [Input, Linear, Multiply]


def test_squares_stay_products_beside_a_product_of_two_tensors() -> None:
    square = graph(X, Multiply(0, 0, (1, 2)))
    both = graph(X, Multiply(0, 0, (1, 2)), Multiply(0, 1, (1, 2)), outputs=(1, 2))
    assert not has_products(square) and has_products(both)
    assert kinds(apply(activate_polynomials, square)) == [Input, Activation]
    assert kinds(apply(activate_polynomials, both)) == [Input, Multiply, Multiply]


# fits


def test_channels_are_what_is_alike() -> None:
    sizes = np.random.default_rng(0)
    features = np.tile([1.0, 10.0, 100.0], 4)
    tokens = np.repeat([1.0, 10.0, 100.0, 5.0], 3)
    noise = sizes.normal(size=(50, 12))
    assert channels_of(noise * features, (1, 4, 3)) == (1, 12)
    assert channels_of(noise * tokens, (1, 4, 3)) == (1, 4, 3)
    assert channels_of(noise, (1, 4, 3)) == (1, 4, 3)
    assert channels_of(noise * features, (1, 2, 2, 3)) == (1, 2, 2, 3)


ENDS = -1.0, 1.0


@pytest.mark.parametrize("family", [POLYNOMIALS, SERIES], ids=["polynomial", "series"])
def test_a_mean_bias_moves_into_the_function(family: Any) -> None:
    coefficients = np.array([0.1, 0.5]) if family is POLYNOMIALS else np.array([[0.1, 0.5]] * 2)
    ones, bias = np.ones(3), np.array([0.1, 0.2, 0.6])
    made = StandIn(family, ones, 0 * ones, coefficients, ones, bias, ENDS, ENDS, 1.0)
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3))
    plain = made.without_layer()
    assert not plain.bias.any()
    np.testing.assert_allclose(plain.values(x), made.values(x) - bias + 0.3, rtol=0, atol=1e-12)
    scaled = StandIn(family, ones, 0 * ones, coefficients, 2 * ones, bias, ENDS, ENDS, 1.0)
    assert scaled.without_layer() is scaled


def test_between_an_activation_and_its_product_there_is_no_layer() -> None:
    graph_ = import_onnx(attention(1.0), Target()).graph
    calibration = Calibration(seen(), margin=1.1)
    after = run_tensor_passes(graph_, Target(degree=15), calibration, SERIES_PASSES)
    factors = {i for x in after.operations if isinstance(x, Multiply) for i in operands(x)}
    exps = [
        i
        for i, x in enumerate(after.operations)
        if isinstance(x, Bootstrap) and x.fit is not None and x.fit.function == "reciprocal"
    ]
    assert exps and set(exps) <= factors


# layouts


def test_a_sum_lies_in_the_place_of_its_first_summand() -> None:
    source = candidates((1, 12), None, 16)[0].layout
    pairs = sp.csr_array(np.kron(np.eye(6), np.ones((1, 2))))
    (found,) = in_place(pairs, source)
    assert found.layout.first_slots().tolist() == [0, 2, 4, 6, 8, 10]
    heavier = sp.csr_array(np.kron(np.eye(6), np.array([[1.0, -2.0]])))
    assert in_place(heavier, source)[0].layout.first_slots().tolist() == [1, 3, 5, 7, 9, 11]


def test_rows_that_share_a_place_or_have_none_do_not_lie_in_place() -> None:
    source = candidates((1, 4), None, 16)[0].layout
    assert in_place(sp.csr_array(np.ones((2, 4))), source) == []
    assert in_place(sp.csr_array(np.diag([1.0, 0, 1, 1])), source) == []


def test_an_element_lies_where_the_next_matrix_copies_it_first() -> None:
    copies = spread(0, [2, 0, 1, 2, 0, 1, 2], 3).matrices[0]
    (found,) = before_copies(copies, 16)
    assert found.layout.first_slots().tolist() == [1, 2, 0]
    assert found.layout.period == 4
    assert before_copies(spread(0, [0, 1], 3).matrices[0], 16) == []
    assert before_copies(spread(0, [0, 1, 1, 0], 3).matrices[0], 16) == []
    assert before_copies(copies, 4) == []


def test_expansions_and_sums_of_attention_have_few_diagonals() -> None:
    graph_ = import_onnx(attention(1.0), Target()).graph
    for tensor_pass in SHARED_PASSES:
        graph_ = tensor_pass(graph_, Target(), Calibration(seen()))
    laid_out = choose_layouts(graph_, 512, Target())
    products = {i for x in graph_.operations if isinstance(x, Multiply) for i in operands(x)}
    for position, kernel in laid_out.kernels.items():
        linear = graph_.operations[position]
        assert isinstance(linear, Linear)
        light = all(m.nnz <= max(m.shape) for m in linear.matrices)
        if light and position in products:
            assert [len(m.index) for m in kernel.matrices] <= [2 * TOKENS]


# intervals


def test_skewed_inputs_of_a_logarithm_may_reach_further() -> None:
    values = np.random.default_rng(0)
    log = Function("log")
    skewed = np.exp(values.normal(size=(1, 64 * 20)))
    high = np.array([skewed.max()])
    reached = positive_reach(log, skewed, high, 64, 1e-3)
    assert 1.5 * high[0] < reached[0] <= FURTHEST * high[0]
    even = values.uniform(0.2, 3.0, (1, 64 * 20))
    for function, x in ((log, even), (log, -skewed), (Function("exp"), skewed)):
        assert positive_reach(function, x, high, 64, 1e-3) is high


def test_many_channels_share_the_outliers_that_a_tensor_may_have() -> None:
    assert each_outside(1e-3, 16) == each_outside(1e-3, 64) == 1e-3
    assert each_outside(1e-3, 640) == 1e-4
