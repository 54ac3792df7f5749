"""How long the values of a Program live: each until its last use, or no longer than it is made."""

from __future__ import annotations

from collections.abc import Sequence

from hec.compiler.ckks_ir import LIMB_BYTES, Program, ValueType
from hec.compiler.typing_rules import operands


def last_uses(program: Program) -> tuple[tuple[int, ...], ...]:
    """Return, for every position, the values that nothing after it reads."""
    last = list(range(len(program.instructions)))
    for position, instruction in enumerate(program.instructions):
        for operand in operands(instruction):
            last[operand] = position
    released: list[list[int]] = [[] for _ in last]
    for value, position in enumerate(last):
        released[position].append(value)
    return tuple(tuple(values) for values in released)


def bytes_alive(program: Program, types: Sequence[ValueType]) -> list[int]:
    """Return the bytes of all values still to be read, and of the result, at every instruction."""
    degree = program.parameters.ring_degree
    sizes = [2 * x.blocks * (x.level + 1) * degree * LIMB_BYTES for x in types]
    alive, found = 0, list[int]()
    for size, released in zip(sizes, last_uses(program), strict=True):
        alive += size
        found.append(alive)
        alive -= sum(sizes[value] for value in released)
    return found
