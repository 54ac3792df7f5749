"""Univariate functions, of activations and of compositions: name, parameters, exact values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special
from typing_extensions import assert_never

Array = NDArray[np.float64]

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's own
TANH_GELU_CUBE = 0.044715  # D. Hendrycks and K. Gimpel, arXiv 1606.08415


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _clip(x: Array, low: float, high: float) -> Array:
    return np.clip(x, low, high)


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def _celu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0) / alpha), x)


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu(x: Array) -> Array:
    return np.asarray(x * special.ndtr(x), np.float64)


def _gelu_tanh(x: Array) -> Array:
    return x * _sigmoid(np.sqrt(8 / np.pi) * (x + TANH_GELU_CUBE * x**3))


def _shrink(x: Array, bias: float, threshold: float) -> Array:
    return np.where(x > threshold, x - bias, np.where(x < -threshold, x + bias, 0.0))


_VALUES: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x, slope: np.where(x < 0, slope * x, x),
    "thresholded_relu": lambda x, threshold: np.where(x > threshold, x, 0.0),
    "clip": _clip,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "tanh": np.tanh,
    "silu": lambda x, factor=1.0: x * _sigmoid(factor * x),
    "hard_swish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "elu": _elu,
    "celu": _celu,
    "selu": lambda x, alpha, gamma: gamma * _elu(x, alpha),
    "softplus": _softplus,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "erf": special.erf,
    "exp": np.exp,
    "abs": np.abs,
    "sign": np.sign,
    "shrink": _shrink,
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "power": np.power,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}


@dataclass(frozen=True)
class Sum:
    """factors[i] * values[operands[i]], summed up, plus bias."""

    operands: tuple[int, ...]
    factors: tuple[float, ...]
    bias: float


@dataclass(frozen=True)
class Product:
    """values[left] * values[right]."""

    left: int
    right: int


@dataclass(frozen=True)
class Power:
    """coefficients[k] * values[operand]^k, summed up; or of Chebyshev polynomials instead."""

    operand: int
    coefficients: tuple[float, ...]
    chebyshev: bool = False


@dataclass(frozen=True)
class Applied:
    """function(values[operand])."""

    operand: int
    function: Function


Step: TypeAlias = Sum | Product | Power | Applied


@dataclass(frozen=True)
class Extension:
    """Straight lines in place of a function below `low` and above `high`."""

    low: float
    high: float
    slopes: tuple[float, float]  # of the two lines


@dataclass(frozen=True)
class Function:
    """A function of one real variable, applied to every element of a tensor.

    With `steps` it is their composition, and the name only a name: values[0] is the variable, each
    step adds a value, the last is the result. With `extension` it is defined everywhere.
    """

    name: str
    parameters: tuple[float, ...] = ()
    steps: tuple[Step, ...] = ()
    extension: Extension | None = None

    def __call__(self, x: Array) -> Array:
        """Return the values at `x`, any shape: NaN or infinite where there are none."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.extension is None:
                return self._inside(x)
            low, high = self.extension.low, self.extension.high
            below, above = self.extension.slopes
            inside = self._inside(np.clip(x, low, high))
            return inside + below * np.minimum(x - low, 0) + above * np.maximum(x - high, 0)

    def _inside(self, x: Array) -> Array:
        if not self.steps:
            return np.asarray(_VALUES[self.name](x, *self.parameters), np.float64)
        return step_values(self.steps, x)[-1]

    def __str__(self) -> str:
        arguments = ", ".join(f"{p:g}" for p in self.parameters)
        return f"{self.name}({arguments})" if arguments else self.name


def step_values(steps: Sequence[Step], x: Array) -> list[Array]:
    """Return the variable and the result of each step, at `x`."""
    values = [x]
    for step in steps:
        values.append(_step(step, values))
    return values


def _step(step: Step, values: Sequence[Array]) -> Array:
    match step:
        case Sum():
            total: Array = np.full_like(values[0], step.bias)
            for operand, factor in zip(step.operands, step.factors, strict=True):
                total = total + factor * values[operand]
            return total
        case Product():
            return values[step.left] * values[step.right]
        case Power():
            polynomial = np.polynomial.chebyshev.chebval if step.chebyshev else _polyval
            return np.asarray(polynomial(values[step.operand], step.coefficients), np.float64)
        case Applied():
            return step.function(values[step.operand])
        case _:
            assert_never(step)


_polyval = np.polynomial.polynomial.polyval

KNOWN = (
    *(Function(name) for name in ("silu", "gelu", "gelu_tanh", "hard_swish", "mish", "softplus")),
    Function("silu", (1.702,)),
    *(Function(name) for name in ("relu", "tanh", "sigmoid", "softsign", "abs")),
    Function("clip", (0.0, 6.0)),
)


def composed(steps: tuple[Step, ...]) -> Function:
    """Return the composition of `steps`, under the name of a function of `KNOWN` if it is one."""
    inner = [str(step.function) for step in steps if isinstance(step, Applied)]
    function = Function("composition of " + ", ".join(dict.fromkeys(inner)), (), steps)
    x = np.linspace(-8.0, 8.0, 257)
    with np.errstate(all="ignore"):
        values = function(x)
        for known in KNOWN:
            if np.allclose(values, known(x), rtol=0, atol=1e-6):  # constants are float32's
                return Function(known.name, known.parameters, steps)
    return function


def is_known(function: Function) -> bool:
    """Return whether `function` has a name of `KNOWN`, with its parameters."""
    return any((f.name, f.parameters) == (function.name, function.parameters) for f in KNOWN)
