"""What the client computes on a decrypted tensor: the end of the network, left out on purpose.

Softmax and arg-max cost many levels under encryption and nothing here; the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler.errors import fail
from hec.compiler.tensor_ir import ClientStep, EpilogueStep

AnyArray = NDArray[np.generic]


def apply(values: NDArray[np.float64], steps: Iterable[ClientStep]) -> AnyArray:
    """Return `values` (in its output shape) after every step in turn."""
    result: AnyArray = values
    for step in steps:
        result = _apply(result, step)
    return result


def apply_each(
    values: NDArray[np.float64], shape: tuple[int, ...], steps: Iterable[ClientStep]
) -> AnyArray:
    """Return (samples, elements) `values` after every step, each sample in its output `shape`.

    Samples are the first axis of the result too, in the place of an output's batch axis of 1.
    """
    kept = tuple(steps)
    stacked = np.stack([apply(row.reshape(shape), kept) for row in values])
    batched = shape[:1] == (1,) and stacked.ndim > 1 and stacked.shape[1] == 1
    return stacked[:, 0] if batched else stacked


def check(shape: tuple[int, ...], steps: Iterable[ClientStep], place: str) -> None:
    """Raise `CompileError` unless `apply` can run the steps on a tensor of `shape`."""
    try:
        apply(np.zeros(shape), steps)
    except (ValueError, TypeError, IndexError) as error:
        message = f"The steps after decryption do not fit their tensor: {error}"
        raise fail(message, place, "compile the model again with this version of hec") from None


def softmax(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return exp(values) over its sum along `axis`, without overflow."""
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def log_softmax(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the logarithm of softmax, without overflow or cancellation."""
    below = values - values.max(axis=axis, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=axis, keepdims=True)))


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-values)), without overflow."""
    power = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, power) / (1 + power))


def _apply(values: AnyArray, step: ClientStep) -> AnyArray:
    if not isinstance(step, EpilogueStep):
        return step(values)
    match step.name:
        case "softmax":
            return softmax(np.asarray(values, np.float64), step.axis)
        case "log_softmax":
            return log_softmax(np.asarray(values, np.float64), step.axis)
        case "sigmoid":
            return sigmoid(np.asarray(values, np.float64))
        case "argmax":
            return np.asarray(np.argmax(values, axis=step.axis, keepdims=step.keep_axis))
        case "reshape":
            return values.reshape(step.shape)
        case "cast":
            return values.astype(_number_type(step.dtype))
        case _:
            assert_never(step.name)


def _number_type(name: str) -> np.dtype[np.generic]:
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise TypeError(f"'{name}' is not a type of numbers")
    return dtype
