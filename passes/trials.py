"""Trials: the network with stand-ins for its activations, built and measured on samples.

Layers are fitted in order, each on inputs as the approximated network gives them, towards the
exact activation's outputs, so that later layers correct earlier errors.

Source: algorithms.md, 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hec.compiler.calibration import Calibration, Range, affordable_samples
from hec.compiler.errors import InvalidProgram
from hec.compiler.evaluate import evaluate
from hec.compiler.goals import tells_class
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Fit,
    Input,
    Multiply,
    Polynomial,
    TensorGraph,
    inputs,
    operands,
    size,
)
from hec.passes.rewriting import Rebuilt
from hec.passes.sensitivities import (
    Sensitivity,
    enough_samples,
    output_error,
    sensitivity,
    value_of,
)
from hec.passes.stand_in import StandIn

DEFAULT_ERROR = 0.09  # share of the outputs' rms; measured: MNIST networks agree on 98.8 % or more
DISAGREEING = 0.01  # share of samples whose largest output may become another, by default
ALL_AGREE = 1e-9  # of the samples may disagree where none may: a limit to divide by
ALONE_VALUES = 1_000_000  # of one activation, on which its fit alone is judged
FEWEST = 128  # samples for that, where there are as many
SYNTHETIC_SAMPLES = 64  # uniform inputs that stand for calibration data in the search

# From the activation, where its inputs are, the outputs wanted, degree, margin.
Maker: TypeAlias = Callable[[Activation, Range, Array | None, int, float], StandIn]


@dataclass(frozen=True)
class Limits:
    """What stand-ins may do to the outputs."""

    error: float = np.inf  # root mean square, as a share of the output's
    disagreement: float = np.inf  # share of samples whose largest output is another


@dataclass
class Trial:
    """The network with stand-ins of some degrees, and its values on the samples."""

    degrees: Mapping[int, int]
    rebuilt: Rebuilt = field(default_factory=Rebuilt)
    values: list[Array] = field(default_factory=list)  # of the old graph's operations
    made: dict[int, StandIn] = field(default_factory=dict)  # by the activation's old position
    places: dict[int, int] = field(default_factory=dict)  # of its polynomial or series, likewise
    excess: float = 0.0  # largest use of a limit: at most 1 where all are kept


NO_LIMITS = Limits()


class Trials:
    """Builds and measures trials; values before the first changed layer are taken over."""

    def __init__(
        self,
        graph: TensorGraph,
        calibration: Calibration,
        make: Maker,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.graph = graph
        self.limits = limits
        self.make = make
        self.calibration = calibration
        self.samples = calibration.samples or _synthetic(graph, calibration)
        self.exact = evaluate(graph, self.samples)
        products = (op for op in graph.operations if isinstance(op, Multiply))
        self.multiplied = {source for product in products for source in operands(product)}

    def trial(self, degrees: Mapping[int, int], known: Trial | None = None) -> Trial:
        """Return the network with a stand-in of the given degree for each activation."""
        trial = Trial(degrees)
        start = 0
        if known is not None:
            changed = (i for i in degrees if degrees[i] != known.degrees[i])
            start = min(changed, default=len(self.graph.operations))
            self._take_over(known, start, trial)
        for position in range(start, len(self.graph.operations)):
            self._append(trial, position)
        trial.excess = self._excess(trial)
        return trial

    def _take_over(self, known: Trial, start: int, trial: Trial) -> None:
        trial.values = known.values[:start]
        kept = known.rebuilt.positions
        trial.rebuilt.positions = {i: kept[i] for i in range(start)}
        count = max(trial.rebuilt.positions.values(), default=-1) + 1
        trial.rebuilt.operations = known.rebuilt.operations[:count]
        trial.made = {i: made for i, made in known.made.items() if i < start}
        trial.places = {i: place for i, place in known.places.items() if i < start}

    def _append(self, trial: Trial, position: int) -> None:
        operation = self.graph.operations[position]
        if isinstance(operation, Activation):
            self._append_stand_in(trial, position, operation)
            return
        trial.rebuilt.keep(position, operation)
        if isinstance(operation, Input):
            trial.values.append(self.exact[position])
        else:
            known = {i: trial.values[i] for i in operands(operation)}
            trial.values.append(value_of(operation, known, len(self.exact[0])))

    def _append_stand_in(self, trial: Trial, position: int, activation: Activation) -> None:
        rebuilt, x = trial.rebuilt, trial.values[activation.operand]
        operand = rebuilt.positions[activation.operand]
        seen = Range(x.min(axis=0), x.max(axis=0), x)
        wanted: Array | None = self.exact[position]
        degree = trial.degrees[position]
        fitted = seen
        if self.calibration.samples is None:
            prefix = TensorGraph(tuple(rebuilt.operations), ())
            fitted, wanted = self.calibration.ranges(prefix)[operand], None
        made = self.make(activation, fitted, wanted, degree, self.calibration.margin)
        if position in self.multiplied:
            made = made.without_layer()
        trial.made[position] = made
        y = made.values(x) if made.noisy is None else made.noisy
        trial.values.append(y)
        error = float(np.sqrt(np.mean((y - self.exact[position]) ** 2)))
        name, observed = str(activation.function), seen.interval()
        fit = Fit(
            name, degree, made.interval, observed, error, made.tail, made.bounded, made.radius
        )
        trial.places[position] = len(rebuilt.operations) + 1  # after the scaling
        for step in made.operations(activation, operand, len(rebuilt.operations), fit):
            rebuilt.positions[position] = rebuilt.add(step)

    def lowest(
        self, candidates: Iterable[Mapping[int, int]], makers: Sequence[Maker] = ()
    ) -> Trial:
        """Return the first trial that keeps all limits, else the one that comes nearest.

        Of several makers the one that comes nearest with the same degrees; it is the one to stay.
        """
        found = list[tuple[float, float, Maker, Trial]]()
        for degrees in candidates:
            for make in makers or (self.make,):
                self.make = make
                trial = self.trial(degrees)
                found.append((trial.excess, self.error(trial), make, trial))
            found = [min(found, key=lambda each: each[:2])]
            if found[0][0] <= 1:
                break
        if not found:
            raise InvalidProgram("trials: there is nothing to try")
        _, _, self.make, best = found[0]
        return best

    def error(self, trial: Trial) -> float:
        """Return the largest error of an output: root mean square, over that of the output."""
        read = [output.operand for output in self.graph.outputs]
        exact = {i: self.exact[i] for i in read}
        return output_error({i: trial.values[i] for i in read}, exact, read)

    def alone(self, position: int, degree: int) -> tuple[StandIn, Array]:
        """Return the stand-in of one activation whose inputs are exact, and its values there.

        On as many of the samples as `ALONE_VALUES` are, `FEWEST` at least.
        """
        activation = self.graph.operations[position]
        if not isinstance(activation, Activation):
            raise InvalidProgram(f"trials: operation {position} is no activation")
        count = max(FEWEST, ALONE_VALUES // size(activation))
        x, wanted = self.exact[activation.operand][:count], self.exact[position][:count]
        seen, known = Range(x.min(axis=0), x.max(axis=0), x), self.calibration.samples is not None
        if not known:
            seen = self._sound_ranges[activation.operand]
        margin = self.calibration.margin
        made = self.make(activation, seen, wanted if known else None, degree, margin)
        return made, made.values(x)

    @cached_property
    def _sound_ranges(self) -> list[Range]:
        return self.calibration.ranges(self.graph)

    def sensitivity(self, position: int, values: Array) -> Sensitivity:
        """Return what happens if one activation has `values` on the first samples."""
        return sensitivity(self.graph, self.exact, position, values)

    def _excess(self, trial: Trial) -> float:
        changed = classes_changed(self, trial) / self.limits.disagreement
        return max(self.error(trial) / self.limits.error, changed)


def classes_changed(trials: Trials, trial: Trial) -> float:
    """Return the largest share of samples, over the outputs that tell a class, with another one."""
    shares = [0.0]
    for output in trials.graph.outputs:
        if tells_class(trials.graph, output):
            exact = classes(trials.exact[output.operand])
            shares.append(float(np.mean(exact != classes(trial.values[output.operand]))))
    return max(shares)


def with_sensitivities(trials: Trials, trial: Trial) -> Rebuilt:
    """Return the graph of `trial`, its fits with what their errors alone do to the outputs."""
    operations = trial.rebuilt.operations
    count = enough_samples(trials.graph, len(trial.made))
    for position, made in trial.made.items():
        (operand,) = operands(trials.graph.operations[position])
        x = trials.exact[operand][:count]
        found = trials.sensitivity(position, made.values(x))
        core = trial.places[position]
        operation = operations[core]
        if isinstance(operation, Polynomial | Bootstrap) and operation.fit is not None:
            fit = replace(operation.fit, sensitivity=found.ratio, at_outputs=found.output_error)
            operations[core] = replace(operation, fit=fit)
    return trial.rebuilt


def classes(values: Array) -> NDArray[np.int64]:
    """Return the class of each sample, (samples, elements); one number alone is a logit."""
    if values.shape[1] > 1:
        return np.asarray(values.argmax(axis=1), np.int64)
    return np.asarray(values[:, 0] > 0, np.int64)


def affordable(graph: TensorGraph, calibration: Calibration, budget: int) -> Calibration:
    """Return the calibration with as many samples as `budget` multiplications pay for."""
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
