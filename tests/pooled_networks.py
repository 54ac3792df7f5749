"""A small network with MaxPool, or whatever pool, and samples for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIDE, CHANNELS, CLASSES = 4, 2, 4


def pooled(pool: str = "MaxPool", activation: str = "Relu", seed: int = 0) -> ModelProto:
    """Return Conv, an activation, a pool of 2x2, Gemm."""
    random = np.random.default_rng(seed)

    def stored(name: str, *shape: int) -> TensorProto:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1.0)
        return numpy_helper.from_array(values.astype(np.float32), name)

    pixels = CHANNELS * (SIDE // 2) ** 2
    weights = [
        stored("w1", CHANNELS, 1, 3, 3),
        stored("w2", CLASSES, pixels),
        stored("b2", CLASSES),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c"], ["a"], "act"),
        helper.make_node(pool, ["a"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        weights,
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def samples(count: int = 96, seed: int = 1) -> NDArray[np.float32]:
    """Return inputs of the network."""
    random = np.random.default_rng(seed)
    return random.standard_normal((count, 1, SIDE, SIDE)).astype(np.float32)
