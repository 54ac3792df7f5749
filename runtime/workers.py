"""Processes that compute one prediction together: this one, and what it forks.

They are forked once keys and encoded weights are there, and share that memory. No secret is ever in
any of them: a server has none.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Generic, Protocol

from hec.compiler.backend import Ciphertext, Plaintext
from hec.compiler.worker_memory import RING
from hec.compiler.worker_schedule import Schedule
from hec.runtime import shared_run
from hec.runtime.exchange import Copies, Exchange, Link, WorkerLost
from hec.runtime.executor import Prepared
from hec.runtime.forking import fork, reap
from hec.runtime.memory_file import MemoryFile
from hec.runtime.trace import Trace

_RUN, _TRACED, _END = b"g", b"t", b"."  # none is a byte of `exchange`, and no digit
_PATIENCE: Final = 60.0  # seconds that a worker may be silent, and as often as it is forecast:
_TIMES: Final = 20.0


class Workers(Generic[Ciphertext, Plaintext]):
    """The other processes of a schedule, waiting for work; not for two threads.

    They end when this object is closed or collected, and with this process; `copies` is closed with
    them. Raise `OSError` if no process can be started.
    """

    def __init__(
        self,
        prepared: Prepared[Ciphertext, Plaintext],
        schedule: Schedule,
        copies: Copies[Ciphertext],
    ) -> None:
        self._prepared, self._schedule = prepared, schedule
        self._owner = os.getpid()
        self.processes: list[int] = []
        held: list[_Closes] = [copies]
        self._close = weakref.finalize(self, _close, self.processes, held)
        try:
            self._exchange = self._started(copies, held)
        except BaseException:
            self._close()
            raise

    def _started(self, copies: Copies[Ciphertext], held: list[_Closes]) -> Exchange[Ciphertext]:
        """Start the workers, note what is to be closed, and return this process's way to them."""
        count = self._schedule.workers
        files = []
        for _ in range(count * RING):
            files.append(MemoryFile(copies.largest))
            held.append(files[-1])
        rings = [files[start::count] for start in range(count)]
        links = _links(count)
        mine, *others = (Exchange(me, links[me], rings, copies) for me in range(count))
        held += mine.links
        try:
            for exchange in others:
                kept = {link.socket.fileno() for link in exchange.links}
                kept |= {file.descriptor for file in files}
                self.processes.append(fork(partial(self._serve, exchange), kept))
        finally:
            for link in (link for exchange in others for link in exchange.links):
                link.close()
        for link in mine.links:
            link.socket.settimeout(_PATIENCE + _TIMES * self._schedule.total_seconds)
        return mine

    def run(
        self, inputs: Mapping[str, list[Ciphertext]], trace: Trace | None = None
    ) -> dict[str, list[Ciphertext]]:
        """Return the outputs of a program, as `executor.run` does.

        Raise `WorkerLost` if a worker ends meanwhile, or has before; all are ended then, as after
        every other exception.
        """
        if not self._close.alive or os.getpid() != self._owner:
            raise WorkerLost("the workers are not those of this process")
        try:
            for link in self._exchange.links:
                link.tell(_RUN if trace is None else _TRACED)
            outputs = shared_run.run(self._prepared, self._schedule, self._exchange, inputs, trace)
            if trace is not None:
                for number, link in enumerate(self._exchange.links, 1):
                    trace.add_worker(number, _recorded(link))
            return outputs
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, at once."""
        self._close()

    def _serve(self, exchange: Exchange[Ciphertext]) -> None:
        """Work as long as the first process wants."""
        exchange.start()
        master = exchange.links[0]
        while True:
            while not master.others:
                master.hear()
            trace = Trace() if master.others == _TRACED else None
            master.others.clear()
            shared_run.run(self._prepared, self._schedule, exchange, {}, trace)
            if trace is not None:
                master.tell(trace.to_json().hex().encode("ascii") + _END)


def _links(count: int) -> list[list[Link | None]]:
    """Return, by process, its ends of sockets to the others."""
    links: list[list[Link | None]] = [[None] * count for _ in range(count)]
    for one in range(count):
        for other in range(one):
            ends = socket.socketpair()
            links[one][other], links[other][one] = Link(ends[0]), Link(ends[1])
    return links


def _recorded(link: Link) -> bytes:
    """Return what a worker recorded; hexadecimal on its way, and no byte of the exchange."""
    while not link.others.endswith(_END):
        link.hear()
    recorded = bytes.fromhex(link.others[: -len(_END)].decode("ascii"))
    link.others.clear()
    return recorded


class _Closes(Protocol):
    def close(self) -> None: ...


def _close(processes: Sequence[int], held: Sequence[_Closes]) -> None:
    """End the workers; in a copy of the process that has them, only let go of them."""
    for process in processes:
        reap(process)
    for each in held:
        each.close()
