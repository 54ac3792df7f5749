"""Share a Program out among processes of one machine, and predict what that takes.

Every process walks the whole program. A value of one ciphertext is computed by all of them, unless
it is a matrix's: each makes some of the baby steps, sends them to the others, and sums up some of
the giant steps; the partial sums are exchanged and added up. Of a value of several ciphertexts each
process computes those that it holds. So nothing waits for one process that hands out work, and
ciphertexts travel only where matrices are.

Source: none known for processes; the split of a BSGS product over its giant steps is folklore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from hec.compiler.ckks_ir import (
    Input,
    Instruction,
    LinearTransform,
    Output,
    Program,
    ValueType,
)
from hec.compiler.cost_table import REFERENCE, CostTable, Line, SealSteps
from hec.compiler.kernel_sizes import KernelSize, KernelSizes
from hec.compiler.kernels import is_weighted_sum
from hec.compiler.pairing import products
from hec.compiler.predicted_seconds import seconds_of
from hec.compiler.schedule import Split
from hec.compiler.typing_rules import infer_types

Turn: TypeAlias = tuple[int, int]  # a block, and a rotation in [0, slots)
Terms: TypeAlias = Mapping[Turn, Sequence[Turn]]  # from giants of the output to babies of the input
MOST_WORKERS: Final = 8  # more were never tried
_WORTH: Final = 0.95  # of the seconds on one core: what is forecast to gain less is not tried
_NEAR: Final = 1.03  # as good as the best number of processes, and fewer


@dataclass(frozen=True)
class ExchangeCosts:
    """Seconds of passing a ciphertext on; `limbs` is level + 1."""

    send: Line
    receive: Line
    notice: float  # until another process goes on


def raw_exchange(ring_degree: int) -> ExchangeCosts:
    """Return what copies of the limbs cost; measured 2026-11-27, AMD EPYC, ring degree 8192."""
    factor = ring_degree / 8192
    return ExchangeCosts(Line(40e-6, 35e-6 * factor), Line(40e-6, 25e-6 * factor), 100e-6)


def saved_exchange(program: Program, table: CostTable = REFERENCE) -> ExchangeCosts:
    """Return what SEAL's own compressed form costs."""
    steps = table.seal_steps(program.parameters.ring_degree)
    return ExchangeCosts(steps.save, steps.load, 100e-6)


@dataclass(frozen=True)
class Shares:
    """One matrix shared out; by process."""

    babies: tuple[tuple[Turn, ...], ...] | None  # of the input blocks; None: each makes its own
    giants: tuple[tuple[Turn, ...], ...]  # of the output blocks


@dataclass(frozen=True)
class Schedule:
    """A Program shared out among `workers` processes."""

    workers: int
    linear: Mapping[int, Shares]  # the matrices that are; every process computes the others
    gathers: frozenset[int]  # the instructions before which the operand's blocks are exchanged
    seconds: tuple[float, ...]  # of every instruction

    @property
    def total_seconds(self) -> float:
        """Seconds of one prediction."""
        return sum(self.seconds)


def holders(block: int, blocks: int, workers: int) -> range:
    """Return the processes that hold this of so many blocks: all where it is the only one."""
    if blocks == 1:
        return range(workers)
    holder = block * workers // blocks
    return range(holder, holder + 1)


def held(worker: int, blocks: int, workers: int) -> tuple[int, ...]:
    """Return the blocks that a process holds, of a value of so many."""
    return tuple(block for block in range(blocks) if worker in holders(block, blocks, workers))


def parts(shares: Shares, blocks: int) -> tuple[tuple[int, ...], ...]:
    """Return the output blocks, of so many, that each process sends its partial sum of."""
    workers = len(shares.giants)
    return tuple(
        tuple(b for b in sorted({b for b, _ in mine}) if set(holders(b, blocks, workers)) - {w})
        for w, mine in enumerate(shares.giants)
    )


