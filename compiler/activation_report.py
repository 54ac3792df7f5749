"""What a report tells of a fitted activation: how exact it is, where, and what that does."""

from __future__ import annotations

from dataclasses import dataclass

from hec.compiler.tensor_ir import Fit


@dataclass(frozen=True)
class ActivationReport:
    """A polynomial that stands for an activation."""

    nodes: str
    function: str
    degree: int
    interval: tuple[float, float]  # where it was fitted
    observed: tuple[float, float]  # where samples fell
    bounded: tuple[float, float] | None  # where it is bounded, if inexact
    rms_error: float
    sensitivity: float | None  # error of the outputs for each unit of error of this fit
    error_at_outputs: float | None  # if only this fit were inexact; a share of the outputs' rms
    tail_probability: float | None  # that an element of another sample lies outside
    wrap_margin: float | None  # factor by which observed values may grow; None: all are the middle


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
    )


def _margin(fit: Fit) -> float | None:
    """Return by how much the farthest sample could grow before it leaves the interval: 1.3 is 30 %.

    Measured from the middle of the interval.
    """
    low, high = fit.interval
    farthest = max(abs(end - (low + high) / 2) for end in fit.observed)
    return (high - low) / 2 / farthest if farthest else None
