"""The depth of a Program: rescalings on the longest way to an output, bootstraps or not."""

from __future__ import annotations

from collections.abc import Sequence

from hec.compiler.ckks_ir import Polynomial, Program, Rescale, ValueType
from hec.compiler.typing_rules import infer_types, operands


def rescalings(program: Program, types: Sequence[ValueType], position: int, reader: int) -> int:
    """Return how often value `position` is rescaled on its way through the instruction `reader`.

    Levels that are given up without need, and those that a bootstrap takes inside, do not count.
    """
    match program.instructions[reader]:
        case Rescale():
            return 1
        case Polynomial():
            return types[position].level - types[reader].level
        case _:
            return 0


def depth(program: Program) -> int:
    """Return the rescalings on the longest way from an input to an output."""
    return max(depths(program), default=0)


def depths(program: Program) -> list[int]:
    """Return the rescalings on the longest way from an input to each value."""
    types, deepest = infer_types(program), list[int]()
    for reader, instruction in enumerate(program.instructions):
        ways = (deepest[i] + rescalings(program, types, i, reader) for i in operands(instruction))
        deepest.append(max(ways, default=0))
    return deepest
