"""Conv and AveragePool: which input pixels each output pixel reads, in any number of dimensions.

A window over an image is one array of pixel numbers, (output pixels, taps), -1 in the padding.
Conv spreads its weights over that array, one block per output channel; AveragePool its shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import scipy.sparse as sp

from hec.compiler.onnx_matrices import Indices, compressed, gather, repeat_diagonally
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import (
    GraphBuilder,
    NodeError,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.tensor_ir import Array, Shape


@dataclass(frozen=True)
class Window:
    """How a kernel slides over the spatial axes of an image."""

    image: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    begins: Shape  # padding before each axis
    ends: Shape  # padding after each axis
    output: Shape


def convert_conv(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Conv into one matrix."""
    x = node.encrypted(0)
    weights = node.weights(1)
    group = node.integer("group", 1)
    if len(x.shape) < 3 or weights.ndim != len(x.shape):
        raise NodeError(
            f"Conv of an input of shape {x.shape} with weights of shape {weights.shape}: "
            "both must have the same rank, 3 or more"
        )
    batch, channels = x.shape[:2]
    if group < 1 or channels != weights.shape[1] * group or weights.shape[0] % group:
        raise NodeError(
            f"Conv of an input of shape {x.shape} in {group} groups does not fit "
            f"weights of shape {weights.shape}"
        )
    if node.integers("kernel_shape", weights.shape[2:]) != weights.shape[2:]:
        raise NodeError(f"'kernel_shape' contradicts the weights of shape {weights.shape}")
    window = window_of(node, x.shape[2:], weights.shape[2:])
    shape = check_shape((batch, len(weights), *window.output))
    block = conv_matrix(tap_pixels(window), prod(window.image), weights, group)
    matrix = repeat_diagonally(block, batch)
    bias = conv_bias(node, len(weights), len(window.output))
    return [builder.linear([(x.position, matrix)], bias, shape, node.origin)]


def conv_bias(node: Node, outputs: int, spatial: int) -> Array | float:
    """Return input 2 as it broadcasts to (outputs, *spatial axes), 0 if it is left out."""
    if node.input(2) is None:
        return 0.0
    bias = node.weights(2)
    if bias.shape != (outputs,):
        raise NodeError(
            f"a bias of shape {bias.shape} does not fit weights of {node.weights(1).shape}"
        )
    return bias.reshape(-1, *[1] * spatial)


def conv_matrix(numbers: Indices, pixels: int, weights: Array, group: int) -> sp.csr_array:
    """Return the matrix for one image of `pixels`, whose rows are (output channel, output pixel).

    `weights` is (output channels, input channels of a group, taps along each axis).
    """
    outputs, channels = weights.shape[:2]
    taps = numbers.shape[1]
    check_nonzeros(channels * numbers.size)
    check_nonzeros(outputs * channels * int((numbers >= 0).sum()))
    numbers = numbers[:, None, :]
    inside = np.repeat(numbers >= 0, channels, axis=1)
    columns = (numbers + _channel_starts(channels, pixels)[:, None])[inside]
    which = np.broadcast_to(
        np.arange(channels * taps, dtype=np.int32).reshape(channels, taps), inside.shape
    )[inside]
    groups = np.arange(outputs, dtype=np.int32) // (outputs // group)
    indices = columns + (groups * np.int32(channels * pixels))[:, None]
    counts = np.tile(inside.sum(axis=(1, 2)), outputs)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    data = weights.reshape(outputs, -1)[:, which]
    return compressed(data.reshape(-1), indices.reshape(-1), indptr, group * channels * pixels)


def _channel_starts(channels: int, pixels: int) -> Indices:
    return np.arange(0, channels * pixels, pixels, dtype=np.int32)


