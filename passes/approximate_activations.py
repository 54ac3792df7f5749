"""Approximate activations: every `Activation` becomes a polynomial fitted where its inputs fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, TensorGraph
from hec.passes.complete_quartics import feeds_narrow_layers, is_quartic_like
from hec.passes.stand_in import stand_in
from hec.passes.trials import DEFAULT_ERROR, DISAGREEING, Limits, Trial, Trials, affordable

DEGREES = (2, 3, 7, 15, 31)  # the largest for 1, 2, 3, 4, 5 levels
QUARTIC = (2, 4, 7, 15, 31)  # where `complete_quartics` gives degree 4 for 2 levels
SEARCH_MULTIPLICATIONS = 10_000_000_000  # spent on choosing degrees: half a minute

Ladder: TypeAlias = tuple[int, ...]  # the degrees a layer may have, one for each number of levels


def approximate_activations(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace each `Activation` by scaling, a Chebyshev `Polynomial`, and an affine correction.

    Layers are fitted in order, each on inputs as the approximated network gives them, towards the
    exact activation's outputs, so that later layers correct earlier errors. Degrees: the lowest
    for all alike that meets the target at the outputs, then lowered layer by layer, least harm
    first, while the target holds. The target is `Target.max_error`; without it `DEFAULT_ERROR`, and
    the same largest output for all but `DISAGREEING` of the samples. `Target.degree` forces one
    degree.

    Source: algorithms.md, 7 (OLA's per-layer degrees). Cost: about 5 + 3 * layers evaluations of
    the graph, on as many samples as `SEARCH_MULTIPLICATIONS` affords.
    """
    layers = [i for i, op in enumerate(graph.operations) if isinstance(op, Activation)]
    if not layers:
        return graph
    degrees: Mapping[int, int]
    if target.degree is not None:
        degrees = dict.fromkeys(layers, target.degree)
    else:
        ladders = {i: _ladder(graph, i) for i in layers}
        few = affordable(graph, calibration, SEARCH_MULTIPLICATIONS // (5 + 3 * len(layers)))
        limits = Limits(target.max_error or DEFAULT_ERROR)
        if target.max_error is None and calibration.samples is not None:
            limits = Limits(DEFAULT_ERROR, DISAGREEING)
        search = Trials(graph, few, stand_in, limits)
        uniform = [{i: ladders[i][step] for i in layers} for step in range(len(DEGREES))]
        best = search.lowest(uniform)
        degrees = (_lowered(search, best, ladders) if best.excess <= 1 else best).degrees
    return Trials(graph, calibration, stand_in).trial(degrees).rebuilt.finish(graph.outputs)


def _ladder(graph: TensorGraph, position: int) -> Ladder:
    activation = graph.operations[position]
    quartic = isinstance(activation, Activation) and is_quartic_like(activation)
    return QUARTIC if quartic and feeds_narrow_layers(graph, position) else DEGREES


def _lowered(search: Trials, trial: Trial, ladders: Mapping[int, Ladder]) -> Trial:
    """Lower layers' degrees one step each, the least harmful first, until none can be lowered."""
    while True:
        before = trial
        harms = []
        for layer, degree in before.degrees.items():
            if degree > ladders[layer][0]:
                lower = ladders[layer][ladders[layer].index(degree) - 1]
                excess = search.trial({**before.degrees, layer: lower}, before).excess
                harms.append((excess, layer, lower))
        for excess, layer, lower in sorted(harms):
            if excess <= 1:
                lowered = search.trial({**trial.degrees, layer: lower}, trial)
                trial = lowered if lowered.excess <= 1 else trial
        if trial is before:
            return trial
