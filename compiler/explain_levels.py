"""Why a layer works at its level: what comes after it needs so many rescalings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log2

from hec.compiler.bootstrapping import input_level
from hec.compiler.ckks_ir import (
    Bootstrap,
    EncryptionParameters,
    Output,
    Program,
    ValueType,
)
from hec.compiler.layers import Layer
from hec.compiler.program_depth import rescalings
from hec.compiler.typing_rules import HEADROOM_BITS, operands


@dataclass(frozen=True)
class LevelsOfLayer:
    """Levels that a later layer takes on the deepest path."""

    layer: str  # number and label
    levels: int


@dataclass(frozen=True)
class LevelStory:
    """Where a layer stands in the modulus chain."""

    enters: int  # rescalings left in what it reads; the most, if that differs
    leaves: int  # and in its result
    after: tuple[LevelsOfLayer, ...]  # layers on the deepest path that take some, in their order
    until: str  # where that path ends
    held: int  # levels that have to be left there
    spare: int  # levels of the result that nothing after it needs


def level_story(
    program: Program, types: Sequence[ValueType], layers: Sequence[Layer], layer: Layer
) -> LevelStory:
    """Return why `layer` of `program`, whose layers are `layers`, works at its level."""
    path = _Paths(program, types)
    owner = {i: each for each in layers for i in each.positions}
    end, taken, position = layer.positions[-1], dict[str, int](), layer.positions[-1]
    while (reader := path.deepest[position]) is not None:
        if isinstance(program.instructions[reader], Output | Bootstrap):
            break
        name = str(owner[reader])
        taken[name] = taken.get(name, 0) + rescalings(program, types, position, reader)
        position = reader
    held = path.needs[position]
    entering = [o for i in layer.positions for o in operands(program.instructions[i])]
    return LevelStory(
        max(types[o].level for o in entering if o not in layer.positions),
        types[end].level,
        tuple(LevelsOfLayer(name, levels) for name, levels in taken.items() if levels),
        _end(program, owner, reader),
        held,
        types[end].level - path.needs[end],
    )


class _Paths:
    """Of every value: the levels that it needs, and the reader that needs the most."""

    def __init__(self, program: Program, types: Sequence[ValueType]) -> None:
        self.program, self.types = program, types
        count = len(program.instructions)
        self.needs, self.deepest = [0] * count, [None] * count  # type: list[int], list[int | None]
        for reader in reversed(range(count)):
            for position in operands(program.instructions[reader]):
                need = self._need(position, reader)
                if self.deepest[position] is None or need > self.needs[position]:
                    self.needs[position], self.deepest[position] = need, reader

    def _need(self, position: int, reader: int) -> int:
        parameters = self.program.parameters
        match self.program.instructions[reader]:
            case Output():
                return _room(self.types[position].scale, parameters)
            case Bootstrap():
                how = parameters.bootstrapping
                return 0 if how is None else input_level(how)
            case _:
                passed = rescalings(self.program, self.types, position, reader)
                return passed + self.needs[reader]


def _room(scale: float, parameters: EncryptionParameters) -> int:
    """Return the lowest level whose modulus holds a value of this scale."""
    bits = log2(scale) + HEADROOM_BITS
    held = accumulate(log2(prime) for prime in parameters.primes)
    return next((level for level, room in enumerate(held) if room >= bits), 0)


def _end(program: Program, owner: dict[int, Layer], reader: int | None) -> str:
    if reader is None:
        return "the result is not read"
    x = program.instructions[reader]
    return f"output '{x.name}'" if isinstance(x, Output) else f"the bootstrap {owner[reader]}"


def why_level(story: LevelStory) -> str:
    """Return in a sentence why the result has the level that it has."""
    told = ", ".join(f"{each.layer}: {each.levels}" for each in story.after)
    count = sum(each.levels for each in story.after)
    text = f"{count} rescaling{'s' if count != 1 else ''} until {story.until}"
    if told:
        text += f" ({told})"
    if story.held:
        text += f", which needs {story.held} level{'s' if story.held > 1 else ''}"
    return f"{text}; {story.spare} to spare" if story.spare else text
