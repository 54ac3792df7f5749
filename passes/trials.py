"""Trials: the network with stand-ins for its activations, built and measured on samples.

Layers are fitted in order, each on inputs as the approximated network gives them, towards the
exact activation's outputs, so that later layers correct earlier errors.

Source: algorithms.md, 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from hec.compiler.calibration import Calibration, Range, affordable_samples
from hec.compiler.errors import InvalidProgram, warn
from hec.compiler.evaluate import evaluate
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Fit,
    Input,
    Multiply,
    TensorGraph,
    TensorOperation,
    inputs,
    operands,
    size,
)
from hec.passes.rewriting import Rebuilt, with_operands
from hec.passes.stand_in import StandIn

DEFAULT_ERROR = 0.09  # share of the outputs' rms; measured: MNIST networks agree on 98.8 % or more
DISAGREEING = 0.01  # share of samples whose largest output may become another, by default
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
            start = min(i for i in degrees if degrees[i] != known.degrees[i])
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

    def _append(self, trial: Trial, position: int) -> None:
        operation = self.graph.operations[position]
        if isinstance(operation, Activation):
            self._append_stand_in(trial, position, operation)
            return
        trial.rebuilt.keep(position, operation)
        if isinstance(operation, Input):
            trial.values.append(self.exact[position])
        else:
            trial.values.append(_value(operation, trial.values))

    def _append_stand_in(self, trial: Trial, position: int, activation: Activation) -> None:
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
        made = self.make(activation, fitted, wanted, degree, self.calibration.margin)
        if position in self.multiplied:
            made = made.without_layer()
        y = made.values(x) if made.noisy is None else made.noisy
        trial.values.append(y)
        error = float(np.sqrt(np.mean((y - self.exact[position]) ** 2)))
        name, observed = str(activation.function), seen.interval()
        fit = Fit(name, degree, made.interval, observed, error, made.tail)
        for step in made.operations(activation, operand, len(rebuilt.operations), fit):
            rebuilt.positions[position] = rebuilt.add(step)

    def lowest(self, candidates: Iterable[Mapping[int, int]]) -> Trial:
        """Return the first trial that keeps all limits, else the best; warn of a large error."""
        best: Trial | None = None
        for degrees in candidates:
            trial = self.trial(degrees)
            if best is None or trial.excess < best.excess:
                best = trial
            if trial.excess <= 1:
                return trial
        if best is None:
            raise InvalidProgram("trials: there is nothing to try")
        error, limit = self.error(best), self.limits.error
        if error > limit:  # else a few samples are too close between two classes to tell
            warn(
                f"fitted activations change the outputs by {error:.3g} of their root mean square, "
                f"more than the {limit:g} asked for",
                f"{len(best.degrees)} activations, of degree {max(best.degrees.values())} at most",
                "raise --max-error, calibrate on more samples, or train with smaller activation "
                "ranges",
            )
        return best

    def error(self, trial: Trial) -> float:
        """Return the largest error of an output: root mean square, over that of the output."""
        errors = [0.0]
        for output in self.graph.outputs:
            exact = self.exact[output.operand]
            error = np.sqrt(np.mean((trial.values[output.operand] - exact) ** 2))
            errors.append(float(error / (np.sqrt(np.mean(exact**2)) or 1.0)))
        return max(errors) if np.isfinite(errors).all() else np.inf

    def _excess(self, trial: Trial) -> float:
        shares = [self.error(trial) / self.limits.error]
        for output in self.graph.outputs:
            exact, found = self.exact[output.operand], trial.values[output.operand]
            if exact.shape[1] > 1:
                disagreeing = np.mean(exact.argmax(axis=1) != found.argmax(axis=1))
                shares.append(float(disagreeing) / self.limits.disagreement)
        return max(shares)


def _value(operation: TensorOperation, values: list[Array]) -> Array:
    """Evaluate one operation on values known for its operands."""
    sources = tuple(dict.fromkeys(operands(operation)))
    known = {str(source): values[source] for source in sources}
    stubs = tuple(Input(name, value.shape[1:]) for name, value in known.items())
    graph = TensorGraph((*stubs, with_operands(operation, sources.index)), ())
    return evaluate(graph, known or {"": values[0]})[-1]


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
