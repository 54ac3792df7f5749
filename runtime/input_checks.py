"""Whether the data owner's arrays are what the plan was compiled for; and the server's messages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hec.compiler.errors import fail, warn
from hec.compiler.plan_parts import PlanInput

Array = NDArray[np.float64]


def checked_array(x: ArrayLike, shape: tuple[int, ...], place: str) -> Array:
    """Return `x` as finite float64 of `shape`; a leading axis of 1 may be missing or added."""
    array = _numbers(x, place)
    batched = (1, *array.shape)
    if array.shape not in (shape, (1, *shape)) and batched != shape:
        raise _wrong_shape(array.shape, shape, place)
    return _finite(array.reshape(shape), place)


def _numbers(x: ArrayLike, place: str) -> NDArray[np.generic]:
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise fail(f"Not an array of numbers: {error}", place, "give a numpy array") from None
    if array.dtype.kind not in "biuf":
        raise fail(f"Not an array of real numbers: {array.dtype}", place, "give a float array")
    return array


def _finite(array: NDArray[np.generic], place: str) -> Array:
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise fail(
            f"{finite.size - np.count_nonzero(finite)} of {finite.size} values are not finite; "
            f"the first is {values[first]} at {list(first)}",
            place,
            "replace missing values before encryption",
        )
    return values


def checked_samples(x: ArrayLike, item: PlanInput, batch: int) -> Array:
    """Return `x` as finite float64 of (samples, *shape), 1 to `batch` samples; 1 as above."""
    place = f"input '{item.name}'"
    if batch == 1:
        return checked_array(x, item.shape, place)[None]
    array, shape = _numbers(x, place), item.shape
    given = array.shape
    if array.shape in (shape, shape[1:]) and shape[:1] == (1,):
        array = array.reshape(1, *shape)
    elif array.ndim and array.shape[1:] == shape[1:] and shape[:1] == (1,):
        array = array.reshape(len(array), *shape)
    if array.shape[1:] != shape or not len(array):
        rest = ", ".join(map(str, shape[1:] if shape[:1] == (1,) else shape))
        message = f"Expected an array of shape (n, {rest}), got {given}"
        raise fail(message, place, f"give n samples, 1 to {batch}, in the model's own shape")
    if len(array) > batch:
        message = f"{len(array)} samples are more than the {batch} that one message carries"
        raise fail(message, place, f"encrypt {batch} at a time, or compile with a larger --batch")
    return _finite(array, place)


def same_count(arrays: Mapping[str, Array]) -> int:
    """Return how many samples every input has; raise `CompileError` if that is not one number."""
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
        raise fail(
            f"The inputs have different numbers of samples: {told}",
            "inputs of the model",
            "give the same number of samples for each input",
        )
    return next(iter(counts.values()))


def check_range(values: Array, interval: tuple[float, float] | None, place: str) -> None:
    """Warn if `values` leave the interval that the plan was made for."""
    if interval is None or values.size == 0:
        return
    low, high = float(values.min()), float(values.max())
    if low < interval[0] or high > interval[1]:
        warn(
            f"Values in [{low:.4g}, {high:.4g}] leave the calibrated range "
            f"[{interval[0]:.4g}, {interval[1]:.4g}]: the prediction may be wrong",
            place,
            "preprocess as for calibration, or compile with calibration data that has such values",
        )


def check_names(found: Mapping[str, int], expected: Mapping[str, int], place: str) -> None:
    """Raise `CompileError` unless a message has the expected tensors; counts of ciphertexts."""
    if found != expected:
        raise fail(
            f"Expected the ciphertexts {_shown(expected)}, found {_shown(found)}",
            place or "message",
            "make the message again with this plan",
        )


def _wrong_shape(found: tuple[int, ...], expected: tuple[int, ...], place: str) -> Exception:
    help = "give one sample in the model's own shape"
    if len(found) == len(expected) and found[1:] == expected[1:]:
        help = f"encrypt the {found[0]} samples one at a time"
    return fail(f"Expected an array of shape {expected}, got {found}", place, help)


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"'{name}' ({count})" for name, count in sorted(counts.items())) or "none"
