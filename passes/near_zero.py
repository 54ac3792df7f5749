"""Functions that are ReLU as far as most inputs go: which of the two to fit.

Channels may have intervals of their own where the function is positively homogeneous. ReLU is;
ReLU6 is not, for it has a second kink, and one interval for all channels is as wide as the widest.
But where channels differ much, and hardly an input passes 6, ReLU with an interval for each channel
comes closer to ReLU6 than a fit of ReLU6 does. Which one does, the samples tell.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from hec.compiler.calibration import Range
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import Activation, Array
from hec.passes.intervals import TINY, by_channel, channels_of, homogeneity
from hec.passes.stand_in import StandIn
from hec.passes.trials import Maker

NEAR: Final = 0.05  # of the largest magnitude seen: up to there the two functions are equal
HARDLY: Final = 0.01  # of the largest channel, a channel that is hardly there
EQUAL: Final = 1e-6  # of that, by how much they may differ: constants are float32's


def relu_near_zero(function: Function, largest: float) -> Function | None:
    """Return the ReLU, leaky or not, that `function` is near zero; None if it is none, or is it.

    `largest` is the magnitude up to which inputs go. Only a slope of 1 above zero is looked for.
    """
    if homogeneity(function) is not None or not largest > 0:
        return None
    x = NEAR * largest * np.linspace(-1.0, 1.0, 65)
    values = function(x)
    leak = float(values[0] / x[0])
    found = Function("leaky_relu", (leak,)) if abs(leak) > EQUAL else Function("relu")
    return found if np.allclose(values, found(x), rtol=0, atol=EQUAL * x[-1]) else None


def as_relu(make: Maker) -> Maker:
    """Return what makes a stand-in of the ReLU that a function is near zero, if it is near one."""

    def chosen(
        activation: Activation, operand: Range, wanted: Array | None, degree: int, margin: float
    ) -> StandIn:
        near = relu_near_zero(activation.function, operand.magnitude())
        known = operand.values is not None and wanted is not None
        taken = activation if near is None or not known else replace(activation, function=near)
        return make(taken, operand, wanted, degree, margin)

    return chosen


def closest(make: Maker) -> Maker:
    """Return what makes a stand-in of the function, or of the ReLU it is near zero.

    Of the two the one whose values are closer to those wanted, on the samples.
    """

    def chosen(
        activation: Activation, operand: Range, wanted: Array | None, degree: int, margin: float
    ) -> StandIn:
        own = make(activation, operand, wanted, degree, margin)
        if operand.values is None or wanted is None:
            return own
        if relu_near_zero(activation.function, operand.magnitude()) is None:
            return own
        relu = as_relu(make)(activation, operand, wanted, degree, margin)
        return min((own, relu), key=partial(_error, activation, operand.values, wanted))

    return chosen


def _error(activation: Activation, x: Array, wanted: Array, made: StandIn) -> float:
    """Return the mean over the channels of the square error, a share of the channel's square.

    For layers to come make small channels as large as others; but for those that are hardly there.
    """
    values = made.values(x) if made.noisy is None else made.noisy
    shape = channels_of(x, activation.shape)
    errors, sizes = (
        np.square(by_channel(each, shape)).mean(axis=1) for each in (values - wanted, wanted)
    )
    least = HARDLY**2 * sizes.max(initial=0.0) + TINY
    return float((errors / np.maximum(sizes, least)).mean())
