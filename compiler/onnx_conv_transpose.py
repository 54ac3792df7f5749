"""ConvTranspose and Col2Im: which input pixels spill into each output pixel.

Both spread every input pixel over a window of the output, and add up where windows overlap. Seen
from an output pixel, that is a window over the input whose taps mostly fall between its pixels; so
ConvTranspose has the matrix of a Conv with the kernel turned around.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from hec.compiler.onnx_matrices import Indices, gather, repeat_diagonally
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import (
    GraphBuilder,
    NodeError,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.onnx_windows import conv_bias, conv_matrix, pixel_numbers
from hec.compiler.tensor_ir import Array, Shape


@dataclass(frozen=True)
class _Spread:
    """How input pixels spread over an output, a number for each spatial axis."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    begins: Shape  # output pixels cut off before each axis
    output: Shape


def convert_conv_transpose(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn ConvTranspose into one matrix."""
    x, weights, group = node.encrypted(0), node.weights(1), node.integer("group", 1)
    if len(x.shape) < 3 or weights.ndim != len(x.shape):
        raise NodeError(
            f"ConvTranspose of an input of shape {x.shape} with weights of shape {weights.shape}: "
            "both must have the same rank, 3 or more"
        )
    batch, channels = x.shape[:2]
    if group < 1 or channels % group or channels != len(weights):
        raise NodeError(
            f"ConvTranspose of an input of shape {x.shape} in {group} groups does not fit "
            f"weights of shape {weights.shape}"
        )
    if node.integers("kernel_shape", weights.shape[2:]) != weights.shape[2:]:
        raise NodeError(f"'kernel_shape' contradicts the weights of shape {weights.shape}")
    image, outputs = x.shape[2:], weights.shape[1] * group
    spread = _spread(node, image, weights.shape[2:])
    shape = check_shape((batch, outputs, *spread.output))
    positions = [along[:, ::-1] for along in _sources(spread, image)]
    pixels = pixel_numbers(positions, image)
    block = conv_matrix(pixels, prod(image), _turned_around(weights, group), group)
    matrix = repeat_diagonally(block, batch)
    bias = conv_bias(node, outputs, len(image))
    return [builder.linear([(x.position, matrix)], bias, shape, node.origin)]


def _turned_around(weights: Array, group: int) -> Array:
    """Return the weights of the Conv: (outputs, inputs of a group, taps in the other order)."""
    inputs, outputs, *kernel = weights.shape
    grouped = weights.reshape(group, inputs // group, outputs, *kernel).swapaxes(1, 2)
    flipped: Array = np.flip(grouped, axis=tuple(range(3, grouped.ndim)))
    return flipped.reshape(group * outputs, inputs // group, *kernel)


def convert_col2im(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Col2Im into one matrix, the same block for every channel."""
    x = node.encrypted(0)
    image, kernel = _sizes(node, 1), _sizes(node, 2)
    rank, taps = len(image), prod(kernel)
    strides, dilations, pads = _attributes(node, rank)
    _require_positive(kernel, rank, "block_shape")
    begins, ends = pads[:rank], pads[rank:]
    if len(x.shape) != 3 or x.shape[1] % taps:
        raise NodeError(f"Col2Im of an input of shape {x.shape} does not fit blocks of {kernel}")
    shape = check_shape((x.shape[0], x.shape[1] // taps, *image))
    spread = _Spread(kernel, strides, dilations, begins, image)
    blocks = tuple(
        (image[a] + begins[a] + ends[a] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1
        for a in range(rank)
    )
    if min(blocks) < 1 or prod(blocks) != x.shape[2]:
        raise NodeError(f"Col2Im of an input of shape {x.shape} does not fit {blocks} blocks")
    numbers = pixel_numbers(_sources(spread, blocks), blocks)
    columns = np.where(numbers < 0, -1, numbers + np.arange(taps) * x.shape[2])
    block = gather(columns, 1.0, taps * x.shape[2])
    matrix = repeat_diagonally(block, prod(shape[:2]))
    return [builder.linear([(x.position, matrix)], 0.0, shape, node.origin)]


def _sizes(node: Node, index: int) -> Shape:
    return tuple(int(size) for size in node.weights(index).reshape(-1))


def _sources(spread: _Spread, image: Shape) -> list[Indices]:
    """Return for each axis the (outputs, taps) positions of the pixels read, -1 between them."""
    check_nonzeros(sum(o * k for o, k in zip(spread.output, spread.kernel, strict=True)))
    sources: list[Indices] = []
    for axis, size in enumerate(image):
        starts = np.arange(spread.output[axis]) + spread.begins[axis]
        taps = np.arange(spread.kernel[axis]) * spread.dilations[axis]
        positions, between = np.divmod(starts[:, None] - taps, spread.strides[axis])
        inside = (between == 0) & (positions >= 0) & (positions < size)
        sources.append(np.where(inside, positions, -1))
    return sources


def _spread(node: Node, image: Shape, kernel: Shape) -> _Spread:
    rank = len(image)
    strides, dilations, pads = _attributes(node, rank)
    added = node.integers("output_padding", (0,) * rank)
    if len(added) != rank or min(added) < 0:
        raise NodeError(f"'output_padding' {added} must be {rank} numbers, none negative")
    full = tuple(
        strides[a] * (image[a] - 1) + added[a] + (kernel[a] - 1) * dilations[a] + 1
        for a in range(rank)
    )
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise NodeError(f"auto_pad '{auto_pad}' does not exist in ONNX")
    same = tuple(size * stride for size, stride in zip(image, strides, strict=True))
    wanted = node.integers("output_shape", same if auto_pad.startswith("SAME") else ())
    if wanted:
        begins = _cut_before(full, wanted[-rank:], auto_pad)
        return _Spread(kernel, strides, dilations, begins, wanted[-rank:])
    if auto_pad == "VALID":
        pads = (0,) * 2 * rank
    output = tuple(full[a] - pads[a] - pads[rank + a] for a in range(rank))
    return _Spread(kernel, strides, dilations, pads[:rank], output)


def _cut_before(full: Shape, wanted: Shape, auto_pad: str) -> Shape:
    """Return how much is cut off before each axis so that `full` pixels become `wanted`."""
    if len(wanted) != len(full) or min(wanted) < 1:
        raise NodeError(f"'output_shape' {wanted} must be {len(full)} positive numbers")
    totals = [max(f - w, 0) for f, w in zip(full, wanted, strict=True)]
    return tuple(t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in totals)


def _attributes(node: Node, rank: int) -> tuple[Shape, Shape, Shape]:
    """Return strides, dilations, and pads, all checked."""
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    pads = node.integers("pads", (0,) * 2 * rank)
    _require_positive(strides, rank, "strides")
    _require_positive(dilations, rank, "dilations")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise NodeError(f"'pads' {pads} must be {2 * rank} numbers, none negative")
    return strides, dilations, pads


def _require_positive(values: Shape, rank: int, name: str) -> None:
    if len(values) != rank or min(values) < 1:
        raise NodeError(f"'{name}' {values} must be {rank} positive numbers")
