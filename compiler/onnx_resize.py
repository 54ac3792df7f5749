"""Resize and Upsample: interpolation along each axis is a matrix.

A tensor is interpolated along one axis after the other, so the whole is the Kronecker product of
small matrices, each (resized, length) with a few taps a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.onnx_matrices import kronecker, repeat_diagonally
from hec.compiler.onnx_movement import check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import GraphBuilder, NodeError, Value, check_shape
from hec.compiler.tensor_ir import Array, Shape

_REACH = {"linear": 1, "cubic": 2}  # pixels to either side that are read
_FAR = 2.0**40  # pixels: beyond any axis, and still an integer
_WHOLE = 1e-3  # pixels: how far from a whole number scales in float32 lead
_BY_SIZE = ("align_corners", "tf_crop_and_resize")  # their formulas have the size, not the scale
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
_COORDINATES = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)


@dataclass(frozen=True)
class _Sampling:
    """How a pixel between pixels is computed, the same for all axes."""

    mode: str
    coordinates: str
    rounding: str  # of the nearest pixel
    cubic: float
    antialias: bool
    exclude_outside: bool


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized; `region` is the part of it that tf_crop_and_resize reads."""

    length: int
    resized: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)

    @property
    def is_kept(self) -> bool:
        """Return whether the axis stays as it is."""
        same = self.length == self.resized and self.scale == 1.0
        return same and self.region == (0.0, 1.0)


