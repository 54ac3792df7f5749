"""GridSample with a constant grid: every output pixel reads a few input pixels around a point."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.onnx_matrices import Indices, compressed
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_resize import cubic_weights, linear_weights
from hec.compiler.onnx_values import GraphBuilder, NodeError, Value, check_nonzeros, check_shape
from hec.compiler.tensor_ir import Array, Shape

_TAPS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
_OLD_NAMES = {"bilinear": "linear", "bicubic": "cubic"}  # before opset 20
_PADDINGS = ("zeros", "border", "reflection")
_CUBIC = -0.75
_FAR = 2.0**40  # pixels: beyond any image, and still an integer


@dataclass(frozen=True)
class _Edges:
    """What lies beyond the pixels 0 to length - 1 of an axis."""

    length: int
    padding: str
    align_corners: bool

    def located(self, grid: Array) -> Array:
        """Return the position in pixels of points that are given from -1 to 1."""
        if self.align_corners:
            return (grid + 1) / 2 * (self.length - 1)
        return ((grid + 1) * self.length - 1) / 2

    def inside(self, x: Array) -> Array:
        """Return `x` moved into the axis, as the padding says."""
        if self.padding == "border":
            return np.clip(x, 0, self.length - 1)
        if self.padding == "zeros":
            return x
        low = 0.0 if self.align_corners else -0.5
        width = self.length - 1.0 - 2 * low
        if not width:
            return np.zeros_like(x)
        turned = np.mod(x - low, 2 * width)
        return low + np.minimum(turned, 2 * width - turned)


def convert_grid_sample(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn GridSample with a constant grid into one matrix."""
    x, grid = node.encrypted(0), node.weights(1)
    rank = len(x.shape) - 2
    if rank < 1 or grid.ndim != rank + 2 or grid.shape[-1] != rank or len(grid) != x.shape[0]:
        raise NodeError(
            f"GridSample of a tensor of shape {x.shape} does not fit a grid of shape {grid.shape}"
        )
    mode, padding = _options(node)
    shape = check_shape((*x.shape[:2], *grid.shape[1:-1]))
    check_nonzeros(prod(shape) * len(_TAPS[mode]) ** rank)
    corners = bool(node.integer("align_corners", 0))
    edges = [_Edges(length, padding, corners) for length in x.shape[2:]]
    # The last axis comes first in the grid.
    points = np.moveaxis(grid.reshape(len(grid), -1, rank)[..., ::-1], -1, 0)
    pixels, weights = _sampled(edges, points, mode)
    matrix = _matrix(x.shape, pixels, weights)
    return [builder.linear([(x.position, matrix)], 0.0, shape, node.origin)]


def _options(node: Node) -> tuple[str, str]:
    mode, padding = node.text("mode", "linear"), node.text("padding_mode", "zeros")
    mode = _OLD_NAMES.get(mode, mode)
    if mode not in _TAPS or padding not in _PADDINGS:
        raise NodeError(f"GridSample in mode '{mode}', '{padding}' does not exist in ONNX")
    return mode, padding


def _sampled(edges: list[_Edges], points: Array, mode: str) -> tuple[Indices, Array]:
    """Return (samples, points, taps) pixels and weights for (axes, samples, points) points.

    Pixels outside have weight 0.
    """
    pixels: NDArray[np.int64] = np.zeros((*points.shape[1:], 1), np.int64)
    weights = np.ones(pixels.shape)
    for edge, grid in zip(edges, points, strict=True):
        x = np.clip(edge.located(grid), -_FAR, _FAR)
        along, factors = _along(edge, x, mode)
        taps = (*pixels.shape[:2], -1)
        pixels = (pixels[..., :, None] * edge.length + along[..., None, :]).reshape(taps)
        weights = (weights[..., :, None] * factors[..., None, :]).reshape(taps)
    return pixels, weights


def _along(edge: _Edges, x: Array, mode: str) -> tuple[NDArray[np.int64], Array]:
    if mode == "nearest":
        x = np.rint(x)
    positions = np.floor(x)[..., None] + np.array(_TAPS[mode])
    distances = abs(positions - x[..., None])
    match mode:
        case "linear":
            weights = linear_weights(distances)
        case "cubic":
            weights = cubic_weights(distances, _CUBIC)
        case _:
            weights = np.ones(positions.shape)
    found = np.trunc(edge.inside(positions)).astype(np.int64)
    outside = (found < 0) | (found >= edge.length)
    return np.where(outside, 0, found), np.where(outside, 0.0, weights)


def _matrix(shape: Shape, pixels: Indices, weights: Array) -> sp.csr_array:
    """Return the matrix that reads the pixels in every channel."""
    batch, channels, image = shape[0], shape[1], prod(shape[2:])
    starts = np.arange(batch * channels).reshape(batch, channels, 1, 1) * image
    columns = (starts + pixels[:, None]).astype(np.int32)
    data = np.array(np.broadcast_to(weights[:, None], columns.shape)).reshape(-1)
    indptr = np.arange(0, columns.size + 1, columns.shape[-1], dtype=np.int32)
    matrix = sp.csr_array((data, columns.reshape(-1), indptr), shape=(indptr.size - 1, prod(shape)))
    matrix.sum_duplicates()
    return compressed(matrix.data, matrix.indices, matrix.indptr, prod(shape))
