"""ConvTranspose with random attributes against onnxruntime, and its messages in full."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hec.compiler.errors import CompileError
from onnx_oracle import assert_same_as_onnxruntime, import_graph, network, node, random

AGAIN = "export the model again, and check it with onnx.checker.check_model"
LARGE = "use a smaller network, or smaller inputs"


@st.composite
def _spreads(draw: st.DrawFn) -> tuple[list[int], list[int], dict[str, Any]]:
    """Draw an image's and a kernel's sizes, and attributes that leave some of the output."""
    rank = draw(st.integers(1, 3))

    def sizes(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    image, kernel, strides, dilations = sizes(1, 4), sizes(1, 4), sizes(1, 4), sizes(1, 3)
    added = [min(a, s - 1) for a, s in zip(sizes(0, 2), strides, strict=True)]
    attributes: dict[str, Any] = {
        "strides": strides,
        "dilations": dilations,
        "output_padding": added,
    }
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [s * (i - 1) + a + r for s, i, a, r in zip(strides, image, added, reach, strict=True)]
    form = draw(st.sampled_from(["pads", "pads", "shape", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if form == "pads":
        pads = sizes(0, 3, 2 * rank)
        attributes["pads"] = pads
        assume(all(f > pads[a] + pads[rank + a] for a, f in enumerate(full)))
    elif form == "shape":
        cut = [min(c, f - 1) for c, f in zip(sizes(0, 3), full, strict=True)]
        attributes["output_shape"] = [f - c for f, c in zip(full, cut, strict=True)]
        attributes["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))
    else:
        attributes["auto_pad"] = form
        # onnxruntime pads a gap by nothing where the standard pads it to a multiple of the stride.
        gaps = any(r + a < s for r, a, s in zip(reach, added, strides, strict=True))
        assume(form == "VALID" or not gaps)
    return image, kernel, attributes


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_spreads(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2))
def test_conv_transpose(
    spread: tuple[list[int], list[int], dict[str, Any]],
    group: int,
    inputs: int,
    outputs: int,
    batch: int,
) -> None:
    image, kernel, attributes = spread
    weights = random(group * inputs, outputs, *kernel)
    weights[abs(weights) < 0.2] = 0
    conv = node("ConvTranspose", "x,w,b", group=group, **attributes)
    constants = {"w": weights, "b": random(group * outputs)}
    assert_same_as_onnxruntime(
        network([conv], {"x": (batch, group * inputs, *image)}, constants, opset=11)
    )


def test_gaps_are_padded_to_a_multiple_of_the_stride() -> None:
    conv = node("ConvTranspose", "x,w", strides=[3], auto_pad="SAME_UPPER")
    graph = import_graph(network([conv], {"x": (1, 1, 2)}, {"w": np.ones((1, 1, 1))}))
    (matrix,) = graph.operations[1].matrices
    np.testing.assert_array_equal(
        matrix.toarray(), [[1, 0], [0, 0], [0, 0], [0, 1], [0, 0], [0, 0]]
    )


def test_an_output_beyond_the_last_window_is_the_bias() -> None:
    conv = node("ConvTranspose", "x,w,b", strides=[2], output_shape=[6])
    constants = {"w": np.ones((1, 1, 2)), "b": np.float32([3.0])}
    graph = import_graph(network([conv], {"x": (1, 1, 2)}, constants))
    (matrix,) = graph.operations[1].matrices
    np.testing.assert_array_equal(
        matrix.toarray(), [[1, 0], [1, 0], [0, 1], [0, 1], [0, 0], [0, 0]]
    )
    assert (graph.operations[1].bias == 3).all()


def test_a_large_conv_transpose_takes_seconds() -> None:
    conv = node("ConvTranspose", "x,w", strides=[2, 2], pads=[1, 1, 1, 1])
    model = network([conv], {"x": (1, 64, 32, 32)}, {"w": random(64, 32, 4, 4)})
    started = os.times().user
    graph = import_graph(model)
    assert os.times().user - started < 4  # 1 s measured; the system's share varies
    (matrix,) = graph.operations[1].matrices
    assert matrix.nnz == prod((64, 32)) * (4 * 32 - 2) ** 2
    assert matrix.indices.dtype == np.int32


PROBLEMS: dict[str, tuple[dict[str, Any], tuple[int, ...], str, str]] = {
    # name: attributes, shape of the weights, message, help
    "rank": (
        {},
        (2, 3, 2),
        "ConvTranspose of an input of shape (1, 2, 4, 5) with weights of shape (2, 3, 2): "
        "both must have the same rank, 3 or more",
        AGAIN,
    ),
    "channels": (
        {"group": 2},
        (4, 3, 2, 2),
        "ConvTranspose of an input of shape (1, 2, 4, 5) in 2 groups does not fit "
        "weights of shape (4, 3, 2, 2)",
        AGAIN,
    ),
    "kernel": (
        {"kernel_shape": [3, 3]},
        (2, 3, 2, 2),
        "'kernel_shape' contradicts the weights of shape (2, 3, 2, 2)",
        AGAIN,
    ),
    "strides": (
        {"strides": [0, 1]},
        (2, 3, 2, 2),
        "'strides' (0, 1) must be 2 positive numbers",
        AGAIN,
    ),
    "dilations": (
        {"dilations": [1]},
        (2, 3, 2, 2),
        "'dilations' (1,) must be 2 positive numbers",
        AGAIN,
    ),
    "pads": (
        {"pads": [0, 0, -1, 0]},
        (2, 3, 2, 2),
        "'pads' (0, 0, -1, 0) must be 4 numbers, none negative",
        AGAIN,
    ),
    "added": (
        {"output_padding": [-1, 0]},
        (2, 3, 2, 2),
        "'output_padding' (-1, 0) must be 2 numbers, none negative",
        AGAIN,
    ),
    "auto_pad": (
        {"auto_pad": "ALL"},
        (2, 3, 2, 2),
        "auto_pad 'ALL' does not exist in ONNX",
        AGAIN,
    ),
    "output shape": (
        {"output_shape": [7]},
        (2, 3, 2, 2),
        "'output_shape' (7,) must be 2 positive numbers",
        AGAIN,
    ),
    "nothing left": (
        {"pads": [3, 0, 3, 0]},
        (2, 3, 2, 2),
        "the result of shape (1, 3, -1, 6) has no elements",
        AGAIN,
    ),
    "memory": (
        {"strides": [10**9, 1]},
        (2, 3, 2, 2),
        "the result of shape (1, 3, 3000000002, 6) has 54,000,000,036 elements; "
        "the limit is 16,777,216",
        LARGE,
    ),
    "matrix": (
        {},
        (2, 3, 600, 600),
        "its matrix would hold 131,116,320,000 weights; the limit is 268,435,456",
        LARGE,
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_of_conv_transpose(name: str) -> None:
    attributes, weights, message, help = PROBLEMS[name]
    model = network(
        [node("ConvTranspose", "x,w", **attributes)], {"x": (1, 2, 4, 5)}, {"w": random(*weights)}
    )
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    (problem,) = caught.value.problems
    assert (problem.message, problem.help) == (message, help)
    assert problem.place.startswith("net: node 'ConvTranspose_y' -> tensor 'y'")


def test_a_long_kernel_is_bounded_before_anything_is_allocated() -> None:
    conv = node("ConvTranspose", "x,w")
    with pytest.raises(CompileError) as caught:
        import_graph(network([conv], {"x": (1, 1, 4)}, {"w": random(1, 1, 2**18)}))
    assert caught.value.problems[0].message == (
        "its matrix would hold 68,720,263,168 weights; the limit is 268,435,456"
    )


COL2IM: dict[str, tuple[tuple[int, ...], dict[str, Any], str]] = {
    "channels": (
        (1, 9, 4),
        {},
        "Col2Im of an input of shape (1, 9, 4) does not fit blocks of (2, 2)",
    ),
    "blocks": ((1, 8, 5), {}, "Col2Im of an input of shape (1, 8, 5) does not fit (2, 2) blocks"),
    "pads": (
        (1, 8, 4),
        {"pads": [0, 0, 0]},
        "'pads' (0, 0, 0) must be 4 numbers, none negative",
    ),
}


@pytest.mark.parametrize("name", COL2IM)
def test_problem_of_col2im(name: str) -> None:
    given_shape, attributes, message = COL2IM[name]
    model = network(
        [node("Col2Im", "x,s,b", **attributes)],
        {"x": given_shape},
        {"s": [3, 3], "b": [2, 2]},
        opset=18,
    )
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    assert caught.value.problems[0].message == message


def test_problem_of_negative_blocks() -> None:
    model = network([node("Col2Im", "x,s,b")], {"x": (1, 8, 4)}, {"s": [3, 3], "b": [-2, -2]}, 18)
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    assert caught.value.problems[0].message == "'block_shape' (-2, -2) must be 2 positive numbers"