def best_schedule(
    program: Program,
    most: int,
    exchange: ExchangeCosts | None = None,
    table: CostTable = REFERENCE,
) -> Schedule | None:
    """Return the fastest schedule of at most so many processes; None where one is as good.

    OpenFHE has threads of its own, and is never shared out; nor are batches of one slot an image,
    whose matrices have no steps to deal out.
    """
    if program.parameters.digits or most < 2 or any(map(_is_sum, program.instructions)):
        return None
    work = Work.of(program, table)
    counts = range(2, min(most, MOST_WORKERS) + 1)
    tried = [shared_out(work, workers, exchange) for workers in counts]
    fastest = min(schedule.total_seconds for schedule in tried)
    if fastest > _WORTH * sum(work.seconds):
        return None
    return next(schedule for schedule in tried if schedule.total_seconds <= _NEAR * fastest)


def _is_sum(instruction: Instruction) -> bool:
    return isinstance(instruction, LinearTransform) and is_weighted_sum(instruction)


@dataclass(frozen=True)
class Work:
    """A Program on SEAL, and what its instructions take on one core."""

    program: Program
    types: tuple[ValueType, ...]
    steps: SealSteps
    terms: Mapping[int, Terms]  # of each matrix
    seconds: tuple[float, ...]  # of each instruction

    @classmethod
    def of(cls, program: Program, table: CostTable = REFERENCE) -> Work:
        """Look at every matrix once."""
        types, sizes = infer_types(program), KernelSizes()
        steps = table.seal_steps(program.parameters.ring_degree)
        terms = {
            position: _terms(x)
            for position, x in enumerate(program.instructions)
            if isinstance(x, LinearTransform)
        }
        for x in program.instructions:
            if isinstance(x, LinearTransform):  # what `seconds_of` would measure is not asked for
                sizes.assume(x.matrix, KernelSize(0, False, 0, 0.0, 0.0))
        seconds = list(seconds_of(program, types, sizes, table))
        for position, found in terms.items():
            limbs = types[position].level + 1
            babies = len({baby for taken in found.values() for baby in taken if baby[1]})
            giants = sum(turn != 0 for _, turn in found)
            seconds[position] += (babies + giants) * steps.key_switch(limbs)
        return cls(program, types, steps, terms, tuple(seconds))


