"""Walk a Program in one of several processes, as `executor.run` does in one.

Of a matrix that is shared out, a baby step that arrives is multiplied at once with every diagonal
of it, and let go, so that nobody waits as long as there is something to do; unless the sums that
wait for the next one would take more memory than the baby steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from hec.compiler.backend import Backend, Ciphertext, Plaintext
from hec.compiler.ckks_ir import Input, LinearTransform, Output, ValueType
from hec.compiler.kernels import EncodedLinear
from hec.compiler.typing_rules import infer_types, operands
from hec.compiler.worker_schedule import Schedule, Shares, Turn, held, holders, parts
from hec.runtime.exchange import Exchange, untimed
from hec.runtime.executor import Prepared, compute_block
from hec.runtime.streaming import streaming
from hec.runtime.trace import Trace

Given: TypeAlias = Mapping[str, list[Ciphertext]]
Diagonal: TypeAlias = Callable[[], Plaintext]
Key = TypeVar("Key")


def run(
    prepared: Prepared[Ciphertext, Plaintext],
    schedule: Schedule,
    exchange: Exchange[Ciphertext],
    inputs: Given[Ciphertext],
    trace: Trace | None = None,
) -> dict[str, list[Ciphertext]]:
    """Return the ciphertexts of every output, given those of every input, both by name.

    Process 0 gives them; the others get them, whatever their `inputs`. Raise `WorkerLost` if
    another process ends meanwhile.
    """
    if trace is not None:
        prepared = replace(prepared, backend=trace.around(prepared.backend))
        exchange.timed = trace.span
    walk = _Walk(prepared, schedule, exchange, inputs)
    try:
        with streaming(prepared.streamed, False, trace):
            return walk.outputs(trace)
    finally:
        exchange.timed = untimed


@dataclass
class _Walk(Generic[Ciphertext, Plaintext]):
    """One run in one process."""

    prepared: Prepared[Ciphertext, Plaintext]
    schedule: Schedule
    exchange: Exchange[Ciphertext]
    inputs: Given[Ciphertext]
    values: dict[int, dict[int, Ciphertext]] = field(default_factory=dict)  # blocks that are here
    types: tuple[ValueType, ...] = ()

    def outputs(self, trace: Trace | None) -> dict[str, list[Ciphertext]]:
        program, values = self.prepared.program, self.values
        self.types = infer_types(program)
        outputs: dict[str, list[Ciphertext]] = {}
        for position, instruction in enumerate(program.instructions):
            step = partial(self._blocks, position)
            if isinstance(instruction, Input):
                values[position] = self._handed_over(position, instruction.name)
            elif isinstance(instruction, Output):
                self._gather(position)
                outputs[instruction.name] = self._all(instruction.operand)
            else:
                values[position] = step() if trace is None else trace.step(position, step)
            for last in self.prepared.released[position]:
                values.pop(last, None)
        return outputs

    def _all(self, value: int) -> list[Ciphertext]:
        return [self.values[value][block] for block in range(self.types[value].blocks)]

    def _handed_over(self, position: int, name: str) -> dict[int, Ciphertext]:
        """Return the blocks of an input, from process 0 to all."""
        blocks = range(self.types[position].blocks)
        keys = [blocks, *[range(0)] * (self.exchange.workers - 1)]
        return dict(self.exchange.share(keys, lambda block: self.inputs[name][block]))

    def _gather(self, position: int) -> None:
        """Get all blocks of the operand, if the schedule says that not every process has them."""
        if position in self.schedule.gathers:
            (operand,) = operands(self.prepared.program.instructions[position])
            here, workers = self.values[operand], self.exchange.workers
            keys = [held(w, self.types[operand].blocks, workers) for w in range(workers)]
            here.update(self.exchange.share(keys, here.__getitem__))

    def _blocks(self, position: int) -> dict[int, Ciphertext]:
        """Return the blocks of an instruction's result that this process is to have."""
        instruction, blocks = (
            self.prepared.program.instructions[position],
            self.types[position].blocks,
        )
        if isinstance(instruction, LinearTransform):
            self._gather(position)
            shares = self.schedule.linear.get(position)
            if shares is not None:
                linear = _Linear(self, self.prepared.expanded[position], shares, blocks)
                return linear.blocks(self.values[instruction.operand])
            kernel = self.prepared.linear[position]
            return dict(enumerate(kernel(self._all(instruction.operand), self.prepared.backend)))
        read = operands(instruction)
        return {
            block: compute_block(
                self.prepared, position, [self.values[operand][block] for operand in read], block
            )
            for block in held(self.exchange.me, blocks, self.exchange.workers)
        }


