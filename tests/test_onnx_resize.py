"""Resize and Upsample with random attributes against onnxruntime, and their messages in full."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hec.compiler.errors import CompileError
from hec.compiler.tensor_ir import Linear
from onnx_oracle import (
    Case,
    assert_same_as_onnxruntime,
    import_graph,
    network,
    node,
    random,
    results,
)

AGAIN = "export the model again, and check it with onnx.checker.check_model"
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)
IMAGE = {"x": (1, 2, 4, 5)}


@st.composite
def _sizes(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Draw the sizes of an image, and to what they are resized."""
    pairs = st.lists(st.integers(1, 9), min_size=2, max_size=2)
    return draw(pairs), draw(pairs)


FRACTIONS = st.sampled_from([None, 0.0, 0.0, 0.3, 0.7])  # of a pixel; None: resize to sizes


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    _sizes(),
    st.sampled_from(COORDINATES),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    FRACTIONS,
)
def test_nearest(
    sizes: tuple[list[int], list[int]], coordinates: str, rounding: str, fraction: float | None
) -> None:
    # Where the symmetric formula hits a boundary exactly, its order of rounding decides.
    pairs = zip(*sizes, strict=True)
    ties = any(i * (2 * k + 1 - r) % r == 0 for i, r in pairs for k in range(r))
    assume(coordinates != "half_pixel_symmetric" or not ties)
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    _compare(sizes, fraction, 19, mode="nearest", **attributes)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_sizes(), st.sampled_from(COORDINATES), st.booleans(), st.booleans(), FRACTIONS)
def test_linear_and_cubic(
    sizes: tuple[list[int], list[int]],
    coordinates: str,
    cubic: bool,
    exclude: bool,
    fraction: float | None,
) -> None:
    options: dict[str, Any] = {"mode": "cubic" if cubic else "linear"}
    if cubic:
        options |= {"exclude_outside": int(exclude), "cubic_coeff_a": -0.5}
    _compare(sizes, fraction, 19, coordinate_transformation_mode=coordinates, **options)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(_sizes(), st.sampled_from(["linear", "cubic"]), st.booleans(), FRACTIONS)
def test_antialias(
    sizes: tuple[list[int], list[int]], mode: str, exclude: bool, fraction: float | None
) -> None:
    _compare(sizes, fraction, 18, mode=mode, antialias=1, exclude_outside=int(exclude))


def _compare(
    sizes: tuple[list[int], list[int]], fraction: float | None, opset: int, **attributes: Any
) -> None:
    image, resized = sizes
    shapes = {"x": (1, 2, *image)}
    if fraction is None:
        constants: dict[str, object] = {"s": [1, 2, *resized]}
        case = Case(node("Resize", "x,,,s", **attributes), shapes, constants, opset)
    else:
        if attributes.get("coordinate_transformation_mode") == "align_corners":
            fraction = 0.0
        # onnxruntime copies where a size does not change, whatever the scale.
        assume(not fraction or all(i != r for i, r in zip(image, resized, strict=True)))
        scales = [1, 1, *((r + fraction) / i for r, i in zip(resized, image, strict=True))]
        constants = {"s": np.float32(scales)}
        case = Case(node("Resize", "x,,s", **attributes), shapes, constants, opset)
    assert_same_as_onnxruntime(case.model())


