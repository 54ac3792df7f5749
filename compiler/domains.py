"""Where functions have finite values, and how they continue where they have none.

A logarithm has no values below zero, 1/x is two functions with a pole between them, and beyond 709
an exponential is more than the machine's numbers hold. The branch that a network uses is the one on
which its inputs are seen; half way from there to the branch's end a function is replaced by a
straight line. So whatever fits it, wherever, meets finite values only, and encrypted inputs that
stray across the end give a result that is wrong by a finite amount.

Below that end the exponential outgrows all other values, and a fit would follow those. So beyond
its inputs it goes on along its tangent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.functions import Applied, Array, Extension, Function, is_known, step_values

POINTS: Final = 1025  # at which a branch is looked for, in the interval seen and on either side
SEARCH: Final = 8.0  # widths of the interval seen, on either side; beyond, all is straight
LARGEST: Final = 700.0  # exponent of e that is finite in double precision
KEPT: Final = 0.5  # share of the way to the branch's end on which the function is itself
HALVINGS: Final = 60  # of a step between two points, to find the end of a branch
SECANT: Final = 1e-3  # share of the interval seen over which a slope is measured
GROWTH: Final = 0.5  # beyond the largest input seen exp grows by e^0.5, then along its tangent
STEEPEST: Final = 4.0  # times the mean slope over the interval seen: what a line may have


def _where(defined: NDArray[np.bool_], number: Array | float) -> Array:
    return np.where(defined, number, np.nan)


def _power_branch(x: Array, exponent: float) -> Array:
    whole = exponent == round(exponent)
    name = ("reciprocal" if exponent < 0 else "") if whole else ("sqrt" if exponent > 0 else "log")
    with np.errstate(all="ignore"):
        return _where(np.isfinite(np.power(x, exponent)), _BRANCHES[name](x) if name else 0.0)


# The number of the branch at each point, NaN where the function has no finite value.
_BRANCHES: Final[dict[str, Callable[..., Array]]] = {
    "exp": lambda x: _where(x <= LARGEST, 0.0),
    "sinh": lambda x: _where(np.abs(x) <= LARGEST, 0.0),
    "cosh": lambda x: _where(np.abs(x) <= LARGEST, 0.0),
    "log": lambda x: _where(x > 0, 0.0),
    "sqrt": lambda x: _where(x >= 0, 0.0),
    "reciprocal": lambda x: _where(x != 0, np.sign(x)),
    "power": _power_branch,
    "tan": lambda x: np.floor(x / np.pi + 0.5),
    "asin": lambda x: _where(np.abs(x) <= 1, 0.0),
    "acos": lambda x: _where(np.abs(x) <= 1, 0.0),
    "acosh": lambda x: _where(x >= 1, 0.0),
    "atanh": lambda x: _where(np.abs(x) < 1, 0.0),
}
_EXP: Final = Function("exp")
_WORDS: Final = {
    "exp": f"needs inputs up to {LARGEST:g}",
    "sinh": f"needs inputs from -{LARGEST:g} to {LARGEST:g}",
    "cosh": f"needs inputs from -{LARGEST:g} to {LARGEST:g}",
    "log": "needs inputs above 0",
    "sqrt": "needs inputs from 0 upwards",
    "reciprocal": "needs inputs that are all above 0, or all below",
    "tan": "needs inputs between two of its poles, as from -1.5 to 1.5",
    "asin": "needs inputs from -1 to 1",
    "acos": "needs inputs from -1 to 1",
    "acosh": "needs inputs from 1 upwards",
    "atanh": "needs inputs above -1 and below 1",
}


def needs_extension(function: Function) -> bool:
    """Return whether `function` needs an extension, and has none yet."""
    return function.extension is None and is_partial(function)


def has_ends(function: Function) -> bool:
    """Return whether there are points that inputs of `function` never pass; exp just grows."""
    return is_partial(function) and function.name != _EXP.name


def is_partial(function: Function) -> bool:
    """Return whether there are numbers at which `function`, or a step, has no finite value."""
    return bool(_partial(function))


def requirement(function: Function) -> str:
    """Return in words what a partial function needs of its inputs, or of those of its steps."""
    return "; ".join(dict.fromkeys(f"{each} {_words(each)}" for each in _partial(function)))


def extended(function: Function, low: float, high: float) -> Function | None:
    """Return `function` continued beyond the branch that holds [low, high]; None if none does.

    What has a name of its own is taken by its name: it is finite where its steps overflow.
    """
    if function == _EXP:
        return _tamed(function, high + GROWTH) if high + GROWTH <= LARGEST else None
    if function.extension is not None or not is_partial(function):
        return function
    if is_known(function):
        return replace(function, steps=())
    if not np.isfinite([low, high]).all():
        return None
    width = (high - low) or abs(low) or 1.0
    branches = _branches(function, np.linspace(low, high, POINTS))
    home = branches[:, :1]
    if not (branches == home).all():
        return None
    ends = [
        start + KEPT * (_end(function, home, start, start + way) - start)
        for start, way in ((low, -SEARCH * width), (high, SEARCH * width))
    ]
    return replace(function, extension=_extension(function, (low, high), (ends[0], ends[1]), width))


def _tamed(function: Function, end: float) -> Function:
    """Return the exponential continued along its tangent beyond `end`."""
    value = float(function(np.array([end]))[0])
    return replace(function, extension=Extension(-np.inf, end, (0.0, value)))


def _extension(
    function: Function, seen: tuple[float, float], ends: tuple[float, float], width: float
) -> Extension:
    step = SECANT * width
    values = function(np.array([ends[0], ends[0] + step, ends[1] - step, ends[1]]))
    steepest = STEEPEST * float(np.ptp(function(np.linspace(*seen, POINTS)))) / width
    slopes = np.clip((values[1::2] - values[::2]) / step, -steepest, steepest)
    return Extension(ends[0], ends[1], (float(slopes[0]), float(slopes[1])))


def _end(function: Function, home: Array, start: float, far: float) -> float:
    """Return the last point on the way from `start` to `far` that lies on the branch `home`."""
    points = np.linspace(start, far, POINTS)
    outside = np.flatnonzero(~_is_at(function, home, points))
    if not outside.size:
        return far
    good, bad = float(points[outside[0] - 1]), float(points[outside[0]])
    for _ in range(HALVINGS):
        middle = (good + bad) / 2
        if _is_at(function, home, np.array([middle]))[0]:
            good = middle
        else:
            bad = middle
    return good


def _is_at(function: Function, home: Array, points: Array) -> NDArray[np.bool_]:
    return np.asarray((_branches(function, points) == home).all(axis=0))


def _branches(function: Function, x: Array) -> Array:
    """Return (steps, points): the branch of each partial step at each point of `x`."""
    if not function.steps:
        return _BRANCHES[function.name](x, *function.parameters)[None]
    with np.errstate(all="ignore"):
        values = step_values(function.steps, x)
        found = [
            _branches(step.function, values[step.operand])
            for step in function.steps
            if isinstance(step, Applied) and is_partial(step.function)
        ]
    return np.concatenate((*found, _where(np.isfinite(values[-1]), 0.0)[None]))


def _partial(function: Function) -> list[Function]:
    """Return the functions inside `function` that are not finite everywhere."""
    if not function.steps:
        return [function] if function.name in _BRANCHES else []
    inner = [step.function for step in function.steps if isinstance(step, Applied)]
    return [partial for each in inner for partial in _partial(each)]


def _words(function: Function) -> str:
    if function.name != "power":
        return _WORDS[function.name]
    (exponent,) = function.parameters
    if exponent == round(exponent):
        return _WORDS["reciprocal"] if exponent < 0 else "needs inputs whose power is finite"
    return _WORDS["sqrt" if exponent > 0 else "log"]
