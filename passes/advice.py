"""Advice: where fitted activations are not exact enough, what fine-tuning would change, computed.

The activation that does most harm is fitted again as it would be after fine-tuning: with its inputs
kept where nearly all of them are already, and with a smooth function in its place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from hec.compiler.calibration import Range
from hec.compiler.errors import warn
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array
from hec.passes.sensitivities import enough_samples
from hec.passes.trials import ALL_AGREE, FEWEST, Trial, Trials, classes_changed

KEPT: Final = 0.99  # of the inputs stay as they are, where the range is made narrower
WORTH: Final = 0.8  # a change is told if no more than this share of the error is left
SMOOTH: Final = Function("silu")  # what takes the place of an activation


def warn_of_error(trials: Trials, found: Trial) -> None:
    """Warn if the outputs of `found` are less exact than was asked for, and say what would help.

    Where an error was asked for, classes that differ are no reason: a few samples are too close
    between two classes to tell.
    """
    error, limits = trials.error(found), trials.limits
    changed = classes_changed(trials, found)
    if error > limits.error:
        message = (
            f"fitted activations change the outputs by {error:.3g} of their root mean square, "
            f"more than the {limits.error:g} asked for"
        )
        option = "raise --max-error"
    elif np.isinf(limits.error) and changed > limits.disagreement:
        allowed = limits.disagreement if limits.disagreement > ALL_AGREE else 0.0
        message = (
            f"fitted activations change the top-1 of {100 * changed:.3g} % of the samples, "
            f"more than the {100 * allowed:.3g} % allowed"
        )
        option = "lower --min-agreement"
    else:
        return
    count, degree = len(found.degrees), max(found.degrees.values())
    place = f"{count} activation{'s' if count > 1 else ''}, of degree {degree} at most"
    warn(
        message,
        place,
        f"{option}, calibrate on more samples, or fine-tune: {advice(trials, found)}",
    )


def advice(trials: Trials, found: Trial) -> str:
    """Return which activation does most harm, and what would change that."""
    harms = {position: _harm(trials, position, found) for position in found.made}
    worst = max(harms, key=lambda position: harms[position][0])
    harm, ratio = harms[worst]
    activation = trials.graph.operations[worst]
    if not isinstance(activation, Activation):
        return "train with smaller activation ranges"
    x = trials.exact[activation.operand][: max(FEWEST, enough_samples(trials.graph, len(harms)))]
    interval = found.made[worst].interval
    name = " + ".join(activation.origin) or f"operation {worst}"
    told = [
        f"'{name}' ({activation.function} on {_text(interval)}) alone changes them by {harm:.3g}"
    ]
    if trials.calibration.samples is not None:
        low, high = (float(end) for end in np.quantile(x, ((1 - KEPT) / 2, (1 + KEPT) / 2)))
        degree = found.degrees[worst]
        narrow = ratio * _fit_error(trials, activation, np.clip(x, low, high), degree)
        if narrow <= WORTH * harm:
            range_ = f"{_text((low, high))}, where {100 * KEPT:.0f} % of them are"
            told.append(f"with its inputs kept in {range_}, by {narrow:.3g}")
        smooth = ratio * _fit_error(trials, replace(activation, function=SMOOTH), x, degree)
        if smooth <= WORTH * harm:
            told.append(f"with {SMOOTH} in its place, by {smooth:.3g}")
    return "; ".join(told)


def _harm(trials: Trials, position: int, found: Trial) -> tuple[float, float]:
    """Return what the fit of one activation alone does to the outputs, and for each unit of it."""
    activation = trials.graph.operations[position]
    if not isinstance(activation, Activation):
        return 0.0, 0.0
    count = enough_samples(trials.graph, len(found.made))
    values = found.made[position].values(trials.exact[activation.operand][:count])
    alone = trials.sensitivity(position, values)
    return alone.output_error, alone.ratio


def _fit_error(trials: Trials, activation: Activation, x: Array, degree: int) -> float:
    """Return the root mean square error of a fit to inputs `x`, (samples, elements)."""
    wanted, seen = activation.function(x), Range(x.min(axis=0), x.max(axis=0), x)
    made = trials.make(activation, seen, wanted, degree, trials.calibration.margin)
    return float(np.sqrt(np.mean((made.values(x) - wanted) ** 2)))


def _text(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.3g}, {ends[1]:.3g}]"
