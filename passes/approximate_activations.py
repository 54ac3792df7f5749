"""Approximate activations: every `Activation` becomes a polynomial fitted where its inputs fall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from hec.compiler.calibration import Calibration, Range, affordable_samples
from hec.compiler.errors import warn
from hec.compiler.evaluate import evaluate
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Fit,
    Input,
    TensorGraph,
    TensorOperation,
    inputs,
    operands,
    size,
)
from hec.passes.complete_quartics import feeds_narrow_layers, is_quartic_like
from hec.passes.rewriting import Rebuilt, with_operands
from hec.passes.stand_in import stand_in

DEGREES = (2, 3, 7, 15, 31)  # the largest for 1, 2, 3, 4, 5 levels
QUARTIC = (2, 4, 7, 15, 31)  # where `complete_quartics` gives degree 4 for 2 levels
DEFAULT_ERROR = 0.09  # share of the outputs' rms; measured: MNIST networks agree on 98.8 % or more
DISAGREEING = 0.01  # share of samples whose largest output may become another, by default
SEARCH_MULTIPLICATIONS = 10_000_000_000  # spent on choosing degrees: half a minute
SYNTHETIC_SAMPLES = 64  # uniform inputs that stand for calibration data in the search

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
        few = _affordable(graph, calibration, SEARCH_MULTIPLICATIONS // (5 + 3 * len(layers)))
        limits = _Limits(target.max_error or DEFAULT_ERROR)
        if target.max_error is None and calibration.samples is not None:
            limits = _Limits(DEFAULT_ERROR, DISAGREEING)
        degrees = _degrees(_Search(graph, few, limits), ladders)
    return _Search(graph, calibration).trial(degrees).rebuilt.finish(graph.outputs)


@dataclass(frozen=True)
class _Limits:
    """What stand-ins may do to the outputs."""

    error: float = np.inf  # root mean square, as a share of the output's
    disagreement: float = np.inf  # share of samples whose largest output is another


@dataclass
class _Trial:
    """The network with stand-ins of some degrees, and its values on the samples."""

    degrees: Mapping[int, int]
    rebuilt: Rebuilt = field(default_factory=Rebuilt)
    values: list[Array] = field(default_factory=list)  # of the old graph's operations
    excess: float = 0.0  # largest use of a limit: at most 1 where all are kept


NO_LIMITS = _Limits()


class _Search:
    """Builds and measures trials; values before the first changed layer are taken over."""

    def __init__(
        self, graph: TensorGraph, calibration: Calibration, limits: _Limits = NO_LIMITS
    ) -> None:
        self.graph = graph
        self.limits = limits
        self.calibration = calibration
        self.samples = calibration.samples or _synthetic(graph, calibration)
        self.exact = evaluate(graph, self.samples)

    def trial(self, degrees: Mapping[int, int], known: _Trial | None = None) -> _Trial:
        """Return the network with a stand-in of the given degree for each activation."""
        trial = _Trial(degrees)
        start = 0
        if known is not None:
            start = min(i for i in degrees if degrees[i] != known.degrees[i])
            self._take_over(known, start, trial)
        for position in range(start, len(self.graph.operations)):
            self._append(trial, position)
        trial.excess = self._excess(trial)
        return trial

    def _take_over(self, known: _Trial, start: int, trial: _Trial) -> None:
        trial.values = known.values[:start]
        kept = known.rebuilt.positions
        trial.rebuilt.positions = {i: kept[i] for i in range(start)}
        count = max(trial.rebuilt.positions.values(), default=-1) + 1
        trial.rebuilt.operations = known.rebuilt.operations[:count]

    def _append(self, trial: _Trial, position: int) -> None:
        operation = self.graph.operations[position]
        if isinstance(operation, Activation):
            self._append_stand_in(trial, position, operation)
            return
        trial.rebuilt.keep(position, operation)
        if isinstance(operation, Input):
            trial.values.append(self.exact[position])
        else:
            trial.values.append(_value(operation, trial.values))

    def _append_stand_in(self, trial: _Trial, position: int, activation: Activation) -> None:
        rebuilt, x = trial.rebuilt, trial.values[activation.operand]
        operand = rebuilt.positions[activation.operand]
        seen = Range(x.min(axis=0), x.max(axis=0), x)
        wanted: Array | None = self.exact[position]
        degree = trial.degrees[position]
        if self.calibration.samples is None:
            prefix = TensorGraph(tuple(rebuilt.operations), ())
            fitted, wanted = self.calibration.ranges(prefix)[operand], None
        else:
            fitted = seen
        poly = stand_in(activation, fitted, wanted, degree, self.calibration.margin)
        y = poly.values(x)
        trial.values.append(y)
        fit = Fit(
            str(activation.function),
            degree,
            fitted.interval(self.calibration.margin),
            seen.interval(),
            float(np.sqrt(np.mean((y - self.exact[position]) ** 2))),
        )
        for step in poly.operations(activation, operand, len(rebuilt.operations), fit):
            rebuilt.positions[position] = rebuilt.add(step)

    def error(self, trial: _Trial) -> float:
        """Return the largest error of an output: root mean square, over that of the output."""
        errors = [0.0]
        for output in self.graph.outputs:
            exact = self.exact[output.operand]
            error = np.sqrt(np.mean((trial.values[output.operand] - exact) ** 2))
            errors.append(float(error / (np.sqrt(np.mean(exact**2)) or 1.0)))
        return max(errors) if np.isfinite(errors).all() else np.inf

    def _excess(self, trial: _Trial) -> float:
        shares = [self.error(trial) / self.limits.error]
        for output in self.graph.outputs:
            exact, found = self.exact[output.operand], trial.values[output.operand]
            if exact.shape[1] > 1:
                disagreeing = np.mean(exact.argmax(axis=1) != found.argmax(axis=1))
                shares.append(float(disagreeing) / self.limits.disagreement)
        return max(shares)


def _ladder(graph: TensorGraph, position: int) -> Ladder:
    activation = graph.operations[position]
    quartic = isinstance(activation, Activation) and is_quartic_like(activation)
    return QUARTIC if quartic and feeds_narrow_layers(graph, position) else DEGREES


def _degrees(search: _Search, ladders: Mapping[int, Ladder]) -> Mapping[int, int]:
    """Return the degree of every layer: the fewest levels found that keep all limits."""
    best = _Trial({}, excess=np.inf)
    for step in range(len(DEGREES)):
        trial = search.trial({layer: ladder[step] for layer, ladder in ladders.items()})
        best = trial if step == 0 or trial.excess < best.excess else best
        if trial.excess <= 1:
            return _lowered(search, trial, ladders).degrees
    error, limit = search.error(best), search.limits.error
    if error <= limit:
        return best.degrees  # a few samples are too close between two classes to tell
    warn(
        f"fitted activations change the outputs by {error:.3g} of their root mean square, "
        f"more than the {limit:g} asked for",
        f"{len(ladders)} activations, of degree {max(best.degrees.values())} at most",
        "raise --max-error, calibrate on more samples, or train with smaller activation ranges",
    )
    return best.degrees


def _lowered(search: _Search, trial: _Trial, ladders: Mapping[int, Ladder]) -> _Trial:
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


def _value(operation: TensorOperation, values: list[Array]) -> Array:
    """Evaluate one operation on values known for its operands."""
    sources = tuple(dict.fromkeys(operands(operation)))
    known = {str(source): values[source] for source in sources}
    stubs = tuple(Input(name, value.shape[1:]) for name, value in known.items())
    graph = TensorGraph((*stubs, with_operands(operation, sources.index)), ())
    return evaluate(graph, known or {"": values[0]})[-1]


def _affordable(graph: TensorGraph, calibration: Calibration, budget: int) -> Calibration:
    if calibration.samples is None:
        return calibration
    limit = affordable_samples(graph, budget)
    kept = {name: values[:limit] for name, values in calibration.samples.items()}
    return replace(calibration, samples=kept)


def _synthetic(graph: TensorGraph, calibration: Calibration) -> dict[str, Array]:
    random = np.random.default_rng(0)
    low, high = calibration.input_range
    return {
        operation.name: random.uniform(low, high, (SYNTHETIC_SAMPLES, size(operation)))
        for _, operation in inputs(graph)
    }
