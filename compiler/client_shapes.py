"""Which shape a tensor has after the client's steps, and whether the steps fit it at all.

Nothing is computed: a plan from outside is checked before anyone runs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from typing_extensions import assert_never

from hec.compiler.client_steps import MAX_PICKED, Affine, Classes, Columns, Label, Normalize
from hec.compiler.tensor_ir import ClientStep, EpilogueStep, Shape


@dataclass(frozen=True)
class StepState:
    """What a tensor has become: its shape, and what its elements are."""

    shape: Shape
    positions: int | None = None  # whole numbers below it, from an arg-max
    labels: Classes | None = None  # elements are these


def follow(shape: Shape, steps: Iterable[ClientStep]) -> StepState:
    """Return what a tensor of real numbers becomes; raise `ValueError` if a step does not fit."""
    state = StepState(shape)
    for step in steps:
        state = _after(state, step)
    return state


def _after(state: StepState, step: ClientStep) -> StepState:
    moves = isinstance(step, EpilogueStep) and step.name in ("reshape", "cast")
    if state.labels is not None and not moves:
        raise ValueError(f"'{step.name}' of class labels")
    match step:
        case EpilogueStep():
            return _after_plain(state, step)
        case Affine():
            return StepState(_affine_shape(state.shape, step))
        case Normalize():
            _axis(-1, state.shape)
            return StepState(state.shape)
        case Label():
            _require(step.classes.problem() == "", step.classes.problem())
            _require(state.positions is not None, "labels without an arg-max before them")
            fits = len(step.classes) == state.positions
            _require(fits, f"{len(step.classes)} labels for {state.positions} classes")
            return StepState(state.shape, labels=step.classes)
        case Columns():
            _require(step.classes.problem() == "", step.classes.problem())
            columns = state.shape[_axis(-1, state.shape)]
            fits = len(step.classes) == columns
            _require(fits, f"{len(step.classes)} labels for {columns} columns")
            return state
        case _:
            assert_never(step)


def _after_plain(state: StepState, step: EpilogueStep) -> StepState:
    match step.name:
        case "softmax" | "log_softmax":
            _axis(step.axis, state.shape)
            return StepState(state.shape)
        case "sigmoid":
            return StepState(state.shape)
        case "argmax":
            axis = _axis(step.axis, state.shape)
            kept = (1,) if step.keep_axis else ()
            shape = state.shape[:axis] + kept + state.shape[axis + 1 :]
            return StepState(shape, positions=state.shape[axis])
        case "reshape":
            fits = min(step.shape, default=1) >= 1 and prod(step.shape) == prod(state.shape)
            _require(fits, f"a reshape of {state.shape} to {step.shape}")
            return StepState(step.shape, state.positions, state.labels)
        case "cast":
            texts = state.labels is not None and bool(state.labels.texts)
            _require(not texts, "a cast of texts to numbers")
            return state
        case _:
            assert_never(step.name)


def _affine_shape(shape: Shape, step: Affine) -> Shape:
    count = len(step.columns)
    same = count == len(step.weights) == len(step.bias) == prod(step.shape)
    fits = same and 0 < count <= MAX_PICKED and min(step.shape, default=1) >= 1
    _require(fits, "an affine step of the wrong size")
    inside = 0 <= min(step.columns) and max(step.columns) < prod(shape)
    _require(inside, "an affine step that reads foreign elements")
    return step.shape


def _axis(axis: int, shape: Shape) -> int:
    _require(-len(shape) <= axis < len(shape), f"axis {axis} of a tensor of shape {shape}")
    return axis % len(shape)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
