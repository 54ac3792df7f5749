"""What a report tells of a fitted activation: how exact it is, where, and what that does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hec.compiler.tensor_ir import Fit


@dataclass(frozen=True)
class HistogramReport:
    """How often the inputs of an activation fell into bins of equal width."""

    low: Annotated[float, "lower end of the first bin"]
    high: Annotated[float, "upper end of the last bin"]
    counts: Annotated[tuple[int, ...], "of each bin, over all calibration samples"]


@dataclass(frozen=True)
class CurveReport:
    """An activation, and what stands for it, at the same points."""

    x: Annotated[tuple[float, ...], "where, ascending; a bit beyond the interval at both ends"]
    exact: Annotated[tuple[float, ...], "the activation there"]
    fitted: Annotated[tuple[float, ...], "the polynomial, or series, there"]


@dataclass(frozen=True)
class ActivationReport:
    """A polynomial that stands for an activation."""

    nodes: Annotated[str, "names of its ONNX nodes, as in the layer that evaluates it"]
    function: Annotated[str, "what it stands for"]
    degree: Annotated[int, "of the polynomial, or of a bootstrap's series"]
    interval: Annotated[tuple[float, float], "where it was fitted"]
    observed: Annotated[tuple[float, float], "where calibration samples fell"]
    bounded: Annotated[
        tuple[float, float] | None, "wider: where it is inexact, but bounded; null: not known"
    ]
    rms_error: Annotated[float, "root mean square over the samples, in units of the activation"]
    sensitivity: Annotated[float | None, "error of the outputs for each unit of error of this fit"]
    error_at_outputs: Annotated[
        float | None, "of the outputs, if only this fit were inexact, as a share of their rms"
    ]
    tail_probability: Annotated[float | None, "that an element of another sample lies outside"]
    wrap_margin: Annotated[
        float | None, "factor by which observed values may grow; null: all are the middle"
    ]
    histogram: Annotated[HistogramReport | None, "of its inputs in calibration; null: not known"]
    curve: Annotated[
        CurveReport | None,
        "of the channel with the widest interval, where they differ; null: not known",
    ]


def activation_report(nodes: str, fit: Fit) -> ActivationReport:
    """Return what is known of the fit of the activation of these nodes."""
    return ActivationReport(
        nodes,
        fit.function,
        fit.degree,
        fit.interval,
        fit.observed,
        fit.bounded,
        fit.error,
        fit.sensitivity,
        fit.at_outputs,
        fit.tail,
        _margin(fit),
        _histogram(fit),
        _curve(fit),
    )


def _histogram(fit: Fit) -> HistogramReport | None:
    found = fit.histogram
    return None if found is None else HistogramReport(found.low, found.high, found.counts)


def _curve(fit: Fit) -> CurveReport | None:
    found = fit.curve
    return None if found is None else CurveReport(found.x, found.exact, found.fitted)


def _margin(fit: Fit) -> float | None:
    """Return by how much the farthest sample could grow before it leaves the interval: 1.3 is 30 %.

    Measured from the middle of the interval.
    """
    low, high = fit.interval
    farthest = max(abs(end - (low + high) / 2) for end in fit.observed)
    return (high - low) / 2 / farthest if farthest else None
