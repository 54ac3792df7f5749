"""Networks whose values' errors are compared with what is predicted: one for each kind of step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

import hec
from hec.compiler.plan import Plan
from onnx_oracle import network, node

Array = NDArray[np.float32]
CALIBRATION = 300  # samples


def _weights(seed: int, *shape: int) -> Array:
    values = np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0])
    return np.asarray(values, np.float32)


def squares(layers: int) -> ModelProto:
    """Return 64-48-...-48-10 with squares: wide and narrow matrices, folds, products."""
    weights, nodes, last = {}, [], "x"
    for layer in range(layers):
        columns = 10 if layer == layers - 1 else 48
        weights[f"w{layer}"] = _weights(layer, 64 if layer == 0 else 48, columns)
        nodes.append(node("MatMul", f"{last},w{layer}", f"a{layer}"))
        last = f"a{layer}"
        if layer < layers - 1:
            nodes.append(node("Mul", f"{last},{last}", f"s{layer}"))
            last = f"s{layer}"
    nodes[-1] = node("MatMul", f"{nodes[-1].input[0]},w{layers - 1}", "y")
    return network(nodes, {"x": (1, 64)}, weights)


def activation(function: str) -> ModelProto:
    """Return 64-48-10 with one activation."""
    weights = {"w1": _weights(1, 64, 48), "w2": _weights(2, 48, 10)}
    nodes = [
        node("MatMul", "x,w1", "a"),
        node(function, "a", "b"),
        node("MatMul", "b,w2", "y"),
    ]
    return network(nodes, {"x": (1, 64)}, weights)


def product() -> ModelProto:
    """Return a product of two layers of one input, and a sum of branches."""
    weights = {"w1": _weights(1, 64, 40), "w2": _weights(2, 64, 40), "w3": _weights(3, 40, 10)}
    nodes = [
        node("MatMul", "x,w1", "a"),
        node("MatMul", "x,w2", "b"),
        node("Mul", "a,b", "c"),
        node("Add", "c,a", "d"),
        node("MatMul", "d,w3", "y"),
    ]
    return network(nodes, {"x": (1, 64)}, weights)


def convolutions() -> ModelProto:
    """Return a small LeNet: two convolutions with squares, a pool, and a dense layer."""
    weights = {
        "k1": _weights(1, 9, 4).T.reshape(4, 1, 3, 3).copy(),
        "k2": _weights(2, 36, 6).T.reshape(6, 4, 3, 3).copy(),
        "w": _weights(3, 24, 10),
    }
    nodes = [
        node("Conv", "x,k1", "a", strides=[2, 2]),
        node("Mul", "a,a", "b"),
        node("Conv", "b,k2", "c"),
        node("AveragePool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
        node("Mul", "d,d", "e"),
        node("Flatten", "e", "f"),
        node("MatMul", "f,w", "y"),
    ]
    return network(nodes, {"x": (1, 1, 14, 14)}, weights)


NETWORKS: dict[str, tuple[Callable[[], ModelProto], int | None]] = {
    "matrix": (lambda: squares(1), None),
    "squares": (lambda: squares(2), None),
    "two squares": (lambda: squares(3), None),
    "product": (product, None),
    "convolutions": (convolutions, None),
    "quadratic": (lambda: activation("Relu"), 2),
    "degree 3": (lambda: activation("Tanh"), 3),
    "degree 5": (lambda: activation("Sigmoid"), 5),
    "degree 7": (lambda: activation("Relu"), 7),
    "degree 15": (lambda: activation("Tanh"), 15),
    "degree 31": (lambda: activation("Relu"), 31),
}


def samples(model: ModelProto, count: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return inputs all over [-1, 1], as they exist in float32."""
    random, found = np.random.default_rng(seed), {}
    for item in model.graph.input:
        shape = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        values = random.uniform(-1, 1, (count, *shape)).astype(np.float32)
        found[item.name] = values.astype(np.float64)
    return found


@lru_cache
def compiled(name: str, backend: str = "tenseal") -> tuple[ModelProto, Plan]:
    """Return the network of `NETWORKS`, and its plan."""
    make, degree = NETWORKS[name]
    model = make()
    target = hec.Target(degree=degree, backend=backend)
    return model, hec.compile(model, samples(model, CALIBRATION, 0), target)
