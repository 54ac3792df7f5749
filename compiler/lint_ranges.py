"""What wide ranges cost: the degree that a function needs on them, against narrower ones.

A polynomial is fitted on the whole interval of a function's inputs, so that a few stray values cost
all others. A saturating function is the harder, the wider its inputs are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from hec.compiler import approximation
from hec.compiler.findings import Finding, Price, Subject, nonlinear
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array
from hec.compiler.typing_rules import polynomial_depth
from hec.passes.approximate_activations import DEGREES
from hec.passes.trials import DEFAULT_ERROR

_CORE: Final = 0.999  # share of the values that a trimmed interval keeps
_LARGEST: Final = 1e100  # value whose square is a number still
_NARROWER: Final = 0.5  # factor of the inputs that is tried


def unknown_ranges(subject: Subject) -> Iterator[Finding]:
    """Say that nothing is known of ranges without samples."""
    fitted = any(isinstance(x, Activation) for _, x in nonlinear(subject.fused))
    if fitted and subject.calibration.samples is None:
        yield Finding(
            "ranges-unknown",
            "note",
            "how wide the inputs of activations are is not known, nor what that costs",
            subject.survey.model.name,
            "give --calibration with a few hundred real inputs",
        )


def wide_ranges(subject: Subject) -> Iterator[Finding]:
    """Functions of a leveled program whose degree follows from a wide range, by the samples."""
    if subject.calibration.samples is None or subject.refreshes:
        return
    for _, operation in nonlinear(subject.fused):
        if not isinstance(operation, Activation):
            continue
        values = subject.ranges[operation.operand].values
        if values is None or not np.abs(values).max() < _LARGEST or not np.ptp(values):
            continue
        finding = _wide(subject, operation, values.reshape(-1))
        if finding is not None:
            yield finding


def _wide(subject: Subject, operation: Activation, x: Array) -> Finding | None:
    function = operation.function
    low, high = np.quantile(x, [(1 - _CORE) / 2, (1 + _CORE) / 2])
    core = x[(x >= low) & (x <= high)]
    if not np.ptp(core):
        return None
    needed, trimmed = _degree(function, x, core), _degree(function, core, core)
    halved = _degree(function, _NARROWER * x, _NARROWER * core)
    spared = polynomial_depth(needed) - polynomial_depth(min(trimmed, halved))
    if spared < 1:
        return None
    where = f"the inputs of {function} lie in [{x.min():.3g}, {x.max():.3g}]"
    if trimmed <= halved:
        where += f", {100 * _CORE:g} % of them in [{low:.3g}, {high:.3g}]"
        advice = "regularise the layer before, or limit its outputs in training"
    else:
        advice = "inputs half as wide would do with a lower degree: normalise before the function"
    return Finding(
        "wide-range",
        "costly",
        f"{where}: degree {needed} instead of {min(trimmed, halved)}",
        subject.place(operation),
        advice,
        Price(levels=spared),
    )


def _degree(function: Function, x: Array, core: Array) -> int:
    """Return the lowest degree that is exact enough for `core`, fitted where all of `x` lies.

    The error is measured against the deviation of the outputs, so that a constant counts nothing.
    """
    centre, radius = (x.min() + x.max()) / 2, np.ptp(x) / 2
    density = approximation.histogram((x - centre) / radius, function(x))
    targets = function(centre + radius * approximation.grid())
    judged = approximation.histogram((core - centre) / radius, function(core))
    mean = float(judged.wanted @ judged.weight)
    limit = DEFAULT_ERROR**2 * float((judged.wanted - mean) ** 2 @ judged.weight)
    for degree in DEGREES[:-1]:
        coefficients = approximation.fit(targets, density, degree)
        error = np.polynomial.chebyshev.chebval(judged.t, coefficients) - judged.wanted
        if float(error**2 @ judged.weight) <= limit:
            return degree
    return DEGREES[-1]
