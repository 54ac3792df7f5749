"""A small network of the benchmarks as arrays, so that a peer needs no ONNX to run the same one.

Batch normalizations are folded into the layers before them. Only chains of Conv, Gemm, squares and
Flatten are read: what the peers' own examples are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[np.float64]
SQUARE, DATA = "square", frozenset({"Flatten", "Reshape", "Constant"})


@dataclass(frozen=True)
class PlainLayer:
    """A matrix (outputs, inputs), or kernels (outputs, inputs, height, width), and a bias."""

    weight: Array
    bias: Array
    stride: int = 1
    padding: int = 0
    squared: bool = False  # whether a square follows

    def normalized(self, gain: Array, shift: Array) -> PlainLayer:
        """Return the layer whose outputs, channel by channel, are multiplied and shifted."""
        weight = self.weight * gain.reshape(-1, *[1] * (self.weight.ndim - 1))
        return PlainLayer(weight, self.bias * gain + shift, self.stride, self.padding, self.squared)


def layers_of(path: Path) -> list[PlainLayer]:
    """Return the layers of a network; leave with a message if it has others."""
    graph = onnx.load(str(path)).graph
    arrays = {x.name: numpy_helper.to_array(x).astype(np.float64) for x in graph.initializer}
    layers = list[PlainLayer]()
    for node in graph.node:
        known = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
        if node.op_type in {"Conv", "Gemm"}:
            layers.append(_linear(node, known, arrays))
        elif node.op_type == "BatchNormalization":
            scale, shift, mean, variance = (arrays[name] for name in node.input[1:])
            gain = scale / np.sqrt(variance + known.get("epsilon", 1e-5))
            layers[-1] = layers[-1].normalized(gain, shift - mean * gain)
        elif node.op_type == "Mul" and node.input[0] == node.input[1]:
            last = layers[-1]
            layers[-1] = PlainLayer(last.weight, last.bias, last.stride, last.padding, True)
        elif node.op_type not in DATA:
            raise SystemExit(f"{path.name}: no peer's example has a {node.op_type} such as this")
    return layers


def _linear(node: onnx.NodeProto, known: dict[str, Any], arrays: dict[str, Array]) -> PlainLayer:
    weight = arrays[node.input[1]]
    bias = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight))
    if node.op_type == "Gemm":
        return PlainLayer(weight if known.get("transB") else weight.T, bias)
    return PlainLayer(weight, bias, known.get("strides", [1])[0], known.get("pads", [0])[0])


def save(layers: list[PlainLayer], samples: NDArray[np.float32], factor: float, path: Path) -> None:
    """Write layers, inputs, and outputs' factor: a peer computes outputs / factor."""
    arrays: dict[str, Any] = {"samples": samples, "layers": len(layers), "factor": factor}
    for number, layer in enumerate(layers):
        last = factor if number == len(layers) - 1 else 1.0
        arrays[f"weight{number}"], arrays[f"bias{number}"] = layer.weight / last, layer.bias / last
        arrays[f"geometry{number}"] = np.array([layer.stride, layer.padding, layer.squared])
    np.savez(path, **arrays)


def evaluated(layers: list[PlainLayer], samples: NDArray[np.float32]) -> Array:
    """Return the outputs (samples, elements) in the clear; inputs are (samples, channels, ...)."""
    value: Array = samples.astype(np.float64)
    for layer in layers:
        if layer.weight.ndim == 2:
            value = value.reshape(len(value), -1) @ layer.weight.T + layer.bias
        else:
            value = _convolved(value, layer)
        value = value**2 if layer.squared else value
    return value.reshape(len(value), -1)


def _convolved(value: Array, layer: PlainLayer) -> Array:
    pad, stride = layer.padding, layer.stride
    value = np.pad(value, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(value, layer.weight.shape[2:], axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    made = np.einsum("schwij,ocij->sohw", windows, layer.weight)
    return np.asarray(made + layer.bias[:, None, None], np.float64)


def output_factor(outputs: Array, limit: float) -> float:
    """Return the power of two by which outputs are divided, so that they stay below `limit`.

    They are allowed to be twice as large as any that was seen.
    """
    largest = 2 * float(np.abs(outputs).max(initial=0.0))
    return 2.0 ** max(0, int(np.ceil(np.log2(max(largest, limit) / limit))))
