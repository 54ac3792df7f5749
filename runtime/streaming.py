"""Encode plaintexts that are not kept: one matrix ahead of its use, on a thread beside.

A library that lets other threads run (OpenFHE) encodes while it computes; others encode at use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Generic

from hec.compiler.backend import Plaintext
from hec.runtime.trace import WAIT, Trace


class Streamed(Generic[Plaintext]):
    """A plaintext that is encoded anew for every use, ahead of it where that was started."""

    def __init__(self, encode: Callable[[], Plaintext]) -> None:
        self._encode = encode
        self._started: Future[Plaintext] | None = None
        self.trace: Trace | None = None  # of the run that goes on

    def start(self, beside: Executor) -> None:
        """Encode on another thread."""
        self._started = beside.submit(self._recorded, "encode", self._encode)

    def __call__(self) -> Plaintext:
        """Return the plaintext, and forget it."""
        started, self._started = self._started, None
        if started is None:
            return self._recorded("encode", self._encode)
        return self._recorded(WAIT, started.result)

    def _recorded(self, name: str, action: Callable[[], Plaintext]) -> Plaintext:
        return action() if self.trace is None else self.trace.call(name, action)


class Stream(Generic[Plaintext]):
    """The plaintexts of a Program's matrices that are not kept, in the order of their use."""

    def __init__(
        self, plaintexts: Mapping[int, Sequence[Streamed[Plaintext]]], beside: Executor | None
    ) -> None:
        self._plaintexts, self._beside = plaintexts, beside
        self._waiting = sorted(plaintexts)
        self._start_next()

    def used(self, position: int) -> None:
        """Tell that the matrix at `position` is done: the next one may take its memory."""
        if position in self._plaintexts:
            self._start_next()

    def _start_next(self) -> None:
        if self._beside is not None and self._waiting:
            for plaintext in self._plaintexts[self._waiting.pop(0)]:
                plaintext.start(self._beside)


@contextmanager
def streaming(
    plaintexts: Mapping[int, Sequence[Streamed[Plaintext]]],
    is_beside: bool,
    trace: Trace | None = None,
) -> Iterator[Stream[Plaintext]]:
    """Yield the stream of one run; with `is_beside`, a thread encodes while the run computes."""
    for plaintext in chain.from_iterable(plaintexts.values()):
        plaintext.trace = trace
    if not plaintexts or not is_beside:
        yield Stream(plaintexts, None)
        return
    beside = ThreadPoolExecutor(1, "hec-encode")
    try:
        yield Stream(plaintexts, beside)
    finally:
        beside.shutdown(cancel_futures=True)
