"""Conv and AveragePool with random sizes, pads, strides and dilations, against onnxruntime."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hec.compiler.tensor_ir import Linear
from onnx_oracle import (
    ONNXRUNTIME,
    assert_same_as_onnxruntime,
    import_graph,
    network,
    node,
    random,
)


@st.composite
def _windows(draw: st.DrawFn) -> tuple[list[int], dict[str, Any]]:
    """Draw an image's spatial sizes, and attributes of a kernel that fits into it."""
    rank = draw(st.integers(1, 2))

    def sizes(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, dilations, strides = sizes(1, 4), sizes(1, 3), sizes(1, 4)
    padding = st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    attributes["auto_pad"] = draw(padding)
    if not attributes["auto_pad"].startswith("SAME"):  # onnxruntime refuses both at once
        attributes["dilations"] = dilations
    if attributes["auto_pad"] == "NOTSET":
        attributes["pads"] = [
            min(p, k - 1) for p, k in zip(sizes(0, 3, 2 * rank), kernel * 2, strict=True)
        ]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    return [r + extra for r, extra in zip(reach, sizes(0, 5), strict=True)], attributes


@settings(max_examples=120, deadline=None, derandomize=True)
@given(_windows(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2))
def test_conv(
    window: tuple[list[int], dict[str, Any]], group: int, inputs: int, outputs: int, batch: int
) -> None:
    image, attributes = window
    weights = random(group * outputs, inputs, *attributes["kernel_shape"])
    weights[abs(weights) < 0.2] = 0
    conv = node("Conv", "x,w,b", group=group, **attributes)
    constants = {"w": weights, "b": random(group * outputs)}
    graph = assert_same_as_onnxruntime(
        network([conv], {"x": (batch, group * inputs, *image)}, constants)
    )
    _assert_canonical(graph.operations[-1])


@settings(max_examples=120, deadline=None, derandomize=True)
@given(_windows(), st.booleans(), st.booleans(), st.integers(1, 2))
def test_average_pool(
    window: tuple[list[int], dict[str, Any]], ceil: bool, include: bool, batch: int
) -> None:
    image, attributes = window
    ceil = ceil and attributes["auto_pad"] == "NOTSET"
    # onnxruntime pads its pools by a negative number here, where its convolutions do not pad.
    gaps = any(
        k < s for k, s in zip(attributes["kernel_shape"], attributes["strides"], strict=True)
    )
    assume(not (gaps and attributes["auto_pad"].startswith("SAME")))
    # Before 1.24 onnxruntime divides by the padding behind an image, or not, as it likes.
    include = include and ONNXRUNTIME >= (1, 24)
    pool = node("AveragePool", "x", ceil_mode=ceil, count_include_pad=include, **attributes)
    model = network([pool], {"x": (batch, 2, *image)}, opset=19)
    assert_same_as_onnxruntime(model)


def _assert_canonical(operation: object) -> None:
    if isinstance(operation, Linear):
        for matrix in operation.matrices:
            assert matrix.data.dtype == np.float64
            assert matrix.data.all()
            rows = np.split(matrix.indices, matrix.indptr[1:-1])
            assert all((np.diff(row) > 0).all() for row in rows)


def test_a_large_conv_takes_seconds() -> None:
    weights = random(64, 64, 3, 3)
    conv = node("Conv", "x,w", pads=[1, 1, 1, 1])
    model = network([conv], {"x": (1, 64, 32, 32)}, {"w": weights})
    started = os.times().user
    graph = import_graph(model)
    assert os.times().user - started < 3  # 0.6 s measured; the system's share varies
    (matrix,) = graph.operations[1].matrices
    assert matrix.nnz == prod((64, 64)) * (3 * 32 - 2) ** 2
    assert matrix.indices.dtype == np.int32