def convert_resize(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Resize or Upsample of any operator set into one matrix."""
    x = node.encrypted(0)
    sampling = _sampling(node)
    axes = _axes(node, x.shape, sampling)
    shape = check_shape(axis.resized for axis in axes)
    coordinates = [_coordinates(axis, sampling) for axis in axes]
    blocks = [_block(*pair, sampling) for pair in zip(axes, coordinates, strict=True)]
    kept = next((k for k, axis in enumerate(axes) if not axis.is_kept), len(axes))
    block = reduce(kronecker, blocks[kept:], sp.csr_array(np.ones((1, 1))))
    matrix = repeat_diagonally(block, int(np.prod(shape[:kept])))
    bias: Array | float = 0.0
    if sampling.coordinates == "tf_crop_and_resize":
        outside = [_outside(*pair) for pair in zip(axes, coordinates, strict=True)]
        beyond = reduce(np.logical_or.outer, outside)
        bias = np.where(beyond, node.real("extrapolation_value", 0.0), 0.0)
    return [builder.linear([(x.position, matrix)], bias, shape, node.origin)]


def _sampling(node: Node) -> _Sampling:
    old = node.operator == "Upsample" or node.opset < 11
    rounding = "floor" if node.operator == "Upsample" else "simple"
    sampling = _Sampling(
        node.text("mode", "nearest"),
        "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel"),
        rounding if old else node.text("nearest_mode", "round_prefer_floor"),
        node.real("cubic_coeff_a", -0.75),
        bool(node.integer("antialias", 0)),
        bool(node.integer("exclude_outside", 0)),
    )
    for name, value, values in (
        ("mode", sampling.mode, ("nearest", *_REACH)),
        ("coordinate_transformation_mode", sampling.coordinates, _COORDINATES),
        ("nearest_mode", sampling.rounding, _ROUNDINGS),
    ):
        if value not in values:
            raise NodeError(f"{node.operator} with {name} '{value}' does not exist in ONNX")
    return sampling


def _axes(node: Node, shape: Shape, sampling: _Sampling) -> tuple[_Axis, ...]:
    """Return how each axis is resized."""
    named = [check_axis(a, len(shape)) for a in node.integers("axes", range(len(shape)))]
    scales, sizes = _numbers(node, _scales_at(node)), _numbers(node, 3)
    if node.operator == "Upsample" and node.opset < 9:
        scales = np.asarray(node.reals("scales"))
    given = scales if sizes is None else sizes
    if given is None or (scales is not None and sizes is not None):
        raise NodeError(f"{node.operator} needs either scales or sizes")
    if given.shape != (len(named),) or len(set(named)) != len(named):
        raise NodeError(f"{node.operator} with {given.size} factors does not fit axes {named}")
    if not (np.isfinite(given) & (given > 0)).all():
        raise NodeError(f"{node.operator} by {given.tolist()}: the factors must be positive")
    resized = _scaled(shape, named, given) if sizes is None else _sized(node, shape, named, given)
    if sizes is None and sampling.coordinates in _BY_SIZE:
        _require_whole(resized, sampling)
    if sampling.coordinates != "tf_crop_and_resize":
        return resized
    return _with_regions(node, resized, named)


def _require_whole(axes: tuple[_Axis, ...], sampling: _Sampling) -> None:
    """Refuse where the standard's own cases and onnxruntime disagree."""
    for axis in axes:
        if abs(axis.length * axis.scale - axis.resized) > _WHOLE:
            raise NodeError(
                f"Resize with {sampling.coordinates} of {axis.length} by {axis.scale:g}: "
                "runtimes disagree on what a fraction of a pixel means here",
                "give Resize sizes instead of scales",
            )


def _scales_at(node: Node) -> int:
    return 1 if node.operator == "Upsample" or node.opset < 11 else 2


def _numbers(node: Node, index: int) -> Array | None:
    """Return a constant input, None if left out or empty."""
    if node.input(index) is None:
        return None
    values = node.weights(index)
    return values if values.size else None


def _scaled(shape: Shape, named: list[int], scales: Array) -> tuple[_Axis, ...]:
    axes = [_Axis(length, length, 1.0) for length in shape]
    for axis, scale in zip(named, scales, strict=True):
        # The product in float32, as shape inference and onnxruntime have it.
        axes[axis] = _Axis(shape[axis], int(np.float32(shape[axis]) * np.float32(scale)), scale)
    return tuple(axes)


def _sized(node: Node, shape: Shape, named: list[int], sizes: Array) -> tuple[_Axis, ...]:
    axes = [_Axis(length, length, 1.0) for length in shape]
    scales = [size / shape[axis] for axis, size in zip(named, sizes, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy not in ("stretch", "not_larger", "not_smaller"):
        raise NodeError(f"Resize with keep_aspect_ratio_policy '{policy}' does not exist in ONNX")
    if policy != "stretch":
        scales = [min(scales) if policy == "not_larger" else max(scales)] * len(scales)
    for axis, scale in zip(named, scales, strict=True):
        axes[axis] = _Axis(shape[axis], int(scale * shape[axis] + 0.5), scale)
    return tuple(axes)


def _with_regions(node: Node, axes: tuple[_Axis, ...], named: list[int]) -> tuple[_Axis, ...]:
    region = node.weights(1).reshape(-1)
    if region.size != 2 * len(named):
        raise NodeError(f"Resize with {region.size} numbers in 'roi' needs {2 * len(named)}")
    cropped = list(axes)
    for k, number in enumerate(named):
        axis, ends = axes[number], (float(region[k]), float(region[k + len(named)]))
        cropped[number] = _Axis(axis.length, axis.resized, axis.scale, ends)
    return tuple(cropped)


def _coordinates(axis: _Axis, sampling: _Sampling) -> Array:
    """Return where each resized pixel lies between the pixels of the axis."""
    if axis.is_kept:
        return np.arange(axis.resized, dtype=np.float64)
    with np.errstate(all="ignore"):
        x = np.asarray(_transformed(axis, sampling.coordinates), np.float64)
    return np.clip(np.nan_to_num(x, nan=-_FAR), -_FAR, _FAR)


def _transformed(axis: _Axis, formula: str) -> NDArray[np.float32]:
    """Return the coordinates of the ONNX standard.

    In float32 as onnxruntime: which pixel is the nearest may hang on the last bit.
    """
    y = np.arange(axis.resized, dtype=np.float32)
    length, resized = np.float32(axis.length), np.float32(axis.resized)
    scale, half = np.float32(axis.scale), np.float32(0.5)
    last, gaps = length - 1, resized - 1
    x: NDArray[np.float32] = (y + half) / scale - half
    match formula:
        case "align_corners":
            x = y * last / gaps if gaps else y
        case "asymmetric":
            x = y / scale
        case "tf_half_pixel_for_nn":
            x = (y + half) / scale
        case "tf_crop_and_resize":
            begin, end = (np.float32(edge) for edge in axis.region)
            middle = y + half * (begin + end) * last
            x = begin * last + y * (end - begin) * last / gaps if gaps else middle
        case "pytorch_half_pixel" if not gaps:
            x = y
        case "half_pixel_symmetric":
            x = length / 2 * (1 - resized / (scale * length)) + x
    return x


def _outside(axis: _Axis, coordinates: Array) -> NDArray[np.bool_]:
    return (coordinates < 0) | (coordinates > axis.length - 1)


def _block(axis: _Axis, coordinates: Array, sampling: _Sampling) -> sp.csr_array:
    """Return the (resized, length) matrix of one axis."""
    if sampling.mode == "nearest":
        pixels = _nearest(axis, coordinates, sampling.rounding)[:, None]
        weights = np.ones(pixels.shape)
    else:
        pixels, weights = _taps(axis, coordinates, sampling)
    if sampling.coordinates == "tf_crop_and_resize":
        weights = np.where(_outside(axis, coordinates)[:, None], 0.0, weights)
    rows = np.repeat(np.arange(axis.resized), pixels.shape[1])
    columns = np.clip(pixels, 0, axis.length - 1).reshape(-1)
    shape = (axis.resized, axis.length)
    matrix = sp.csr_array((weights.reshape(-1), (rows, columns)), shape=shape)
    matrix.eliminate_zeros()
    return matrix


def _nearest(axis: _Axis, x: Array, rounding: str) -> NDArray[np.int64]:
    match rounding:
        case "round_prefer_floor":
            rounded = np.ceil(x - 0.5)
        case "round_prefer_ceil":
            rounded = np.floor(x + 0.5)
        case "floor":
            rounded = np.floor(x)
        case "ceil":
            rounded = np.ceil(x)
        case _:  # before opset 11 onnxruntime rounded up where it made smaller
            rounded = np.ceil(x) if axis.scale < 1 else np.floor(x)
    return rounded.astype(np.int64)


def _taps(axis: _Axis, x: Array, sampling: _Sampling) -> tuple[NDArray[np.int64], Array]:
    """Return the (resized, taps) pixels that are read, and their weights."""
    shrink = min(axis.scale, 1.0) if sampling.antialias else 1.0
    reach = int(np.ceil(_REACH[sampling.mode] / shrink))
    pixels = np.floor(x).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    distances = abs(pixels - x[:, None]) * shrink
    if sampling.mode == "linear":
        weights = linear_weights(distances)
    else:
        weights = cubic_weights(distances, sampling.cubic)
    if sampling.exclude_outside:
        weights[(pixels < 0) | (pixels >= axis.length)] = 0.0
    with np.errstate(all="ignore"):  # the builder reports what is not finite
        return pixels, weights / weights.sum(axis=1, keepdims=True)


def linear_weights(distances: Array) -> Array:
    """Return how much pixels at these distances count in linear interpolation."""
    return np.maximum(1.0 - distances, 0.0)


def cubic_weights(d: Array, a: float) -> Array:
    """Return how much pixels at distances `d` count in cubic convolution.

    Source: R. Keys, IEEE Transactions on Acoustics, Speech, and Signal Processing 29(6), 1981.
    """
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
