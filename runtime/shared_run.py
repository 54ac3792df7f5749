"""Walk a Program in one of several processes, as `executor.run` does in one.

Of a matrix that is shared out, a baby step that arrives is multiplied at once with every diagonal
of it, so that nobody waits as long as there is something to do, and is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic

from hec.compiler.backend import Backend, Ciphertext, Plaintext
from hec.compiler.ckks_ir import Input, LinearTransform, Output, ValueType
from hec.compiler.kernels import EncodedLinear
from hec.compiler.typing_rules import infer_types, operands
from hec.compiler.worker_schedule import Schedule, Shares, Turn, held, holders, parts
from hec.runtime.exchange import Exchange, untimed
from hec.runtime.executor import Prepared, compute_block
from hec.runtime.streaming import streaming
from hec.runtime.trace import Trace

Given = Mapping[str, list[Ciphertext]]


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
        self._sums: dict[Turn, Ciphertext] = {}  # of this process's giant steps
        self._terms: dict[Turn, list[tuple[Turn, Callable[[], Plaintext]]]] = {}  # by baby
        for block, turn in shares.giants[walk.exchange.me]:
            for step in encoded.giants[block][turn]:
                terms = self._terms.setdefault((step.block, step.baby), [])
                terms.append(((block, turn), step.diagonal))

    def blocks(self, x: Mapping[int, Ciphertext]) -> dict[int, Ciphertext]:
        """Return the blocks of the result that this process holds, from all of the operand's."""

        def rotated(baby: Turn) -> Ciphertext:
            return self._backend.rotate(x[baby[0]], baby[1])

        for baby in sorted(self._terms):
            if not baby[1]:
                self._use(baby, x[baby[0]])
            elif self._shares.babies is None:
                self._use(baby, rotated(baby))
        if self._shares.babies is not None:
            wanted = self._terms.__contains__
            for baby, y in self._exchange.share(self._shares.babies, rotated, wanted):
                self._use(baby, y)
        return self._added_up(self._own_parts())

    def _use(self, baby: Turn, y: Ciphertext) -> None:
        """Multiply a baby step by all of its diagonals."""
        for turn, diagonal in self._terms.get(baby, ()):
            product = self._backend.multiply_plain(y, diagonal())
            known = self._sums.get(turn)
            self._sums[turn] = product if known is None else self._backend.add(known, product)

    def _own_parts(self) -> dict[int, Ciphertext]:
        """Return this process's part of every block of the result."""
        found: dict[int, Ciphertext] = {}
        for block, turn in sorted(self._sums):
            total = self._sums.pop((block, turn))
            turned = self._backend.rotate(total, turn) if turn else total
            known = found.get(block)
            found[block] = turned if known is None else self._backend.add(known, turned)
        return found

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
                known = found.get(block)
                found[block] = part if known is None else self._backend.add(known, part)
        return {block: found[block] for block in held(me, blocks, workers)}
