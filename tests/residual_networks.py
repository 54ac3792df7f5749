"""A small residual network, and inputs for it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array, Input, Linear, Output, TensorGraph

RELU = Function("relu")
IMAGE = (1, 4, 6, 6)
COUNT = 144


def convolution(random: np.random.Generator, gain: float) -> sp.csr_array:
    """Return a 3x3 convolution of IMAGE with zero padding, rows as strong as `gain`."""
    weights = random.normal(size=(4, 4, 3, 3))
    matrix = np.zeros((4, 6, 6, 4, 6, 6))
    for y, x, dy, dx in np.ndindex(6, 6, 3, 3):
        if 0 <= y + dy - 1 < 6 and 0 <= x + dx - 1 < 6:
            matrix[:, y, x, :, y + dy - 1, x + dx - 1] = weights[:, :, dy, dx]
    return sp.csr_array(gain / 6 * matrix.reshape(COUNT, COUNT))


def residual_network(function: Function = RELU, seed: int = 0) -> TensorGraph:
    """Return conv, f, conv, f, conv plus the first f, f, dense; channels of very unlike sizes."""
    random = np.random.default_rng(seed)
    sizes = np.repeat([1.0, 3.0, 0.3, 0.02], COUNT // 4)
    first = sp.csr_array(sizes[:, None] * convolution(random, 1.4).toarray())
    second = sp.csr_array(convolution(random, 1.4).toarray() / sizes)
    bias = random.normal(size=COUNT) * 0.1
    identity = sp.csr_array(np.eye(COUNT))
    dense = sp.csr_array(random.normal(size=(5, COUNT)) / 12)
    return TensorGraph(
        (
            Input("x", IMAGE),
            Linear((0,), (first,), bias, IMAGE, ("conv0",)),
            Activation(1, function, IMAGE, ("act0",)),
            Linear((2,), (second,), bias, IMAGE, ("conv1",)),
            Activation(3, function, IMAGE, ("act1",)),
            Linear((4, 2), (convolution(random, 1.0), identity), bias, IMAGE, ("conv2", "add")),
            Activation(5, function, IMAGE, ("act2",)),
            Linear((6,), (dense,), np.zeros(5), (1, 5), ("dense",)),
        ),
        (Output("y", 7),),
    )


def normal(count: int, seed: int = 1) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).normal(size=(count, COUNT))}