CASES: dict[str, tuple[Any, ...]] = {
    "upsample": (
        node("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0]),
        IMAGE,
        {},
        7,
    ),
    "upsample linear": (
        node("Upsample", "x,s", mode="linear"),
        IMAGE,
        {"s": np.float32([1, 1, 2, 1.5])},
        9,
    ),
    "opset 10": (node("Resize", "x,s"), IMAGE, {"s": np.float32([1, 1, 0.6, 1.7])}, 10),
    "opset 10 linear": (
        node("Resize", "x,s", mode="linear"),
        IMAGE,
        {"s": np.float32([1, 1, 0.6, 1.7])},
        10,
    ),
    "opset 11": (
        node("Resize", "x,r,s", mode="linear", coordinate_transformation_mode="align_corners"),
        IMAGE,
        {"r": np.zeros(0), "s": np.float32([1, 1, 2, 3])},
        11,
    ),
    "tf_half_pixel_for_nn": (
        node("Resize", "x,r,s", coordinate_transformation_mode="tf_half_pixel_for_nn"),
        IMAGE,
        {"r": np.zeros(0), "s": np.float32([1, 1, 0.5, 2])},
        11,
    ),
    "opset 11 sizes": (
        node("Resize", "x,r,e,s", mode="cubic"),
        IMAGE,
        {"r": np.zeros(0), "e": np.zeros(0), "s": [1, 2, 7, 3]},
        11,
    ),
    "crop": (
        node(
            "Resize",
            "x,r,,s",
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=2.5,
        ),
        IMAGE,
        {"r": np.float32([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2]), "s": [1, 2, 3, 8]},
        13,
    ),
    "crop to one pixel": (
        node(
            "Resize",
            "x,r,,s",
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        IMAGE,
        {"r": np.float32([0, 0, 0.2, 0.3, 1, 1, 0.9, 0.6]), "s": [1, 2, 1, 1]},
        13,
    ),
    "crop axes": (
        node(
            "Resize",
            "x,r,,s",
            axes=[3, 2],
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        IMAGE,
        {"r": np.float32([-0.3, 0.2, 1.2, 0.9]), "s": [8, 3]},
        18,
    ),
    "axes": (
        node("Resize", "x,,s", axes=[3, 2], mode="linear"),
        IMAGE,
        {"s": np.float32([2, 3])},
        18,
    ),
    "channels last": (
        node("Resize", "x,,s", mode="linear"),
        {"x": (1, 4, 5, 3)},
        {"s": np.float32([1, 2, 2, 1])},
        13,
    ),
    "three axes": (
        node("Resize", "x,,s", mode="linear"),
        {"x": (1, 2, 3, 4, 2)},
        {"s": np.float32([1, 1, 2, 1.5, 2])},
        13,
    ),
    "not larger": (
        node("Resize", "x,,,s", axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
        IMAGE,
        {"s": [7, 8]},
        18,
    ),
    "not smaller": (
        node("Resize", "x,,,s", axes=[2, 3], keep_aspect_ratio_policy="not_smaller"),
        IMAGE,
        {"s": [7, 8]},
        18,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_resize_means_what_onnxruntime_computes(name: str) -> None:
    assert_same_as_onnxruntime(Case(*CASES[name]).model())


def test_axes_may_count_from_the_end() -> None:
    """What onnxruntime before 1.24 does not do."""

    def matrix(axes: list[int]) -> sp.csr_array:
        resize = node("Resize", "x,,s", axes=axes, mode="linear")
        model = network([resize], IMAGE, {"s": np.float32([2, 3])}, opset=18)
        linear = import_graph(model).operations[-1]
        assert isinstance(linear, Linear)
        return linear.matrices[0]

    assert abs(matrix([-1, 2]) - matrix([3, 2])).max() == 0


def test_resize_of_nothing_adds_no_operation() -> None:
    model = network([node("Resize", "x,,s")], IMAGE, {"s": np.float32([1, 1, 1, 1])})
    assert len(import_graph(model).operations) == 1


def test_a_large_resize_takes_seconds() -> None:
    resize = node("Resize", "x,,s", mode="cubic")
    model = network([resize], {"x": (1, 64, 64, 64)}, {"s": np.float32([1, 1, 2, 2])})
    started = os.times().user
    graph = import_graph(model)
    assert os.times().user - started < 4  # 1 s measured; the system's share varies
    resized = graph.operations[-1]
    assert isinstance(resized, Linear)
    assert resized.shape == (1, 64, 128, 128)


PROBLEMS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str, str]] = {
    # name: inputs, constants, attributes, message, help
    "mode": (
        "x,,s",
        {"s": np.float32([1, 1, 2, 2])},
        {"mode": "quintic"},
        "Resize with mode 'quintic' does not exist in ONNX",
        AGAIN,
    ),
    "coordinates": (
        "x,,s",
        {"s": np.float32([1, 1, 2, 2])},
        {"coordinate_transformation_mode": "polar"},
        "Resize with coordinate_transformation_mode 'polar' does not exist in ONNX",
        AGAIN,
    ),
    "rounding": (
        "x,,s",
        {"s": np.float32([1, 1, 2, 2])},
        {"nearest_mode": "up"},
        "Resize with nearest_mode 'up' does not exist in ONNX",
        AGAIN,
    ),
    "policy": (
        "x,,,s",
        {"s": [1, 2, 3, 4]},
        {"keep_aspect_ratio_policy": "wide"},
        "Resize with keep_aspect_ratio_policy 'wide' does not exist in ONNX",
        AGAIN,
    ),
    "neither": ("x", {}, {}, "Resize needs either scales or sizes", AGAIN),
    "both": (
        "x,,s,t",
        {"s": np.float32([1, 1, 2, 2]), "t": [1, 2, 8, 10]},
        {},
        "Resize needs either scales or sizes",
        AGAIN,
    ),
    "too few": (
        "x,,s",
        {"s": np.float32([2, 2])},
        {},
        "Resize with 2 factors does not fit axes [0, 1, 2, 3]",
        AGAIN,
    ),
    "axis twice": (
        "x,,s",
        {"s": np.float32([2, 2])},
        {"axes": [3, -1]},
        "Resize with 2 factors does not fit axes [3, 3]",
        AGAIN,
    ),
    "negative": (
        "x,,s",
        {"s": np.float32([1, 1, -2, 2])},
        {},
        "Resize by [1.0, 1.0, -2.0, 2.0]: the factors must be positive",
        AGAIN,
    ),
    "region": (
        "x,r,s",
        {"r": np.float32([0, 1]), "s": np.float32([1, 1, 2, 2])},
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "Resize with 2 numbers in 'roi' needs 8",
        AGAIN,
    ),
    "fraction": (
        "x,,s",
        {"s": np.float32([1, 1, 1.4, 2])},
        {"coordinate_transformation_mode": "align_corners"},
        "Resize with align_corners of 4 by 1.4: "
        "runtimes disagree on what a fraction of a pixel means here",
        "give Resize sizes instead of scales",
    ),
    "memory": (
        "x,,s",
        {"s": np.float32([1, 1, 1e6, 1e6])},
        {},
        "the result of shape (1, 2, 4000000, 5000000) has 40,000,000,000,000 elements; "
        "the limit is 16,777,216",
        "use a smaller network, or smaller inputs",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_of_resize(name: str) -> None:
    reads, constants, attributes, message, help = PROBLEMS[name]
    model = network([node("Resize", reads, **attributes)], IMAGE, constants, opset=18)
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    (problem,) = caught.value.problems
    assert (problem.message, problem.help) == (message, help)


def test_the_matrix_of_resize_is_bounded() -> None:
    resize = node("Resize", "x,,s", mode="cubic")
    scales = np.float32([1, 1, 32, 32, 32])
    model = network([resize], {"x": (1, 1, 8, 8, 8)}, {"s": scales})
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    assert caught.value.problems[0].message == (
        "its matrix would hold 719,323,136 weights; the limit is 268,435,456"
    )


def test_gigantic_regions_lie_outside() -> None:
    crop = node(
        "Resize", "x,r,,s", mode="cubic", coordinate_transformation_mode="tf_crop_and_resize"
    )
    region = np.float32([0, 0, -3e38, 0, 1, 1, 3e38, 1])
    model = network([crop], IMAGE, {"r": region, "s": [1, 2, 3, 5]})
    (found,) = results(import_graph(model), {"x": random(*IMAGE["x"])})
    assert not found.any()