def shared_out(work: Work, workers: int, exchange: ExchangeCosts | None = None) -> Schedule:
    """Return the program shared out among `workers` processes, each matrix where that is faster."""
    program, types, seconds = work.program, work.types, list(work.seconds)
    costs = _Costs(work.steps, exchange or raw_exchange(work.steps.ring_degree), workers)
    linear, gathers, everywhere = dict[int, Shares](), set[int](), set[int]()
    for position, x in enumerate(program.instructions):
        blocks = types[position].blocks
        if isinstance(x, LinearTransform | Output) and x.operand not in everywhere:
            seconds[position] += costs.gathered(types[x.operand])
            gathers.add(position)
            everywhere.add(x.operand)
        if isinstance(x, Input):
            seconds[position] += costs.handed_over(types[position])
            everywhere.add(position)
        elif isinstance(x, LinearTransform):
            options = _options(work.terms[position], types[position], costs)
            taken, shares = min(options, key=lambda found: found[0])
            if taken < seconds[position]:
                seconds[position], linear[position] = taken, shares
            if blocks == 1 or position not in linear:
                everywhere.add(position)
        elif blocks == 1:
            everywhere.add(position)
        elif not isinstance(x, Output):
            seconds[position] *= -(-blocks // workers) / blocks
    return Schedule(workers, linear, frozenset(gathers), tuple(seconds))


@dataclass(frozen=True)
class _Costs:
    """Seconds of what processes tell each other."""

    steps: SealSteps
    exchange: ExchangeCosts
    workers: int

    def passed_on(self, sent: int, received: int, limbs: int) -> float:
        """So many ciphertexts, by the process that has the most of them."""
        each = sent * self.exchange.send(limbs) + received * self.exchange.receive(limbs)
        return each + self.exchange.notice

    def handed_over(self, value: ValueType) -> float:
        """All blocks, from one process to the others."""
        limbs = value.level + 1
        return self.passed_on(value.blocks, 0, limbs) + self.exchange.receive(limbs)

    def gathered(self, value: ValueType) -> float:
        """All blocks, from those that hold them to everybody."""
        most = -(-value.blocks // self.workers)
        return self.passed_on(most, value.blocks - 1, value.level + 1)


def _options(terms: Terms, result: ValueType, costs: _Costs) -> list[tuple[float, Shares]]:
    """Return ways to share a matrix out, and their seconds: with babies exchanged, or not."""
    limbs = result.level + 1  # a matrix leaves the level as it is
    rotation = costs.steps.key_switch(limbs)
    product = costs.steps.multiply_plain(limbs) + costs.steps.add(limbs)
    taken = {
        (block, turn): (rotation if turn else 0.0) + len(babies) * product
        for (block, turn), babies in terms.items()
    }
    wanted = sorted({baby for babies in terms.values() for baby in babies if baby[1]})
    dealt = tuple(tuple(wanted[worker :: costs.workers]) for worker in range(costs.workers))
    options = []
    for babies in (dealt, None):
        before = [rotation * len(mine) for mine in babies or [()] * costs.workers]
        giants = _dealt(taken, before)
        loads = list(before)
        for worker, mine in enumerate(giants):
            loads[worker] += sum(taken[turn] for turn in mine)
            if babies is None:
                own = {baby for turn in mine for baby in terms[turn] if baby[1]}
                loads[worker] += rotation * len(own)
        shares = Shares(babies, giants)
        seconds = max(loads) + _exchanged(shares, result.blocks, limbs, costs)
        options.append((seconds, shares))
    return options


def _terms(x: LinearTransform) -> Terms:
    """Return the babies that each giant step of each output block multiplies."""
    index, slots = products(x.matrix, 0).index, x.matrix.slots  # SEAL pairs no diagonals
    giant, baby = Split(x.baby_step, x.baby_start).apply(index[:, 2].astype(np.int64))
    rows = zip(
        index[:, :2].tolist(), (giant % slots).tolist(), (baby % slots).tolist(), strict=True
    )
    terms: dict[Turn, list[Turn]] = {}
    for (out_block, in_block), giant_turn, baby_turn in rows:
        terms.setdefault((out_block, giant_turn), []).append((in_block, baby_turn))
    return dict(sorted(terms.items()))


def _dealt(taken: Mapping[Turn, float], before: Sequence[float]) -> tuple[tuple[Turn, ...], ...]:
    """Deal out tasks in order, so that all processes have as much to do, what was before included.

    In order, because a block of the output is then summed up by as few processes as possible.
    """
    share = (sum(taken.values()) + sum(before)) / len(before)
    dealt: list[list[Turn]] = [[] for _ in before]
    worker, load = 0, before[0]
    for turn, seconds in taken.items():
        while load + seconds / 2 > share and worker + 1 < len(before):
            worker += 1
            load += before[worker] - share  # what the last one has too much or too little
        dealt[worker].append(turn)
        load += seconds
    return tuple(map(tuple, dealt))


def _exchanged(shares: Shares, blocks: int, limbs: int, costs: _Costs) -> float:
    """Return the seconds of passing babies and partial sums on."""
    sent = parts(shares, blocks)
    largest = 0.0
    for worker in range(costs.workers):
        others = [block for w, theirs in enumerate(sent) if w != worker for block in theirs]
        received = sum(worker in holders(block, blocks, costs.workers) for block in others)
        passed = costs.passed_on(len(sent[worker]), received, limbs)
        largest = max(largest, passed + received * costs.steps.add(limbs))
    if shares.babies is None:
        return largest
    most, total = max(map(len, shares.babies)), sum(map(len, shares.babies))
    return largest + costs.passed_on(most, total - min(map(len, shares.babies)), limbs)
