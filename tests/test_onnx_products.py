"""Products of encrypted tensors, normalizations and Softmax inside, against onnxruntime."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from hec.compiler import onnx_statistics
from hec.compiler.errors import CompileError
from hec.compiler.onnx_model import EXPORT_AGAIN
from hec.compiler.tensor_ir import Activation, Linear, Multiply
from onnx_oracle import (
    Case,
    assert_same_as_onnxruntime,
    import_graph,
    network,
    node,
    random,
    results,
)

IMAGE = {"x": (2, 6, 5, 4)}
TOKENS = {"x": (1, 5, 8)}
HEADS = {"a": (1, 3, 5, 4), "b": (1, 3, 4, 5)}
EACH = {"s": random(6) + 2, "h": random(6)}
GROUPS = {"s": random(3) + 2, "h": random(3)}
LAYER = {"s": random(8) + 2, "h": random(8)}

CASES: dict[str, tuple[Any, ...]] = {
    "matmul of two": (node("MatMul", "a,b"), {"a": (3, 4), "b": (4, 5)}),
    "matmul of heads": (node("MatMul", "a,b"), HEADS),
    "matmul with many columns": (node("MatMul", "a,b"), {"a": (2, 2), "b": (2, 7)}),
    "matmul with many summands": (node("MatMul", "a,b"), {"a": (2, 7), "b": (7, 2)}),
    "matmul of vectors": (node("MatMul", "a,b"), {"a": (4,), "b": (4,)}),
    "matmul vector left": (node("MatMul", "a,b"), {"a": (4,), "b": (2, 4, 3)}),
    "matmul vector right": (node("MatMul", "a,b"), {"a": (2, 3, 4), "b": (4,)}),
    "matmul of batches": (node("MatMul", "a,b"), {"a": (2, 1, 3, 4), "b": (5, 4, 2)}),
    "matmul of itself": (node("MatMul", "x,x"), {"x": (2, 3, 3)}),
    "gemm of two": (node("Gemm", "a,b"), {"a": (3, 4), "b": (4, 2)}),
    "gemm transposed": (
        node("Gemm", "a,b,c", transA=1, transB=1, alpha=0.5, beta=2.0),
        {"a": (4, 3), "b": (2, 4)},
        {"c": random(2)},
    ),
    "gemm of three": (
        node("Gemm", "a,b,c", transB=1, beta=-0.5),
        {"a": (3, 4), "b": (2, 4), "c": (3, 1)},
    ),
    "layer norm": (node("LayerNormalization", "x,s,h", epsilon=0.01), TOKENS, LAYER),
    "layer norm without bias": (node("LayerNormalization", "x,s"), TOKENS, {"s": LAYER["s"]}),
    "layer norm of two axes": (
        node("LayerNormalization", "x,s", axis=1),
        TOKENS,
        {"s": random(5, 8) + 2},
    ),
    "instance norm": (node("InstanceNormalization", "x,s,h", epsilon=0.1), IMAGE, EACH),
    "group norm": (node("GroupNormalization", "x,s,h", num_groups=3), IMAGE, GROUPS, 18),
    "group norm per channel": (
        node("GroupNormalization", "x,s,h", num_groups=3, epsilon=0.01),
        IMAGE,
        EACH,
        21,
    ),
    "mean variance norm": (node("MeanVarianceNormalization", "x"), IMAGE),
    "mean variance norm axes": (node("MeanVarianceNormalization", "x", axes=[-1]), IMAGE),
    "l2 norm": (node("LpNormalization", "x", p=2), TOKENS),
    "l1 norm": (node("LpNormalization", "x", p=1, axis=1), TOKENS),
    "rms norm": (node("RMSNormalization", "x,s"), TOKENS, {"s": LAYER["s"]}, 23),
    "rms norm axis": (
        node("RMSNormalization", "x,s", axis=1, epsilon=0.1),
        TOKENS,
        {"s": random(5, 8)},
        23,
    ),
    "lrn": (node("LRN", "x", size=3, alpha=0.5, beta=0.6, bias=2.0), IMAGE),
    "lrn wider than the channels": (node("LRN", "x", size=15), IMAGE),
}


@pytest.mark.parametrize("name", list(CASES))
def test_operator_means_what_onnxruntime_computes(name: str) -> None:
    assert_same_as_onnxruntime(Case(*CASES[name]).model())


@st.composite
def factors(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return two shapes that MatMul multiplies."""
    sizes = st.integers(1, 4)
    n, k, m = draw(sizes), draw(sizes), draw(sizes)
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    dropped = draw(st.integers(0, len(batch)))
    other = [size if draw(st.booleans()) else 1 for size in batch][dropped:]
    left, right = (*batch, n, k), (*other, k, m)
    if not other and draw(st.booleans()):
        right = (k,)
    elif not batch and draw(st.booleans()):
        left = (k,)
    return left, right


