"""Approximate activations: every `Activation` becomes a polynomial fitted where its inputs fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hec.compiler.calibration import Calibration, Range
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Polynomial, TensorGraph
from hec.passes.advice import warn_of_error
from hec.passes.complete_quartics import feeds_narrow_layers, is_completable, is_quartic_like
from hec.passes.degrees import Choices, Ladder, cheapest
from hec.passes.near_zero import closest
from hec.passes.prices import Prices
from hec.passes.sensitivities import enough_samples
from hec.passes.stand_in import stand_in
from hec.passes.trials import (
    ALL_AGREE,
    DEFAULT_ERROR,
    DISAGREEING,
    Limits,
    Trials,
    affordable,
    with_sensitivities,
)

DEGREES = (2, 3, 7, 15, 31)  # the largest for 1, 2, 3, 4, 5 levels
QUARTIC = (2, 4, 7, 15, 31)  # where `complete_quartics` gives degree 4 for 2 levels
PROBE = 7  # degree of the fit whose error at the outputs tells the sensitivity of a layer
SEARCH_MULTIPLICATIONS = 10_000_000_000  # spent on choosing degrees: half a minute


def approximate_activations(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace each `Activation` by scaling, a Chebyshev `Polynomial`, and an affine correction.

    Layers are fitted in order, each on inputs as the approximated network gives them, towards the
    exact activation's outputs, so that later layers correct earlier errors. Degrees: those with
    the least predicted seconds that meet the target at the outputs. The target is
    `Target.max_error` or `Target.min_agreement`; without either, `DEFAULT_ERROR` and the same
    largest output for all but `DISAGREEING` of the samples. `Target.degree` forces one degree.

    Source: algorithms.md, 7 (OLA's per-layer degrees). Cost: about 6 + 2 * layers evaluations of
    the graph, on as many samples as `SEARCH_MULTIPLICATIONS` affords, and 5 fits of each layer.
    """
    layers = [i for i, op in enumerate(graph.operations) if isinstance(op, Activation)]
    if not layers:
        return graph
    degrees: Mapping[int, int] = dict.fromkeys(layers, target.degree or 0)
    if target.degree is None:
        few = affordable(graph, calibration, SEARCH_MULTIPLICATIONS // (5 + 3 * len(layers)))
        search = Trials(graph, few, closest(stand_in), _limits(target, calibration))
        choices = _choices(search, layers, Prices(graph, target))
        found = cheapest(search, choices)
        warn_of_error(search, found)
        degrees = found.degrees
    trials = Trials(graph, calibration, closest(stand_in))
    return with_sensitivities(trials, trials.trial(degrees)).finish(graph.outputs)


def _limits(target: Target, calibration: Calibration) -> Limits:
    if target.min_agreement is not None:
        return Limits(disagreement=max(1 - target.min_agreement, ALL_AGREE))
    if target.max_error is None and calibration.samples is not None:
        count = len(next(iter(calibration.samples.values())))
        return Limits(DEFAULT_ERROR, max(DISAGREEING - 1 / count, ALL_AGREE))  # one to come
    return Limits(target.max_error or DEFAULT_ERROR)


def _choices(search: Trials, layers: Sequence[int], prices: Prices) -> Choices:
    """Return the ladders of all layers, and the errors that their fits make at the outputs."""
    ladders = {layer: _ladder(search, layer) for layer in layers}
    count = enough_samples(search.graph, len(layers))
    errors = dict[int, dict[int, float]]()
    for layer, ladder in ladders.items():
        fits = {degree: search.alone(layer, degree)[1] for degree in ladder}
        ratio = search.sensitivity(layer, fits[PROBE][:count]).ratio
        exact = search.exact[layer]
        errors[layer] = {
            degree: ratio * float(np.sqrt(np.mean((values - exact[: len(values)]) ** 2)))
            for degree, values in fits.items()
        }
    return Choices(ladders, errors, prices)


def _ladder(search: Trials, position: int) -> Ladder:
    """Return the degrees to choose from: 4 where its fit becomes two squares, else 3."""
    activation = search.graph.operations[position]
    if not isinstance(activation, Activation) or not is_quartic_like(activation):
        return DEGREES
    if not feeds_narrow_layers(search.graph, position):
        return DEGREES
    made, _ = search.alone(position, QUARTIC[1])
    t = made.scale * search.exact[activation.operand] + made.shift
    quartic = Polynomial(0, made.coefficients, "chebyshev", activation.shape)
    return QUARTIC if is_completable(quartic, Range(t.min(axis=0), t.max(axis=0), t)) else DEGREES
