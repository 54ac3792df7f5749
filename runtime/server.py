"""The service owner: computes on ciphertexts with weights and evaluation keys, never a secret."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from hec.compiler.memory import DEFAULT_MAX_RAM, require_memory, server_memory
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput
from hec.runtime import container, executor, sides
from hec.runtime.input_checks import check_names
from hec.runtime.trace import COMPUTE, READ, WRITE, Trace


class Server:
    """A plan with one client's evaluation keys, and its plaintexts encoded; not for two threads.

    The keys are bytes, or the path of their file, which on OpenFHE saves gigabytes of memory. The
    process takes at most `max_ram` bytes: encoded diagonals are kept as far as that goes, the
    others are encoded anew for every prediction. Raise `CompileError`, naming `place`, for a secret
    key, for keys of another plan, and before anything is loaded, if the memory will not do.
    """

    def __init__(
        self,
        plan: Plan,
        evaluation_keys: bytes | str | PathLike[str],
        place: str = "",
        max_ram: float = DEFAULT_MAX_RAM,
    ) -> None:
        self.plan = plan
        given = evaluation_keys if isinstance(evaluation_keys, bytes) else Path(evaluation_keys)
        place = place or (str(given) if isinstance(given, Path) else "evaluation keys")
        memory = server_memory(plan.server.program)
        require_memory(memory, max_ram, f"plan of {plan.client.model}")
        self._evaluator = sides.evaluator(plan.client, given, place)
        room = max_ram - memory.least
        self._prepared = executor.prepare(plan.server.program, self._evaluator.backend, room)

    def run(self, data: bytes, place: str = "", trace: Trace | None = None) -> bytes:
        """Return the encrypted output of an encrypted input; `trace` records where time goes.

        A plan for batches answers for as many images as the input carries, in the same time.

        Raise `CompileError`, naming `place`, unless `data` was encrypted for this plan.
        """
        place = place or "encrypted input"
        if trace is None:
            inputs, images = self._read(data, place)
            return self._write(executor.run(self._prepared, inputs), images)
        trace.begin(self.plan.server.program, self.plan.server.labels)
        with trace.phase(READ):
            inputs, images = trace.call("load", lambda: self._read(data, place))
        with trace.phase(COMPUTE):
            results = executor.run(self._prepared, inputs, trace=trace)
        with trace.phase(WRITE):
            return trace.call("save", lambda: self._write(results, images))

    def _read(self, data: bytes, place: str) -> tuple[dict[str, list[Any]], int]:
        """Return the ciphertexts of every input, and how many images share them."""
        part = self.plan.client
        blobs, images = container.unpack_message(data, "encrypted input", part, place)
        counts = {item.name: item.layout.blocks for item in part.inputs}
        check_names({name: len(b) for name, b in blobs.items()}, counts, place)
        inputs = {item.name: self._load(item, blobs[item.name], place) for item in part.inputs}
        return inputs, images

    def _write(self, results: dict[str, list[Any]], images: int) -> bytes:
        part, save = self.plan.client, self._evaluator.save
        answers = {
            item.name: tuple(save(block, item.level, item.scale) for block in results[item.name])
            for item in part.outputs
        }
        return container.pack("encrypted output", part, answers, images)

    def _load(self, item: PlanInput, blobs: tuple[container.Blob, ...], place: str) -> list[Any]:
        place = f"{place}: tensor '{item.name}'"
        load, level, scale = self._evaluator.load, item.level, item.scale
        backend = self._evaluator.backend
        return executor.each(backend, lambda blob: load(blob, level, scale, place), blobs)
