"""The story of a matrix: its diagonals, its split into steps, and what other splits would take.

Every split that the compiler tries (`schedule.splits`) is priced again as it prices them: seconds
of rotations, and the rotation keys that no other layer needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from hec.compiler.ckks_ir import LinearTransform, Program
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.kernels import diagonal_bytes
from hec.compiler.key_manifest import rotations_of
from hec.compiler.pairing import products
from hec.compiler.predicted_seconds import product_seconds
from hec.compiler.quantities import duration
from hec.compiler.rotation_costs import rotation_seconds, steps_of
from hec.compiler.schedule import Split, rotations, splits, steps

_ROUNDING: Final = 1e-9  # seconds


@dataclass(frozen=True)
class SplitStory:
    """One way to write the shifts of a matrix as giant + baby."""

    baby_step: int  # giants are multiples of it
    baby_start: int  # babies lie in [baby_start, baby_start + baby_step)
    rotations: int  # baby and giant ones, of all ciphertexts
    seconds: float  # of these rotations
    new_keys: int  # rotation keys that no other matrix needs


@dataclass(frozen=True)
class MatrixStory:
    """How one matrix is multiplied with one value."""

    diagonals: int  # that are not zero
    possible: int  # of a full matrix between these ciphertexts
    products: int  # with encoded plaintexts: fewer than diagonals where these are paired
    pair_distance: int  # slots between two diagonals of a complex product; 0: none are paired
    split: SplitStory
    baby_rotations: int
    giant_rotations: int
    babies: tuple[int, ...]  # rotation steps of inputs, each once
    giants: tuple[int, ...]  # rotation steps of sums, each once
    baby_seconds: float
    giant_seconds: float
    product_seconds: float  # and of sums; with pairs, of the complex numbers that they need
    encoding_seconds: float  # at every run, of diagonals that a server cannot keep
    plain_scale_bits: float  # log2 of the scale at which diagonals are encoded
    encoded_bytes: int
    tried: int  # splits that the compiler prices
    smaller: SplitStory | None  # the best one with the next smaller baby step
    larger: SplitStory | None  # and with the next larger one
    fastest: SplitStory | None  # the one that rotates fastest, where the chosen one does not


def matrix_story(
    program: Program,
    x: LinearTransform,
    level: int,
    seconds: float,
    table: CostTable = REFERENCE,
) -> MatrixStory:
    """Return the story of `x`, a transform of `program`, whose operand is at `level`.

    `seconds` are those of the forecast for it, made with `table`.
    """
    parameters, count = program.parameters, len(products(x.matrix, x.twin).first)
    prices = _Prices(program, x, level, table)
    chosen, others = prices.of(prices.chosen), prices.others()
    babies, giants = steps_of(x.matrix, prices.chosen, x.twin)
    baby = rotation_seconds(babies, (), parameters, level + 1, table)
    giant = rotation_seconds((), giants, parameters, level + 1, table)
    made = product_seconds(x, level + 1, parameters, table)
    least = min(others, key=lambda other: other.seconds, default=chosen)
    return MatrixStory(
        len(x.matrix.index),
        x.matrix.out_blocks * x.matrix.in_blocks * x.matrix.slots,
        count,
        x.twin,
        chosen,
        sum(map(len, babies)),
        len(giants),
        tuple(sorted(frozenset().union(*babies))),
        tuple(sorted(set(giants))),
        baby,
        giant,
        made,
        rest if (rest := seconds - baby - giant - made) > _ROUNDING else 0.0,
        log2(x.plain_scale),
        diagonal_bytes(x, level, parameters.batch),
        len(others) + 1,
        _nearest((o for o in others if o.baby_step < x.baby_step), largest=True),
        _nearest((o for o in others if o.baby_step > x.baby_step), largest=False),
        least if least.seconds < chosen.seconds else None,
    )


class _Prices:
    """Prices of the splits of one matrix."""

    def __init__(self, program: Program, x: LinearTransform, level: int, table: CostTable) -> None:
        self.table = table
        self.x, self.parameters, self.limbs = x, program.parameters, level + 1
        self.index = products(x.matrix, x.twin).index
        self.chosen = Split(x.baby_step, x.baby_start)
        slots = self.parameters.slots
        made = (rotations_of(other) for other in program.instructions if other is not x)
        self.known = frozenset(step % slots for each in made for step in each)

    def of(self, split: Split) -> SplitStory:
        slots, matrix, twin = self.parameters.slots, self.x.matrix, self.x.twin
        made = steps_of(matrix, split, twin)
        seconds = rotation_seconds(*made, self.parameters, self.limbs, self.table)
        composed = self.parameters.bootstrapping is not None  # of steps that have keys anyway
        new = 0 if composed else len(steps(self.index, split, slots) - self.known)
        count = rotations(self.index, split, slots)
        return SplitStory(split.baby_step, split.baby_start, count, seconds, new)

    def others(self) -> list[SplitStory]:
        tried = dict.fromkeys(splits(self.index))  # each once
        return [self.of(split) for split in tried if split != self.chosen]


def _nearest(options: Iterable[SplitStory], largest: bool) -> SplitStory | None:
    """Return the fastest of the options with the largest, or smallest, baby step."""
    found = list(options)
    if not found:
        return None
    step = (max if largest else min)(option.baby_step for option in found)
    return min((o for o in found if o.baby_step == step), key=lambda o: (o.seconds, o.new_keys))


def why_split(story: MatrixStory) -> str:
    """Return in a sentence why this split was taken."""
    chosen, compared = story.split, [x for x in (story.smaller, story.larger) if x is not None]
    told = " and ".join(
        f"{duration(x.seconds)} with baby step {x.baby_step}{_more_keys(x, chosen)}"
        for x in compared
    )
    against = f", against {told}" if told else ""
    if story.fastest is None:
        return (
            f"of {story.tried} splits none rotates faster: {duration(chosen.seconds)} for "
            f"{chosen.rotations} rotations{against}"
        )
    best = story.fastest
    return (
        f"{duration(chosen.seconds)} for {chosen.rotations} rotations{against}; baby step "
        f"{best.baby_step} would take {duration(best.seconds)}{_more_keys(best, chosen)}"
    )


def _more_keys(split: SplitStory, chosen: SplitStory) -> str:
    more = split.new_keys - chosen.new_keys
    if not more:
        return ""
    return f" and {abs(more)} {'more' if more > 0 else 'fewer'} key{'s' if abs(more) > 1 else ''}"


def listed(numbers: Sequence[int], most: int = 12) -> str:
    """Return numbers between commas, the first ones of many."""
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown
