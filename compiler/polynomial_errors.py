"""The errors of evaluating a Chebyshev series, from the very steps that `kernels` makes.

Two walks over `kernels.apply_polynomial`. One notes at which level and scale every step adds an
error of its own, as `CostCounter` notes what it costs. The other carries, beside the values at some
arguments, their derivatives by each of these errors, so that an error in T_2 that reaches the
result on five ways is added up before it is squared.

Source: first-order error propagation (automatic differentiation, forward mode).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import Polynomial
from hec.compiler.cost import Counted
from hec.compiler.kernels import ConstantCache, apply_polynomial

Array = NDArray[np.float64]
GRID: Final = np.linspace(-1.0, 1.0, 65)  # arguments at which gains are averaged
COLUMNS: Final = 16  # of coefficients that differ from slot to slot, looked at
_UNIFORM: Final = 3**-0.5  # rms of arguments all over [-1, 1]
_SCALE: Final = 2.0**40  # of every value in the walk for gains, which do not depend on it


class Kind(Enum):
    """What a step does that adds an error."""

    RESCALE = "rescale"
    SWITCH = "switch"  # of a product's relinearization
    NUMBER = "number"  # rounded, one for all slots
    VECTOR = "vector"  # rounded, a number for each slot


@dataclass(frozen=True)
class Source:
    """A step that adds an error, and where."""

    kind: Kind
    level: int  # before the step
    scale: float  # of the values to which the error is added


@dataclass(frozen=True)
class Gains:
    """By how much the variance of an error grows on its way into the result."""

    entering: float  # mean over the arguments, of an error of the argument
    entering_most: float  # largest
    made: tuple[float, ...]  # mean over the arguments, of the error of each source in turn
    made_most: tuple[float, ...]  # largest


@dataclass
class _Noting:
    """A backend that notes the sources, in the order of the steps."""

    primes: tuple[int, ...]
    found: list[Source] = field(default_factory=list)

    def _note(self, kind: Kind, level: int, scale: float) -> None:
        self.found.append(Source(kind, level, scale))

    def encode(self, values: Array, level: int, scale: float) -> Counted:
        self._note(Kind.VECTOR if values.ndim else Kind.NUMBER, level, scale)
        return Counted(level, scale)

    def rotate(self, x: Counted, steps: int) -> Counted:
        return x

    def multiply_plain(self, x: Counted, y: Counted) -> Counted:
        return Counted(x.level, x.scale * y.scale)

    def add_plain(self, x: Counted, y: Counted) -> Counted:
        return x

    def add(self, x: Counted, y: Counted) -> Counted:
        return x

    def multiply(self, x: Counted, y: Counted) -> Counted:
        self._note(Kind.SWITCH, x.level, x.scale * y.scale)
        return Counted(x.level, x.scale * y.scale)

    def rescale(self, x: Counted) -> Counted:
        scale = x.scale / self.primes[x.level]
        self._note(Kind.RESCALE, x.level, scale)
        return Counted(x.level - 1, scale)

    def mod_switch(self, x: Counted, level: int) -> Counted:
        return Counted(level, x.scale)

    def level(self, x: Counted) -> int:
        return x.level

    def scale(self, x: Counted) -> float:
        return x.scale


@dataclass(frozen=True, eq=False)
class _Traced:
    """Values, (columns, arguments), and derivatives, (errors, columns, arguments)."""

    values: Array
    slopes: Array  # by the argument's error first, then by that of each source
    level: int


@dataclass
class _Tracing:
    """A backend that carries derivatives by the errors of `count` sources."""

    count: int
    used: int = 0

    def _fresh(self, x: _Traced) -> _Traced:
        """Add the next source's error."""
        slopes = x.slopes.copy()
        self.used += 1
        slopes[self.used] += 1.0
        return replace(x, slopes=slopes)

    def encode(self, values: Array, level: int, scale: float) -> _Traced:
        shape = (values.size, 1)
        slopes = np.zeros((self.count + 1, *shape))
        return self._fresh(_Traced(values.reshape(shape), slopes, level))

    def rotate(self, x: _Traced, steps: int) -> _Traced:
        return x

    def multiply_plain(self, x: _Traced, y: _Traced) -> _Traced:
        slopes = x.slopes * y.values + x.values * y.slopes
        return _Traced(x.values * y.values, slopes, x.level)

    def add_plain(self, x: _Traced, y: _Traced) -> _Traced:
        return self.add(x, y)

    def add(self, x: _Traced, y: _Traced) -> _Traced:
        return _Traced(x.values + y.values, x.slopes + y.slopes, x.level)

    def multiply(self, x: _Traced, y: _Traced) -> _Traced:
        return self._fresh(self.multiply_plain(x, y))

    def rescale(self, x: _Traced) -> _Traced:
        return self._fresh(replace(x, level=x.level - 1))

    def mod_switch(self, x: _Traced, level: int) -> _Traced:
        return replace(x, level=level)

    def level(self, x: _Traced) -> int:
        return x.level

    def scale(self, x: _Traced) -> float:
        return _SCALE


def sources(
    instruction: Polynomial, primes: tuple[int, ...], level: int, scale: float
) -> tuple[Source, ...]:
    """Return the steps that add errors, for an operand at `level` and `scale`."""
    backend = _Noting(primes)
    few = replace(instruction, coefficients=_columns(instruction.coefficients)[0])
    apply_polynomial(Counted(level, scale), few, 0, backend, primes, ConstantCache())
    return tuple(backend.found)


def gains(instruction: Polynomial, magnitude: float, reach: float = 1.0) -> Gains:
    """Return what becomes of errors, for arguments of that root mean square, up to `reach`."""
    coefficients, columns = _columns(instruction.coefficients)
    return _gains(coefficients.tobytes(), coefficients.shape, columns, (magnitude, reach))


@lru_cache(maxsize=1024)
def _gains(
    content: bytes, shape: tuple[int, ...], columns: int, arguments: tuple[float, float]
) -> Gains:
    coefficients = np.frombuffer(content).reshape(shape)
    depth = (len(coefficients) - 1).bit_length()
    primes = (int(_SCALE),) * (depth + 1)
    few = Polynomial(0, coefficients, _SCALE)
    count = len(sources(few, primes, depth, _SCALE))
    x = np.broadcast_to(GRID, (columns, GRID.size))
    slopes = np.zeros((count + 1, *x.shape))
    slopes[0] = 1.0
    result = apply_polynomial(
        _Traced(np.array(x), slopes, depth), few, 0, _Tracing(count), primes, ConstantCache()
    )
    squares = result.slopes**2
    magnitude, reach = arguments
    mean = (squares.mean(axis=1) @ weights(magnitude)).tolist()
    most = squares[:, :, near(reach)].max(axis=(1, 2)).tolist()
    return Gains(mean[0], most[0], tuple(mean[1:]), tuple(most[1:]))


def near(reach: float) -> NDArray[np.bool_]:
    """Return which points of the grid lie within [-reach, reach]."""
    return np.asarray(np.abs(GRID) <= max(reach, GRID[-1] - GRID[-2]), np.bool_)


def weights(magnitude: float) -> Array:
    """Return how often arguments are near each point of the grid: a Gaussian's, or all alike."""
    if magnitude >= _UNIFORM:
        return np.full(GRID.size, 1 / GRID.size)
    density = np.exp(-(GRID**2) / (2 * max(magnitude, GRID[-1] - GRID[-2]) ** 2))
    return np.asarray(density / density.sum(), np.float64)


def _columns(coefficients: Array) -> tuple[Array, int]:
    """Return coefficients as `kernels` takes them, of a few slots in use, and of how many."""
    if coefficients.ndim == 1:
        return coefficients, 1
    flat = coefficients.reshape(len(coefficients), -1)
    sizes = np.abs(flat).sum(axis=0)
    order = np.argsort(sizes)[np.count_nonzero(sizes == 0.0) :]
    if not order.size:
        order = np.zeros(1, np.int64)
    chosen = order[np.linspace(0, order.size - 1, min(order.size, COLUMNS)).round().astype(int)]
    return flat[:, None, chosen], chosen.size