@settings(max_examples=60, deadline=None)
@given(factors())
def test_matmul_of_any_shapes_is_numpys(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    left, right = shapes
    graph = assert_same_as_onnxruntime(network([node("MatMul", "a,b")], {"a": left, "b": right}))
    multiplications = [x for x in graph.operations if isinstance(x, Multiply)]
    assert len(multiplications) == 1


def test_an_expanded_product_has_one_element_for_each_multiplication() -> None:
    graph = import_graph(Case(*CASES["matmul of heads"]).model())
    (product,) = (x for x in graph.operations if isinstance(x, Multiply))
    assert prod(product.shape) == 3 * 5 * 4 * 5


def test_lrn_of_an_even_size_reaches_one_channel_further_up() -> None:
    # onnxruntime refuses an even size, and onnx's reference leaves out channels: ONNX's own words.
    x = random(2, 6, 5, 4)
    (found,) = results(
        import_graph(Case(node("LRN", "x", size=4, alpha=0.5), IMAGE).model()), {"x": x}
    )
    sums = [(x[:, max(0, c - 1) : c + 3] ** 2).sum(axis=1) for c in range(6)]
    wanted = x / (1 + 0.5 / 4 * np.stack(sums, axis=1)) ** 0.75
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_layer_normalization_has_three_outputs() -> None:
    model = network(
        [node("LayerNormalization", "x,s,h", "y,m,d", axis=-1)],
        TOKENS,
        LAYER,
        outputs=("y", "m", "d"),
    )
    assert_same_as_onnxruntime(model)


SOFTMAXES: dict[str, tuple[dict[str, Any], int]] = {
    "axis": ({"axis": 1}, 13),
    "default axis": ({}, 17),
    "flattened axes": ({"axis": 1}, 11),
    "flattened default": ({}, 11),
    "flattened everything": ({"axis": 0}, 7),
}


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("name", list(SOFTMAXES))
def test_softmax_inside_means_what_onnxruntime_computes(name: str, operator: str) -> None:
    attributes, opset = SOFTMAXES[name]
    nodes = [node(operator, "x", "p", **attributes), node("Relu", "p")]
    graph = assert_same_as_onnxruntime(network(nodes, {"x": (2, 3, 4)}, opset=opset))
    names = [x.function.name for x in graph.operations if isinstance(x, Activation)]
    inside = ["exp", "reciprocal"] if operator == "Softmax" else ["exp", "log"]
    assert names == [*inside, "relu"]
    assert all(not output.epilogue for output in graph.outputs)


def test_exp_of_softmax_meets_inputs_without_their_mean() -> None:
    nodes = [node("Softmax", "x", "p"), node("Relu", "p")]
    graph = import_graph(network(nodes, {"x": (2, 3)}))
    centred = graph.operations[1]
    assert isinstance(centred, Linear)
    np.testing.assert_allclose(centred.matrices[0].sum(axis=1), 0, atol=1e-15)


@pytest.mark.parametrize("limit", [0, 2**22])
def test_means_of_a_large_tensor_come_first(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_statistics, "_LARGEST_CENTRING", limit)
    nodes = [node("InstanceNormalization", "x,s,h", "n"), node("Relu", "n")]
    graph = assert_same_as_onnxruntime(network(nodes, IMAGE, EACH))
    before = next(i for i, x in enumerate(graph.operations) if isinstance(x, Multiply))
    assert before == (2 if limit else 3)


def test_attention_means_what_onnxruntime_computes() -> None:
    nodes = [
        node("MatMul", "x,q", "query"),
        node("MatMul", "x,k", "key"),
        node("MatMul", "x,v", "value"),
        node("Transpose", "key", "turned", perm=[0, 2, 1]),
        node("MatMul", "query,turned", "scores"),
        node("Softmax", "scores", "shares"),
        node("MatMul", "shares,value"),
    ]
    weights = {name: random(8, 6, seed=i) / 4 for i, name in enumerate("qkv")}
    assert_same_as_onnxruntime(network(nodes, TOKENS, weights))


def test_a_normalization_written_out_means_what_onnxruntime_computes() -> None:
    nodes = [
        node("ReduceMean", "x", "mean", axes=[-1]),
        node("Sub", "x,mean", "centred"),
        node("Pow", "centred,two", "squares"),
        node("ReduceMean", "squares", "variance", axes=[-1]),
        node("Add", "variance,epsilon", "positive"),
        node("Sqrt", "positive", "deviation"),
        node("Div", "centred,deviation", "normal"),
        node("Mul", "normal,s", "scaled"),
        node("Add", "scaled,h"),
    ]
    constants = {"two": 2.0, "epsilon": 1e-5, **LAYER}
    assert_same_as_onnxruntime(network(nodes, TOKENS, constants))


X_SMALL = {"x": (1, 4, 3)}
PROBLEMS: dict[str, tuple[ModelProto, str, str]] = {
    # name: model, message and place, help
    "shapes": (
        network([node("MatMul", "a,b")], {"a": (2, 3), "b": (2, 3)}),
        "cannot multiply matrices of shapes (2, 3) and (2, 3)\n  --> net: node 'MatMul_y' -> "
        "tensor 'y'",
        EXPORT_AGAIN,
    ),
    "gemm rank": (
        network([node("Gemm", "a,b")], {"a": (1, 2, 3), "b": (3, 2)}),
        "Gemm of a tensor of shape (1, 2, 3): the rank must be 2\n  --> net: node 'Gemm_y' -> "
        "tensor 'y'",
        EXPORT_AGAIN,
    ),
    "too many multiplications": (
        network([node("MatMul", "a,b")], {"a": (1024, 256), "b": (256, 1024)}),
        "the product of encrypted matrices of shapes (1024, 256) and (256, 1024) takes 268,435,456 "
        "multiplications; the limit is 16,777,216\n  --> net: node 'MatMul_y' -> tensor 'y' of "
        "shape (1024, 1024)",
        "use a smaller network, or smaller inputs",
    ),
    "groups": (
        network([node("GroupNormalization", "x,s,s", num_groups=3)], X_SMALL, {"s": [1.0] * 3}, 18),
        "'num_groups' 3 does not divide 4 channels\n  --> net: node 'GroupNormalization_y' -> "
        "tensor 'y' of shape (1, 4, 3)",
        EXPORT_AGAIN,
    ),
    "epsilon": (
        network([node("LayerNormalization", "x,s", epsilon=-1.0)], X_SMALL, {"s": [1.0] * 3}),
        "'epsilon' -1 of LayerNormalization must not be negative\n  --> net: node "
        "'LayerNormalization_y' -> tensor 'y' of shape (1, 4, 3)",
        EXPORT_AGAIN,
    ),
    "layer weights": (
        network([node("LayerNormalization", "x,s")], X_SMALL, {"s": [1.0] * 4}),
        "LayerNormalization: weights of shape (4,) do not fit (3,)\n  --> net: node "
        "'LayerNormalization_y' -> tensor 'y' of shape (1, 4, 3)",
        EXPORT_AGAIN,
    ),
    "channel weights": (
        network([node("InstanceNormalization", "x,s,s")], X_SMALL, {"s": [1.0] * 3}),
        "InstanceNormalization: weights of shape (3,) do not fit (1, 4, 3)\n  --> net: node "
        "'InstanceNormalization_y' -> tensor 'y' of shape (1, 4, 3)",
        EXPORT_AGAIN,
    ),
    "rank": (
        network([node("InstanceNormalization", "x,s,s")], {"x": (1, 3)}, {"s": [1.0] * 3}),
        "InstanceNormalization of an input of shape (1, 3): the rank must be 3 or more\n  --> net: "
        "node 'InstanceNormalization_y' -> tensor 'y' of shape (1, 3)",
        EXPORT_AGAIN,
    ),
    "norm": (
        network([node("LpNormalization", "x", p=3)], X_SMALL),
        "LpNormalization with p 3 does not exist in ONNX\n  --> net: node 'LpNormalization_y' -> "
        "tensor 'y' of shape (1, 4, 3)",
        "use p 1 or 2",
    ),
    "size": (
        network([node("LRN", "x", size=0)], X_SMALL),
        "'size' 0 of LRN must be a positive number\n  --> net: node 'LRN_y' -> tensor 'y' of "
        "shape (1, 4, 3)",
        EXPORT_AGAIN,
    ),
}


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_a_problem_is_told_in_full(name: str) -> None:
    model, message, help = PROBLEMS[name]
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    assert str(caught.value) == f"{message}\n  help: {help}"
