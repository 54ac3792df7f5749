"""What the last matrix of a network does to errors that enter it, once copies are averaged.

The client reads every element as the mean of its copies. Their rows read other slots each, or other
copies of what the same slots held, so that an error that slots do not share mostly averages out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hec.compiler.ckks_ir import (
    AddPlain,
    DiagonalMatrix,
    LinearTransform,
    ModSwitch,
    Output,
    Program,
    Rescale,
    RotateSum,
)
from hec.compiler.layout import Layout

_MOST_PRODUCTS: Final = 10**8  # of entries and elements: more would take a second


@dataclass(frozen=True)
class CopyGains:
    """Of the mean of an element's copies, the worst element's."""

    power: float  # sum of squares of what it takes from every slot
    largest: float  # what it takes from one slot


@dataclass(frozen=True)
class Ending:
    """What follows a matrix up to an output that it decides alone."""

    steps: tuple[int, ...]  # of rotations that are added up
    layout: Layout


def endings(program: Program) -> dict[int, Ending]:
    """Return, by matrix, how the program ends after it."""
    found = dict[int, Ending]()
    for output in program.instructions:
        if not isinstance(output, Output):
            continue
        steps, position = list[int](), output.operand
        instruction = program.instructions[position]
        while isinstance(instruction, AddPlain | Rescale | RotateSum | ModSwitch):
            if isinstance(instruction, RotateSum):
                steps += instruction.steps
            position = instruction.operand
            instruction = program.instructions[position]
        if isinstance(instruction, LinearTransform):
            found[position] = Ending(tuple(steps), output.layout)
    return found


def folds_of(program: Program) -> dict[int, tuple[int, ...]]:
    """Return, by matrix, the steps of the sum that follows it, rescaled or not."""
    found = dict[int, tuple[int, ...]]()
    for instruction in program.instructions:
        if isinstance(instruction, RotateSum):
            position = instruction.operand
            while isinstance(rescaled := program.instructions[position], Rescale):
                position = rescaled.operand
            found[position] = instruction.steps
    return found


def copy_gains(matrix: DiagonalMatrix, ending: Ending) -> CopyGains | None:
    """Return the gains of a mean of copies; None if they are too much work, or there is no copy."""
    layout, slots = ending.layout, matrix.slots
    elements, copies = layout.copies.shape
    work = len(matrix.index) * elements * slots
    if copies == 1 or layout.slots != slots or work > _MOST_PRODUCTS:
        return None
    flat = np.zeros((elements, matrix.out_blocks * slots))
    flat[np.arange(elements)[:, None], layout.copies] = 1 / copies
    taken = flat.reshape(elements, matrix.out_blocks, slots)
    for step in ending.steps:
        taken = taken + np.roll(taken, step, axis=2)
    entering = np.zeros((elements, matrix.in_blocks, slots))
    for row, (target, source, shift) in enumerate(matrix.index):
        entering[:, source] += np.roll(taken[:, target] * matrix.diagonal(row), shift, axis=1)
    power = float(np.square(entering).sum(axis=(1, 2)).max())
    return CopyGains(power, float(np.abs(entering).max()))
