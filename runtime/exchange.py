"""How processes that walk the same program pass ciphertexts on.

Each process has a ring of memory files that it alone writes, and a socket to each of the others,
on which one byte tells that a file was written, and one that it was read. All processes make the
same calls in the same order, so a byte need not say what it is about. Who waits for a process that
ends finds the socket closed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Generic, Protocol, TypeVar

from hec.compiler.backend import Ciphertext
from hec.compiler.worker_memory import RING
from hec.runtime.memory_file import MemoryFile
from hec.runtime.trace import PASS_ON, WAIT_FOR_WORKER

_LAG: Final = 1  # ciphertexts that a process makes before it takes the first one of the others:
# with at least `_LAG` + 2 files in its ring, nobody waits for one that nobody will read.
_WRITTEN, _READ = b"w", b"r"
_BYTES: Final = 4096

Key = TypeVar("Key")


def untimed(name: str) -> AbstractContextManager[None]:
    """Time nothing."""
    return nullcontext()


class WorkerLost(Exception):
    """Another process ended, or does not answer."""


class Copies(Protocol[Ciphertext]):
    """How ciphertexts get into files in memory and out of them."""

    @property
    def largest(self) -> int:
        """Return the most bytes that a ciphertext takes."""
        ...

    @property
    def is_raw(self) -> bool:
        """Tell whether ciphertexts are copied, which is faster than to save them."""
        ...

    def renew(self) -> None:
        """Start anew in a process that was forked."""
        ...

    def close(self) -> None:
        """Give back what the system lent."""
        ...

    def write(self, x: Ciphertext, file: MemoryFile) -> None:
        """Write a ciphertext."""
        ...

    def read(self, file: MemoryFile) -> Ciphertext:
        """Return a ciphertext that was written."""
        ...


class Link:
    """A socket to another process, and what it told so far."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.written = self.read = self.taken = 0  # of its files: by it; of ours: by it; by us
        self.others = bytearray()  # bytes that are not about files

    def tell(self, message: bytes) -> None:
        """Send bytes; raise `WorkerLost` if nobody is there."""
        try:
            self.socket.sendall(message)
        except OSError as error:
            raise WorkerLost(f"a process cannot be told anything: {error}") from None

    def hear(self) -> None:
        """Wait for bytes; raise `WorkerLost` if none will come, or none came in time."""
        try:
            heard = self.socket.recv(_BYTES)
        except TimeoutError:
            seconds = self.socket.gettimeout() or 0.0
            raise WorkerLost(f"a process did not answer for {seconds:.0f} s") from None
        except OSError as error:
            raise WorkerLost(f"a process cannot be heard: {error}") from None
        if not heard:
            raise WorkerLost("a process ended")
        self.written += heard.count(_WRITTEN)
        self.read += heard.count(_READ)
        self.others += heard.translate(None, _WRITTEN + _READ)

    def close(self) -> None:
        """Tell the other process that this one is gone."""
        self.socket.close()


class Exchange(Generic[Ciphertext]):
    """One process's way to the others; `me` is its number."""

    def __init__(
        self,
        me: int,
        links: Sequence[Link | None],  # None: to itself
        rings: Sequence[Sequence[MemoryFile]],
        copies: Copies[Ciphertext],
    ) -> None:
        self.me, self.workers = me, len(links)
        self.timed = untimed  # or what a trace has for it
        self._links, self._rings, self._copies = tuple(links), rings, copies
        self._written = 0

    @property
    def links(self) -> list[Link]:
        """Return the ways to the other processes."""
        return [link for link in self._links if link is not None]

    def start(self) -> None:
        """Begin in a process that was forked."""
        self._copies.renew()

    def share(
        self,
        keys: Sequence[Sequence[Key]],
        make: Callable[[Key], Ciphertext],
        wanted: Callable[[Key], bool] = lambda key: True,
    ) -> Iterator[tuple[Key, Ciphertext]]:
        """Yield every `wanted` ciphertext by its key: `keys` says which process makes which.

        Own ones are yielded all, and sent before. Consumers must take all that comes.
        """
        own = keys[self.me]
        for step in range(max(map(len, keys)) + _LAG):
            if step < len(own):
                x = make(own[step])
                self._write(x)
                yield own[step], x
            for worker, key in self._due(keys, step - _LAG):
                read = self._read(worker, wanted(key))
                if read is not None:
                    yield key, read

    def _due(self, keys: Sequence[Sequence[Key]], step: int) -> Iterator[tuple[int, Key]]:
        """Yield what the others make in a step."""
        for worker, theirs in enumerate(keys):
            if worker != self.me and 0 <= step < len(theirs):
                yield worker, theirs[step]

    def _write(self, x: Ciphertext) -> None:
        with self.timed(WAIT_FOR_WORKER):
            for link in self.links:
                while link.read <= self._written - RING:
                    link.hear()
        with self.timed(PASS_ON):
            self._copies.write(x, self._rings[self.me][self._written % RING])
        self._written += 1
        for link in self.links:
            link.tell(_WRITTEN)

    def _read(self, worker: int, is_wanted: bool) -> Ciphertext | None:
        link = self._links[worker]
        if link is None:
            raise WorkerLost("a process waits for itself")
        with self.timed(WAIT_FOR_WORKER):
            while link.written <= link.taken:
                link.hear()
        x = None
        if is_wanted:
            with self.timed(PASS_ON):
                x = self._copies.read(self._rings[worker][link.taken % RING])
        link.taken += 1
        link.tell(_READ)
        return x