class _Linear(Generic[Ciphertext, Plaintext]):
    """A matrix that is shared out, in one process."""

    def __init__(
        self,
        walk: _Walk[Ciphertext, Plaintext],
        encoded: EncodedLinear[Plaintext],
        shares: Shares,
        count: int,
    ) -> None:
        self._backend: Backend[Ciphertext, Plaintext] = walk.prepared.backend
        self._exchange, self._shares, self._count = walk.exchange, shares, count
        mine = shares.giants[walk.exchange.me]
        self._giants = {(block, turn): encoded.giants[block][turn] for block, turn in mine}
        self._terms: dict[Turn, list[tuple[Turn, Diagonal[Plaintext]]]] = {}  # by baby
        for giant, steps in self._giants.items():
            for step in steps:
                terms = self._terms.setdefault((step.block, step.baby), [])
                terms.append((giant, step.diagonal))

    def blocks(self, x: Mapping[int, Ciphertext]) -> dict[int, Ciphertext]:
        """Return the blocks of the result that this process holds, from all of the operand's."""
        babies = self._babies(x)
        few = len(self._giants) <= len(self._terms)
        return self._added_up(self._parts(self._sums(babies) if few else self._each(babies)))

    def _babies(self, x: Mapping[int, Ciphertext]) -> Iterator[tuple[Turn, Ciphertext]]:
        """Yield every baby step that is needed here, as soon as it is there."""

        def rotated(baby: Turn) -> Ciphertext:
            return self._backend.rotate(x[baby[0]], baby[1])

        made = self._shares.babies
        for baby in sorted(self._terms):
            if not baby[1]:
                yield baby, x[baby[0]]
            elif made is None:
                yield baby, rotated(baby)
        if made is not None:
            yield from self._exchange.share(made, rotated, self._terms.__contains__)

    def _sums(self, babies: Iterable[tuple[Turn, Ciphertext]]) -> Iterator[tuple[Turn, Ciphertext]]:
        """Yield the sum of each giant step; a baby step is multiplied when it comes, and let go."""
        sums: dict[Turn, Ciphertext] = {}
        for baby, y in babies:
            for giant, diagonal in self._terms.get(baby, ()):
                product = self._backend.multiply_plain(y, diagonal())
                self._add(sums, giant, product)
        for giant in self._giants:
            yield giant, sums.pop(giant)

    def _each(self, babies: Iterable[tuple[Turn, Ciphertext]]) -> Iterator[tuple[Turn, Ciphertext]]:
        """Yield the same, sum after sum: baby steps are kept, of which there are fewer."""
        kept = {baby: y for baby, y in babies if baby in self._terms}
        for giant, steps in self._giants.items():
            total: dict[Turn, Ciphertext] = {}
            for step in steps:
                y = kept[step.block, step.baby]
                self._add(total, giant, self._backend.multiply_plain(y, step.diagonal()))
            yield giant, total[giant]

    def _parts(self, sums: Iterable[tuple[Turn, Ciphertext]]) -> dict[int, Ciphertext]:
        """Return this process's part of every block of the result."""
        found: dict[int, Ciphertext] = {}
        for (block, turn), total in sums:
            self._add(found, block, self._backend.rotate(total, turn) if turn else total)
        return found

    def _add(self, sums: dict[Key, Ciphertext], key: Key, x: Ciphertext) -> None:
        known = sums.get(key)
        sums[key] = x if known is None else self._backend.add(known, x)

    def _added_up(self, own: dict[int, Ciphertext]) -> dict[int, Ciphertext]:
        """Exchange parts; sums modulo primes are exact, so their order does not matter."""
        me, workers, blocks = self._exchange.me, self._exchange.workers, self._count
        sent = parts(self._shares, blocks)
        keys = [[(worker, block) for block in theirs] for worker, theirs in enumerate(sent)]
        found = dict(own)
        others = self._exchange.share(
            keys, lambda key: own[key[1]], lambda key: me in holders(key[1], blocks, workers)
        )
        for (worker, block), part in others:
            if worker != me:
                self._add(found, block, part)
        return {block: found[block] for block in held(me, blocks, workers)}
