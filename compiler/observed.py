"""What calibration samples tell about the values of a graph in normal form: size, and sensitivity.

The error of a bootstrap passes through layers in which errors are neither independent (an average
over pixels does not average out what all of them share) nor as large as in the worst case. So it is
not derived but measured: the same samples, with and without errors in every bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hec.compiler.approximation_errors import approximation_errors
from hec.compiler.calibration import Calibration, Range
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.evaluate import value
from hec.compiler.noise import bootstrapping
from hec.compiler.tensor_ir import Array, Bootstrap, Input, Multiply, Polynomial, TensorGraph
from hec.compiler.variances import tail

ASSUMED_MAGNITUDE: Final = 0.5  # of a tensor in [-1, 1], where nothing was observed
PROBE: Final = 3e-4  # error of every bootstrap's argument in the trial: of the size that is to come
SAMPLES: Final = 16  # of the trial
_MEDIAN: Final = 0.5  # probability that the largest of some errors is above that of this failure


@dataclass(frozen=True)
class Observed:
    """Of every tensor, as it lies in the slots."""

    magnitudes: tuple[float, ...]  # root mean square
    sensitivities: tuple[float, ...] | None  # its error over that of the bootstraps; None: unknown
    outputs: tuple[Array, ...] = ()  # of the graph, (samples, elements) each, where there are some
    approximation: tuple[float, ...] = ()  # rms of approximated - exact, likewise
    peaks: tuple[float, ...] = ()  # largest magnitude, likewise
    reaches: tuple[float, ...] = ()  # its largest error over a Gaussian's, with sensitivities

    def deviations(
        self, parameters: EncryptionParameters, sources: Sequence[int]
    ) -> tuple[float, ...]:
        """Return the errors that bootstraps cause in the tensors `sources`; () if unknown."""
        if self.sensitivities is None:
            return ()
        error = bootstrapping(parameters)
        return tuple(error * self.sensitivities[source] for source in sources)


def observe(graph: TensorGraph, calibration: Calibration) -> Observed:
    """Return what the samples of `calibration` tell about the tensors of `graph`."""
    ranges = calibration.ranges(graph)
    magnitudes = tuple(
        ASSUMED_MAGNITUDE if seen.values is None else _rms(seen.values) for seen in ranges
    )
    shown = ((output, ranges[output.operand].values) for output in graph.outputs)
    outputs = tuple(output.factor * values for output, values in shown if values is not None)
    approximation = _approximation(graph, ranges)
    known = calibration.samples is not None
    peaks = tuple(max(map(abs, seen.interval())) for seen in ranges) if known else ()
    refreshes = any(isinstance(operation, Bootstrap) for operation in graph.operations)
    found, reaches = None, tuple[float, ...]()
    if calibration.samples is not None and refreshes:
        exact = [seen.values[:SAMPLES] for seen in ranges if seen.values is not None]
        found, reaches = zip(*_trial(graph, exact), strict=True)
    return Observed(magnitudes, found, outputs, approximation, peaks, reaches)


def _approximation(graph: TensorGraph, ranges: Sequence[Range]) -> tuple[float, ...]:
    """Return what the fits do to every tensor: nothing if there are none, () if unknown."""
    operations = (x for x in graph.operations if isinstance(x, Multiply | Polynomial | Bootstrap))
    if not any(x.fit is not None and x.fit.error > 0 for x in operations):
        return (0.0,) * len(graph.operations)
    values = [seen.values for seen in ranges if seen.values is not None]
    if len(values) < len(ranges):
        return ()
    found = approximation_errors(graph, values)
    return found if np.isfinite(found).all() else ()


def _trial(graph: TensorGraph, exact: Sequence[Array]) -> Iterator[tuple[float, float]]:
    """Yield sensitivity and reach of every tensor, given their exact values."""
    random, noisy = np.random.default_rng(0), list[Array]()
    samples = {"": exact[0]}  # tells how many there are
    for operation, wanted in zip(graph.operations, exact, strict=True):
        if isinstance(operation, Input):
            noisy.append(wanted)
        elif isinstance(operation, Bootstrap):
            x = noisy[operation.operand]
            noisy[operation.operand] = x + PROBE * random.standard_normal(x.shape)
            noisy.append(value(operation, noisy, samples))
            noisy[operation.operand] = x
        else:
            noisy.append(value(operation, noisy, samples))
        error = noisy[-1] - wanted
        deviation = _rms(error)
        yield deviation / PROBE, _reach(error, deviation)


def _reach(error: Array, deviation: float) -> float:
    """Return the largest error over that of as many Gaussian ones; 1 if those are larger."""
    if not deviation:
        return 1.0
    return max(1.0, float(np.abs(error).max()) / (deviation * tail(error.size, _MEDIAN)))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
