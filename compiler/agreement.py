"""How far predictions are from expected ones: top-1 classes, and absolute errors."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from hec.compiler.plan_parts import PlanOutput

AnyArray = NDArray[np.generic]


@dataclass(frozen=True)
class Error:
    """Absolute error of an output's elements, in its own units."""

    max: float
    rms: float
    bits: float | None  # -log2 of the largest; None where there is no error at all


def error(values: AnyArray, expected: AnyArray) -> Error:
    """Return the error over all elements of all samples."""
    difference = np.asarray(values, np.float64) - np.asarray(expected, np.float64).reshape(
        values.shape
    )
    largest = float(np.abs(difference).max())
    return Error(largest, root_mean_square(difference), -log2(largest) if largest else None)


def root_mean_square(values: AnyArray) -> float:
    """Return the root mean square of all elements."""
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))


def classes(values: AnyArray, output: PlanOutput) -> AnyArray | None:
    """Return the class of each sample, the first axis, or None where the output tells none.

    That is its label, if the output names classes; else its number. Labels and whole numbers are
    classes already; a single number is one only after a sigmoid.
    """
    rows = values.reshape(len(values), -1)
    steps = {step.name for step in output.epilogue}
    if "label" in steps:
        return rows[:, 0] if rows.shape[1] == 1 else None
    if "argmax" in steps:
        return rows[:, 0].astype(np.int64) if rows.shape[1] == 1 else None
    if rows.shape[1] > 1:
        found = np.asarray(rows.argmax(axis=1), np.int64)
        return found if output.classes is None else output.classes.chosen(found)
    if "sigmoid" in steps:
        return (rows[:, 0].astype(np.float64) > 0.5).astype(np.int64)
    return None


def agreement(values: AnyArray, expected: AnyArray, output: PlanOutput) -> float | None:
    """Return the share of samples with the same class."""
    mine, theirs = classes(values, output), classes(expected, output)
    return None if mine is None or theirs is None else float((mine == theirs).mean())
