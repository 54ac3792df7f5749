"""Approximate activations: every `Activation` becomes a polynomial fitted where its inputs fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, TensorGraph
from hec.passes.advice import warn_of_error
from hec.passes.complete_quartics import feeds_narrow_layers, is_quartic_like
from hec.passes.degrees import Choices, Ladder, cheapest
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
        search = Trials(graph, few, stand_in, _limits(target, calibration))
        choices = _choices(search, layers, Prices(graph, target))
        found = cheapest(search, choices)
        warn_of_error(search, found)
        degrees = found.degrees
    trials = Trials(graph, calibration, stand_in)
    return with_sensitivities(trials, trials.trial(degrees)).finish(graph.outputs)


def _limits(target: Target, calibration: Calibration) -> Limits:
    if target.min_agreement is not None:
        return Limits(disagreement=max(1 - target.min_agreement, ALL_AGREE))
    if target.max_error is None and calibration.samples is not None:
        return Limits(DEFAULT_ERROR, DISAGREEING)
    return Limits(target.max_error or DEFAULT_ERROR)


def _choices(search: Trials, layers: Sequence[int], prices: Prices) -> Choices:
    """Return the ladders of all layers, and the errors that their fits make at the outputs."""
    graph = search.graph
    ladders = {layer: _ladder(graph, layer) for layer in layers}
    count = enough_samples(graph, len(layers))
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


def _ladder(graph: TensorGraph, position: int) -> Ladder:
    activation = graph.operations[position]
    quartic = isinstance(activation, Activation) and is_quartic_like(activation)
    return QUARTIC if quartic and feeds_narrow_layers(graph, position) else DEGREES