def convert_average_pool(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn AveragePool into one matrix, the same block for every channel."""
    x = node.encrypted(0)
    if len(x.shape) < 3:
        raise NodeError(f"AveragePool of an input of shape {x.shape}: the rank must be 3 or more")
    window = window_of(node, x.shape[2:], node.integers("kernel_shape"))
    check_nonzeros(prod(x.shape[:2]) * prod(window.output) * prod(window.kernel))
    pixels = tap_pixels(window)
    counts = _tap_counts(node, window, pixels)
    block = gather(pixels, 1.0 / counts[:, None], prod(window.image))
    shape = check_shape((*x.shape[:2], *window.output))
    matrix = repeat_diagonally(block, prod(x.shape[:2]))
    return [builder.linear([(x.position, matrix)], 0.0, shape, node.origin)]


def _tap_counts(node: Node, window: Window, pixels: Indices) -> Array:
    """Return by how much each output pixel divides: all its taps in the image or its padding."""
    if not node.integer("count_include_pad", 0):
        return np.asarray(np.maximum((pixels >= 0).sum(axis=1), 1), np.float64)
    padded = Window(
        tuple(
            size + begin + end
            for size, begin, end in zip(window.image, window.begins, window.ends, strict=True)
        ),
        window.kernel,
        window.strides,
        window.dilations,
        (0,) * len(window.image),
        (0,) * len(window.image),
        window.output,
    )
    counts: Array = (tap_pixels(padded) >= 0).sum(axis=1).astype(np.float64)
    return counts


def tap_pixels(window: Window) -> Indices:
    """Return the (output pixels, taps) numbers of the pixels read, -1 in the padding."""
    positions = []
    for axis, size in enumerate(window.image):
        starts = np.arange(window.output[axis]) * window.strides[axis] - window.begins[axis]
        taps = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        positions.append(np.where((taps >= 0) & (taps < size), taps, -1))
    return pixel_numbers(positions, window.image)


def pixel_numbers(positions: Sequence[Indices], image: Shape) -> Indices:
    """Return (output pixels, taps) numbers from (outputs, taps) positions along each axis.

    -1 along any axis gives -1.
    """
    rank = len(image)
    outputs, taps = zip(*(axis.shape for axis in positions), strict=True)
    check_nonzeros(prod(outputs) * prod(taps))
    pixels: Indices = np.zeros((1,) * 2 * rank, np.int32)
    inside = np.ones(pixels.shape, np.bool_)
    for axis, size in enumerate(image):
        view = [1] * 2 * rank
        view[axis], view[rank + axis] = positions[axis].shape
        along = positions[axis].reshape(view)
        pixels = pixels * size + along
        inside = inside & (along >= 0)
    flat = np.where(inside, pixels, -1).astype(np.int32)
    return np.reshape(flat, (prod(outputs), prod(taps)))


def window_of(node: Node, image: Shape, kernel: Shape) -> Window:
    """Return how a kernel slides over an image, from the attributes of convolutions and pools."""
    rank = len(image)
    ones = (1,) * rank
    strides = node.integers("strides", ones)
    dilations = node.integers("dilations", ones)
    pads = node.integers("pads", (0,) * 2 * rank)
    for values, name in ((kernel, "kernel_shape"), (strides, "strides"), (dilations, "dilations")):
        if len(values) != rank or min(values) < 1:
            raise NodeError(f"'{name}' {values} must be {rank} positive numbers")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise NodeError(f"'pads' {pads} must be {2 * rank} numbers, none negative")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output = tuple(-(-size // stride) for size, stride in zip(image, strides, strict=True))
        begins, ends = _same_pads(image, output, strides, reach, auto_pad == "SAME_LOWER")
    elif auto_pad in ("NOTSET", "VALID", ""):
        pads = (0,) * 2 * rank if auto_pad == "VALID" else pads
        begins, ends = pads[:rank], pads[rank:]
        ceil = bool(node.integer("ceil_mode", 0))
        output = tuple(
            _output_size(image[a], begins[a], ends[a], (reach[a], strides[a]), ceil)
            for a in range(rank)
        )
    else:
        raise NodeError(f"auto_pad '{auto_pad}' does not exist in ONNX")
    return Window(image, kernel, strides, dilations, begins, ends, output)


def _same_pads(
    image: Shape, output: Shape, strides: Shape, reach: Shape, lower: bool
) -> tuple[Shape, Shape]:
    totals = [
        max((out - 1) * stride + length - size, 0)
        for out, stride, length, size in zip(output, strides, reach, image, strict=True)
    ]
    small = tuple(total // 2 for total in totals)
    large = tuple(total - total // 2 for total in totals)
    return (large, small) if lower else (small, large)


def _output_size(
    size: int, begin: int, end: int, reach_and_stride: Sequence[int], ceil: bool
) -> int:
    reach, stride = reach_and_stride
    room = size + begin + end - reach
    if room < 0:
        raise NodeError(f"the kernel reaches over {reach} pixels of an image of {size}")
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    # A window that would start in the padding at the end is left out.
    return count - 1 if (count - 1) * stride >= size + begin else count
