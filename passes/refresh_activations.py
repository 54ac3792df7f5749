"""Refresh activations: every `Activation` becomes a bootstrap that evaluates it."""

from __future__ import annotations

from typing import Final

import numpy as np

from hec.compiler import fourier
from hec.compiler.bootstrapping import DEGREES
from hec.compiler.calibration import Calibration
from hec.compiler.errors import fail
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Array, TensorGraph
from hec.passes.advice import warn_of_error
from hec.passes.near_zero import as_relu, relu_near_zero
from hec.passes.series_stand_in import series_stand_in
from hec.passes.trials import (
    ALL_AGREE,
    DISAGREEING,
    Limits,
    Maker,
    Trials,
    with_portraits,
)

ERROR: Final = 0.035  # of fits at the outputs, share of their rms, by default; measured below
SMOOTH: Final = 1e-3  # largest error of a fit, share of the function's range, to try the lowest


def refresh_activations(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace each `Activation` by scaling, a `Bootstrap` with its series, and an affine step.

    Layers are fitted in order, each on inputs as the approximated network gives them, with `NOISE`,
    towards the exact activation's outputs. All have one degree: the depth of a context follows from
    the highest, and a lower one beside it saves nothing. It is the lowest that meets the target of
    `approximate_activations` at the outputs; `Target.degree` forces one.

    Source: measured: docs/design/005-functional-bootstraps.md.
    Cost: one evaluation of the graph, and another for each degree tried.
    """
    layers = [i for i, op in enumerate(graph.operations) if isinstance(op, Activation)]
    if not layers:
        return graph
    forced = None if target.degree is None else (_forced(target.degree),)
    trials = Trials(graph, calibration, series_stand_in, _limits(target, calibration))
    degrees = forced or _degrees(trials, layers)
    makers: list[Maker] = [series_stand_in]
    if any(_is_near_relu(trials, layer) for layer in layers):
        makers.append(as_relu(series_stand_in))
    best = trials.lowest((dict.fromkeys(layers, degree) for degree in degrees), makers)
    warn_of_error(trials, best)
    return with_portraits(trials, best).finish(graph.outputs)


def _is_near_relu(trials: Trials, layer: int) -> bool:
    activation = trials.graph.operations[layer]
    if not isinstance(activation, Activation):
        return False
    largest = float(np.abs(trials.exact[activation.operand]).max())
    return relu_near_zero(activation.function, largest) is not None


def _limits(target: Target, calibration: Calibration) -> Limits:
    if target.degree is not None:
        return Limits()
    if target.max_error is not None or calibration.samples is None:
        return Limits(target.max_error or ERROR)
    if target.min_agreement is not None:
        return Limits(disagreement=max(1 - target.min_agreement, ALL_AGREE))
    count = len(next(iter(calibration.samples.values())))
    return Limits(ERROR, max(DISAGREEING, 1 / count))  # one sample may always be close


def _forced(degree: int) -> int:
    if degree not in DEGREES:
        raise fail(
            f"no bootstrap evaluates a series of degree {degree}",
            f"--degree {degree}",
            f"use one of {', '.join(map(str, DEGREES))}",
        )
    return degree


def _degrees(trials: Trials, layers: list[int]) -> tuple[int, ...]:
    """Return the degrees worth trying: the lowest only where every function is smooth."""
    for layer in layers:
        activation = trials.graph.operations[layer]
        if isinstance(activation, Activation):
            x = trials.exact[activation.operand]
            if not _is_smooth(activation.function, float(x.min()), float(x.max())):
                return DEGREES[1:]
    return DEGREES


def _is_smooth(function: Function, low: float, high: float) -> bool:
    def scaled(x: Array) -> Array:
        return function((low + high) / 2 + (high - low) * x)

    x = np.linspace(-0.5, 0.5, fourier.GRID)
    wanted = scaled(x)
    error = np.abs(fourier.series(fourier.fitted(scaled, DEGREES[0]), x) - wanted).max()
    return bool(error <= SMOOTH * np.ptp(wanted))
