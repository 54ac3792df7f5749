"""Operators that only move data, in every form, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_oracle import Case, assert_same_as_onnxruntime, network, node, random

IMAGE = {"x": (2, 6, 7, 5)}
MATRIX = {"x": (3, 4)}

CASES: dict[str, tuple[Any, ...]] = {
    "transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), IMAGE),
    "transpose default": (node("Transpose", "x"), IMAGE),
    "flatten": (node("Flatten", "x", axis=2), IMAGE),
    "flatten negative": (node("Flatten", "x", axis=-1), IMAGE, {}, 11),
    "reshape": (node("Reshape", "x,s"), IMAGE, {"s": [0, -1, 7]}),
    "reshape allow zero": (
        node("Reshape", "x,s", allowzero=1),
        IMAGE,
        {"s": [5, 7, 6, 2]},
        14,
    ),
    "squeeze": (node("Squeeze", "x,a"), {"x": (1, 3, 1, 2)}, {"a": [2]}),
    "squeeze all": (node("Squeeze", "x"), {"x": (1, 3, 1, 2)}),
    "squeeze attribute": (node("Squeeze", "x", axes=[0]), {"x": (1, 3, 1, 2)}, {}, 11),
    "unsqueeze": (node("Unsqueeze", "x,a"), MATRIX, {"a": [0, -1]}),
    "unsqueeze attribute": (node("Unsqueeze", "x", axes=[1]), MATRIX, {}, 11),
    "slice": (
        node("Slice", "x,b,e,a,t"),
        IMAGE,
        {"b": [5, -3], "e": [-100, 100], "a": [2, 1], "t": [-2, 2]},
    ),
    "slice short": (node("Slice", "x,b,e"), IMAGE, {"b": [1, 2], "e": [2, 5]}),
    "slice attributes": (
        node("Slice", "x", starts=[1, -4], ends=[9, -1], axes=[1, 2]),
        IMAGE,
        {},
        9,
    ),
    "pad": (node("Pad", "x,p"), MATRIX, {"p": [1, 0, 2, 3]}),
    "pad value": (
        node("Pad", "x,p,c"),
        MATRIX,
        {"p": [1, 0, 2, 3], "c": np.float32(1.5)},
    ),
    "pad negative": (node("Pad", "x,p"), MATRIX, {"p": [0, -1, 2, -1]}),
    "pad axes": (
        node("Pad", "x,p,c,a"),
        IMAGE,
        {"p": [1, 2], "c": np.float32(-1.0), "a": [2]},
        18,
    ),
    "pad reflect": (node("Pad", "x,p", mode="reflect"), MATRIX, {"p": [1, 2, 2, 3]}),
    "pad edge": (node("Pad", "x,p", mode="edge"), MATRIX, {"p": [1, 2, 2, 3]}),
    "pad wrap": (node("Pad", "x,p", mode="wrap"), MATRIX, {"p": [1, 2, 2, 3]}, 19),
    "pad attributes": (node("Pad", "x", pads=[1, 0, 2, 3], value=2.5), MATRIX, {}, 7),
    "gather": (node("Gather", "x,i", axis=2), IMAGE, {"i": [[3, -1], [0, 3]]}),
    "gather scalar": (node("Gather", "x,i"), MATRIX, {"i": np.int64(1)}),
    "expand": (node("Expand", "x,s"), {"x": (3, 1)}, {"s": [2, 1, 4]}),
    "tile": (node("Tile", "x,r"), MATRIX, {"r": [2, 3]}),
    "concat": (node("Concat", "a,b", axis=1), {"a": (2, 3), "b": (2, 4)}),
    "concat constants": (
        node("Concat", "u,x,v,x", axis=-1),
        MATRIX,
        {"u": random(3, 2), "v": random(3, 1)},
    ),
    "where": (
        node("Where", "c,x,w"),
        MATRIX,
        {"c": [[True], [False], [True]], "w": random(2, 1, 4)},
    ),
    "trilu": (node("Trilu", "x", upper=0), MATRIX),
    "trilu shifted": (node("Trilu", "x,k"), MATRIX, {"k": np.int64(-1)}),
    "reshape opset 7": (node("Reshape", "x,s"), IMAGE, {"s": [0, -1]}, 7),
    "concat opset 7": (node("Concat", "x,w", axis=1), MATRIX, {"w": random(3, 2)}, 7),
    "gather opset 7": (node("Gather", "x,i", axis=1), MATRIX, {"i": [0, 3, 0]}, 7),
    "flatten opset 7": (node("Flatten", "x"), IMAGE, {}, 7),
    "tile opset 7": (node("Tile", "x,r"), MATRIX, {"r": [1, 3]}, 7),
    "expand opset 8": (node("Expand", "x,s"), {"x": (3, 1)}, {"s": [3, 4]}, 8),
    "slice all axes opset 7": (node("Slice", "x", starts=[0, 1], ends=[-1, 3]), MATRIX, {}, 7),
    "pad reflect opset 7": (
        node("Pad", "x", pads=[1, 0, 2, 3], mode="reflect"),
        MATRIX,
        {},
        7,
    ),
    "where constant branch": (
        node("Where", "c,w,x"),
        MATRIX,
        {"c": np.array([True, False, True, False]), "w": np.float32(2.0)},
        9,
    ),
    "depth to space opset 7": (node("DepthToSpace", "x", blocksize=2), {"x": (1, 8, 2, 3)}, {}, 7),
    "space to depth opset 7": (node("SpaceToDepth", "x", blocksize=3), {"x": (1, 2, 3, 6)}, {}, 7),
    "depth to space": (node("DepthToSpace", "x", blocksize=2), {"x": (1, 8, 2, 3)}),
    "depth to space crd": (
        node("DepthToSpace", "x", blocksize=2, mode="CRD"),
        {"x": (1, 8, 2, 3)},
    ),
    "space to depth": (node("SpaceToDepth", "x", blocksize=2), {"x": (1, 2, 4, 6)}),
}


@pytest.mark.parametrize("name", CASES)
def test_movement_means_what_onnxruntime_computes(name: str) -> None:
    assert_same_as_onnxruntime(Case(*CASES[name]).model())


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 21])
def test_split_in_every_form(opset: int) -> None:
    parts = "y,z,u"
    shapes = {"x": (2, 6, 3)}
    if opset < 13:
        even = [node("Split", "x", parts, axis=1)]
        sized = [node("Split", "x", parts, axis=1, split=[1, 3, 2])]
        sizes: dict[str, object] = {}
    else:
        options = {"num_outputs": 3} if opset >= 18 else {}
        even = [node("Split", "x", parts, axis=1, **options)]
        sized = [node("Split", "x,s", parts, axis=1)]
        sizes = {"s": [1, 3, 2]}
    outputs = parts.split(",")
    assert_same_as_onnxruntime(network(even, shapes, {}, opset, outputs))
    assert_same_as_onnxruntime(network(sized, shapes, sizes, opset, outputs))


def test_uneven_split() -> None:
    split = node("Split", "x", "y,z,u", axis=0, num_outputs=3)
    outputs = ["y", "z", "u"]
    assert_same_as_onnxruntime(network([split], {"x": (7, 2)}, {}, 18, outputs))
