"""Seconds of a matrix's rotations on a backend, and the split into steps that takes the fewest.

Baby rotations of one ciphertext share its decomposition where the backend hoists, and what they are
composed of, where not every step has a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix, EncryptionParameters, LinearTransform, Program
from hec.compiler.cost import composed_of, costs_of
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.pairing import products
from hec.compiler.rotation_routes import routes
from hec.compiler.schedule import Split, splits
from hec.compiler.typing_rules import infer_types

Steps = frozenset[int]
_CACHED: Final = 65536


def rotation_seconds(
    babies: Sequence[Steps],
    giants: Sequence[int],
    parameters: EncryptionParameters,
    limbs: int,
    table: CostTable = REFERENCE,
) -> float:
    """Return the seconds of rotating each input block by its `babies`, and sums by `giants`."""
    costs, slots = costs_of(parameters, table), parameters.slots
    available = composed_of(parameters)
    seconds = 0.0
    for steps in babies:
        made, decomposed = _tree(steps, available, slots)
        seconds += made * costs.hoisted_rotation(limbs) + decomposed * costs.decompose(limbs)
    return seconds + hops(giants, parameters) * costs.key_switch(limbs)


def hops(steps: Sequence[int], parameters: EncryptionParameters) -> int:
    """Count the rotations that those by `steps` are composed of, one by one."""
    available, slots = composed_of(parameters), parameters.slots
    return sum(_hops(step, available, slots) for step in steps)


def matrix_hops(x: LinearTransform, parameters: EncryptionParameters) -> int:
    """Count the rotations that those of a matrix are composed of; babies share theirs."""
    available, slots = composed_of(parameters), parameters.slots
    babies, giants = steps_of(x.matrix, Split(x.baby_step, x.baby_start), x.twin)
    twins = x.matrix.in_blocks * _hops(x.twin, available, slots) if x.twin else 0
    made = sum(_tree(steps, available, slots)[0] for steps in babies)
    return made + hops(giants, parameters) + twins


def steps_of(
    matrix: DiagonalMatrix, split: Split, twin: int = 0
) -> tuple[tuple[Steps, ...], tuple[int, ...]]:
    """Return the baby steps of each input block, and the giant steps of all output blocks."""
    if matrix.slots == 1:  # there may be thousands of blocks
        return (frozenset(),) * matrix.in_blocks, ()
    index = products(matrix, twin).index
    giant, baby = split.apply(index[:, 2].astype(np.int64))
    outputs, inputs = index[:, 0], index[:, 1]
    babies = tuple(_distinct(baby[inputs == b], matrix.slots) for b in range(matrix.in_blocks))
    each = (_distinct(giant[outputs == b], matrix.slots) for b in range(matrix.out_blocks))
    return babies, tuple(step for steps in each for step in sorted(steps))


def rescheduled(program: Program) -> Program:
    """Return the program with the split of every matrix that rotates fastest with its keys."""
    types, known = infer_types(program), dict[tuple[int, int], Split]()
    instructions = list(program.instructions)
    for position, x in enumerate(program.instructions):
        if isinstance(x, LinearTransform):
            limbs = types[x.operand].level + 1
            key = id(x.matrix), x.twin
            if key not in known:
                known[key] = _best(x, program.parameters, limbs)
            best = known[key]
            instructions[position] = replace(
                x, baby_step=best.baby_step, baby_start=best.baby_start
            )
    return replace(program, instructions=tuple(instructions))


def _best(x: LinearTransform, parameters: EncryptionParameters, limbs: int) -> Split:
    def price(split: Split) -> float:
        return rotation_seconds(*steps_of(x.matrix, split, x.twin), parameters, limbs)

    index = products(x.matrix, x.twin).index
    return min((Split(x.baby_step, x.baby_start), *splits(index)), key=price)


def _distinct(steps: NDArray[np.int64], slots: int) -> Steps:
    return frozenset(np.unique(steps % slots).tolist()) - {0}


@lru_cache(maxsize=_CACHED)
def _hops(step: int, available: Steps, slots: int) -> int:
    """Count the rotations that one by `step` is composed of."""
    return _tree(frozenset({step}), available, slots)[0]


@lru_cache(maxsize=_CACHED)
def _tree(steps: Steps, available: Steps, slots: int) -> tuple[int, int]:
    """Count the rotations that make all of `steps` of one ciphertext, and what they start from.

    Without `available` steps each has a key of its own.
    """
    if not available:
        return len(steps), min(1, len(steps))
    found, parents = routes(available, slots), dict[int, int]()
    for wanted in steps:
        step = wanted
        while step and step not in parents:
            parents[step] = found.parent(step)[0]
            step = parents[step]
    return len(parents), len(set(parents.values()))
