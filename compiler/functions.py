"""Univariate activation functions: name, parameters, exact values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _clip(x: Array, low: float, high: float) -> Array:
    return np.clip(x, low, high)


_VALUES: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x, slope: np.where(x < 0, slope * x, x),
    "clip": _clip,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}


@dataclass(frozen=True)
class Function:
    """A function of one real variable, applied to every element of a tensor."""

    name: str
    parameters: tuple[float, ...] = ()

    def __call__(self, x: Array) -> Array:
        """Return the exact values at `x`, any shape."""
        return _VALUES[self.name](x, *self.parameters)

    def __str__(self) -> str:
        arguments = ", ".join(f"{p:g}" for p in self.parameters)
        return f"{self.name}({arguments})" if arguments else self.name
