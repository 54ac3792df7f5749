"""The service owner: computes on ciphertexts with weights and evaluation keys, never a secret."""

from __future__ import annotations

from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, Final

from hec.compiler.errors import warn
from hec.compiler.memory import (
    DEFAULT_MAX_RAM,
    Memory,
    free_memory,
    require_memory,
    server_memory,
)
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput
from hec.compiler.worker_memory import worker_bytes
from hec.compiler.worker_schedule import Schedule, saved_exchange
from hec.runtime import container, executor, sides
from hec.runtime.exchange import WorkerLost
from hec.runtime.forking import is_busy
from hec.runtime.input_checks import check_names
from hec.runtime.trace import COMPUTE, READ, WRITE, Trace
from hec.runtime.worker_choice import most_workers, schedule_within
from hec.runtime.workers import Workers

_AGAIN: Final = "create the server again"


class Server:
    """A plan with one client's evaluation keys, and its plaintexts encoded; not for two threads.

    On SEAL, one prediction is computed by at most `workers` processes, which are forked here and
    end with `close`, with this object, and with this process. Not given, that is the number of
    cores, and 1 where Python has other threads here: create servers before you start any; and
    while others keep the cores busy, this process computes alone.

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
        workers: int | None = None,
    ) -> None:
        self.plan = plan
        given = evaluation_keys if isinstance(evaluation_keys, bytes) else Path(evaluation_keys)
        place = place or (str(given) if isinstance(given, Path) else "evaluation keys")
        program = plan.server.program
        memory = server_memory(program)
        require_memory(memory, max_ram, f"plan of {plan.client.model}")
        most = most_workers(workers, is_shareable=not program.parameters.digits)
        room = _room(memory, max_ram)
        schedule = schedule_within(program, most, room)
        self._evaluator = sides.evaluator(plan.client, given, place)
        more = 0 if schedule is None else worker_bytes(program, schedule)
        kept = inf if memory.peak + more <= max_ram else max_ram - memory.least - more
        self._prepared = executor.prepare(program, self._evaluator.backend, kept)
        self._yields = workers is None  # to others that keep the machine busy
        self._workers = None if schedule is None else self._started(schedule, room)

    def _started(self, schedule: Schedule, room: float) -> Workers[Any, Any] | None:
        """Return the workers of the schedule, or fewer; None where one process is to compute."""
        program, copies = self._prepared.program, self._evaluator.copies()
        if copies is None:
            return None
        found: Schedule | None = schedule
        if not copies.is_raw:
            found = schedule_within(program, schedule.workers, room, saved_exchange(program))
        if found is None:
            copies.close()
            return None
        try:
            return Workers(self._prepared, found, copies)
        except OSError as error:
            told = f"Worker processes cannot be started ({error.strerror})"
            warn(f"{told}: predictions go on one core", help="free memory, or raise its limits")
            return None

    @property
    def workers(self) -> int:
        """Return how many processes compute a prediction."""
        return 1 if self._workers is None else 1 + len(self._workers.processes)

    def close(self) -> None:
        """End worker processes; what follows is computed by this process alone."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def __enter__(self) -> Server:
        """Return the server, to be closed."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def run(self, data: bytes, place: str = "", trace: Trace | None = None) -> bytes:
        """Return the encrypted output of an encrypted input; `trace` records where time goes.

        A plan for batches answers for as many images as the input carries, in the same time.

        Raise `CompileError`, naming `place`, unless `data` was encrypted for this plan.
        """
        place = place or "encrypted input"
        if trace is None:
            inputs, images = self._read(data, place)
            return self._write(self._compute(inputs), images)
        trace.begin(self.plan.server.program, self.plan.server.labels)
        with trace.phase(READ):
            inputs, images = trace.call("load", lambda: self._read(data, place))
        with trace.phase(COMPUTE):
            results = self._compute(inputs, trace)
        with trace.phase(WRITE):
            return trace.call("save", lambda: self._write(results, images))

    def _compute(
        self, inputs: dict[str, list[Any]], trace: Trace | None = None
    ) -> dict[str, list[Any]]:
        if self._workers is not None and not (self._yields and is_busy(self.workers)):
            try:
                return self._workers.run(inputs, trace)
            except WorkerLost as lost:
                self.close()
                warn(f"A worker process was lost ({lost}): predictions go on one core", help=_AGAIN)
                if trace is not None:
                    trace.again()
        return executor.run(self._prepared, inputs, trace=trace)

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


def _room(memory: Memory, max_ram: float) -> float:
    """Return the bytes that worker processes may take, without an encoded weight less for them."""
    free = free_memory()
    room = max_ram - (memory.peak if memory.peak <= max_ram else memory.least)
    return room if free is None else min(room, free - memory.least)
