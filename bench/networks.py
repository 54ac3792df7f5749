"""Networks of any size with random weights: what a plan costs hardly depends on what was trained.

An activation follows every layer but the last: a square, or, for deep networks, whose squares would
grow without bounds, a gentle quadratic. Weights are as large as keeps values near one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
# Means of f(z)^2, for z standard normal, where f is a square, and QUADRATIC: z^2 / 32 + z; the
# second one is a little larger than it is, so that values far from zero come back.
MOMENT, GENTLE_MOMENT = 3.0, 1.3
QUADRATIC, COEFFICIENTS = (1 / 32, 1.0), ("curvature", "slope")


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution; the padding keeps the size where the stride is 1."""

    channels: int
    kernel: int
    stride: int = 1
    padded: bool = False


@dataclass(frozen=True)
class Dense:
    """A matrix of all elements by `width`."""

    width: int


Layer: TypeAlias = "Convolution | Dense"
Shape: TypeAlias = tuple[int, ...]  # without the batch axis


def network(
    shape: Shape, layers: Sequence[Layer], seed: int = 0, gentle: bool = False
) -> onnx.ModelProto:
    """Return the network for inputs of (1, *shape), named `x`, and its output, named `y`."""
    random, entry = np.random.default_rng(seed), shape
    nodes, weights = list[onnx.NodeProto](), list[TensorProto]()
    value, moment = "x", 1.0
    for number, layer in enumerate(layers):
        if isinstance(layer, Dense) and len(shape) > 1:
            nodes.append(helper.make_node("Flatten", [value], [f"flat{number}"]))
            value, shape = f"flat{number}", (int(np.prod(shape)),)
        inputs = [value, f"weight{number}", f"bias{number}"]
        matrix = _weights(random, shape, layer, moment)
        bias = random.normal(0, 0.1, len(matrix))
        weights += [
            numpy_helper.from_array(x.astype(np.float32), name)
            for x, name in zip((matrix, bias), inputs[1:], strict=True)
        ]
        nodes.append(_node(layer, inputs, f"layer{number}"))
        value, shape = f"layer{number}", after(shape, layer)
        moment = GENTLE_MOMENT if gentle else MOMENT
        if number < len(layers) - 1:
            nodes += (
                _quadratic(value, f"active{number}")
                if gentle
                else [helper.make_node("Mul", [value, value], [f"active{number}"])]
            )
            value = f"active{number}"
    if gentle:
        pairs = zip(QUADRATIC, COEFFICIENTS, strict=True)
        weights += [numpy_helper.from_array(np.float32(x), name) for x, name in pairs]
    nodes[-1].output[0] = "y"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *sizes])
        for name, sizes in (("x", entry), ("y", shape))
    ]
    graph = helper.make_graph(nodes, "synthetic", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _weights(
    random: np.random.Generator, shape: Shape, layer: Layer, moment: float
) -> NDArray[np.float64]:
    if isinstance(layer, Dense):
        sizes: Shape = (layer.width, shape[0])
    else:
        sizes = (layer.channels, shape[0], layer.kernel, layer.kernel)
    deviation = 1 / np.sqrt(moment * np.prod(sizes[1:]))
    return random.normal(0, deviation, sizes)


def _quadratic(value: str, output: str) -> list[onnx.NodeProto]:
    square, curved, line = (f"{output}_{part}" for part in ("square", "curved", "line"))
    return [
        helper.make_node("Mul", [value, value], [square]),
        helper.make_node("Mul", [square, COEFFICIENTS[0]], [curved]),
        helper.make_node("Mul", [value, COEFFICIENTS[1]], [line]),
        helper.make_node("Add", [curved, line], [output]),
    ]


def _node(layer: Layer, inputs: list[str], output: str) -> onnx.NodeProto:
    if isinstance(layer, Dense):
        return helper.make_node("Gemm", inputs, [output], transB=1)
    pads = [layer.kernel // 2 if layer.padded else 0] * 4
    return helper.make_node("Conv", inputs, [output], strides=[layer.stride] * 2, pads=pads)


def after(shape: Shape, layer: Layer) -> Shape:
    """Return the shape of what leaves `layer`."""
    if isinstance(layer, Dense):
        return (layer.width,)
    padding = 2 * (layer.kernel // 2) if layer.padded else 0
    sides = ((side + padding - layer.kernel) // layer.stride + 1 for side in shape[1:])
    return (layer.channels, *sides)


def products(shape: Shape, layers: Sequence[Layer]) -> int:
    """Return the products of numbers that the layers take in the clear, squares included."""
    total = 0
    for number, layer in enumerate(layers):
        made = after(shape, layer)
        terms = int(np.prod(shape))
        if isinstance(layer, Convolution):
            terms = shape[0] * layer.kernel**2
        total += int(np.prod(made)) * (terms + (number < len(layers) - 1))
        shape = made
    return total
