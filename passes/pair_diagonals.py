"""Pair diagonals: matrices whose results are refreshed next compute with complex numbers."""

from __future__ import annotations

from dataclasses import replace

from typing_extensions import assert_never

from hec.compiler.ckks_ir import (
    Add,
    AddPlain,
    Bootstrap,
    Input,
    Instruction,
    LinearTransform,
    ModSwitch,
    Multiply,
    Output,
    Polynomial,
    Program,
    Rescale,
    RotateSum,
)
from hec.compiler.pairing import best_twin
from hec.compiler.typing_rules import operands


def pair_diagonals(program: Program) -> Program:
    """Give every `LinearTransform` whose result only bootstraps read the `twin` that pairs most.

    Halves the products, the plaintexts, and the rotations of the operand, for one rotation and one
    product more. Not for a result that is decrypted: its imaginary part holds partial sums, which
    the client must not see; nor where the imaginary part would enter another product.

    Source: none known; see docs/design/006-pairs-of-diagonals.md. Cost: log2(slots) walks over the
    diagonals of each matrix.
    """
    dropped = _imaginary_part_is_dropped(program)
    twins: dict[int, int] = {}
    instructions = list(program.instructions)
    for position, x in enumerate(instructions):
        if isinstance(x, LinearTransform) and dropped[position]:
            twin = twins.setdefault(id(x.matrix), best_twin(x.matrix))
            instructions[position] = replace(x, twin=twin)
    return replace(program, instructions=tuple(instructions))


def _imaginary_part_is_dropped(program: Program) -> list[bool]:
    """Return, for every value, whether it reaches nothing but bootstraps, and sums on the way."""
    readers: list[list[int]] = [[] for _ in program.instructions]
    for position, instruction in enumerate(program.instructions):
        for operand in operands(instruction):
            readers[operand].append(position)
    dropped = [False] * len(readers)
    for position in reversed(range(len(readers))):
        dropped[position] = bool(readers[position]) and all(
            _drops(program.instructions[reader], dropped[reader]) for reader in readers[position]
        )
    return dropped


def _drops(reader: Instruction, later: bool) -> bool:
    match reader:
        case Bootstrap():
            return True
        case Add() | AddPlain() | RotateSum() | Rescale() | ModSwitch():
            return later
        case Input() | Output() | LinearTransform() | Multiply() | Polynomial():
            return False
        case _:
            assert_never(reader)
