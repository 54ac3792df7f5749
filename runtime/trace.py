"""Where the time of a run went: every instruction, and every call of the library inside it.

A `Trace` is given to `Server.run`; nothing is recorded without one. It holds names, levels and
times, never a value. `trace_events` writes it for Perfetto and Chrome.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final, NamedTuple, TypeVar, cast

from hec.compiler.backend import Backend, Ciphertext, Plaintext
from hec.compiler.ckks_ir import Program
from hec.compiler.errors import InvalidProgram

# What a backend may offer, its optional protocols included: attributes that are not here stay away
# from the wrapper, so that a backend is no more than it was.
_TIMED: Final = (
    "encode",
    "encode_pair",
    "times_i",
    "rotate",
    "rotate_each",
    "multiply_plain",
    "add_plain",
    "add",
    "accumulate",
    "multiply",
    "multiply_only",
    "relinearize",
    "weighted_sums",
    "rescale",
    "mod_switch",
    "bootstrap",
)
_PASSED: Final = ("level", "scale", "linear_kernel", "encodes_beside", "each")
_NANO: Final = 1e-9
READ, COMPUTE, WRITE = "read the request", "compute", "write the reply"
WAIT: Final = "wait for a plaintext"
WAIT_FOR_WORKER, PASS_ON = "wait for a worker", "pass a ciphertext on"
_NOT_COMPUTING: Final = frozenset({WAIT, WAIT_FOR_WORKER, PASS_ON})

Result = TypeVar("Result")


class Span(NamedTuple):
    """A stretch of time, in nanoseconds of a clock that starts anywhere."""

    name: str | int  # of a phase or a call; the position of an instruction
    start: int
    end: int
    thread: int  # minus its number for a worker process


@dataclass(frozen=True)
class Calls:
    """What one kind of call took in all."""

    count: int
    seconds: float


class Trace:
    """One run, recorded while it runs: `Server.run(message, trace=trace)`.

    `predicted` are the forecast's seconds of each instruction. A second run replaces the first.
    """

    def __init__(self, predicted: Sequence[float] = ()) -> None:
        self.predicted = tuple(predicted)
        self.program: Program | None = None
        self.labels: tuple[str, ...] = ()
        self.phases: list[Span] = []
        self.instructions: list[Span] = []
        self.calls: list[Span] = []
        self.main = 0  # the thread that walks the program

    def again(self) -> None:
        """Forget instructions and calls: they are run again."""
        self.instructions, self.calls = [], []

    def begin(self, program: Program, labels: Sequence[str]) -> None:
        """Forget what was recorded; a run of `program` starts on this thread."""
        self.program, self.labels = program, tuple(labels)
        self.phases, self.instructions, self.calls = [], [], []
        self.main = threading.get_ident()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record a part of the run."""
        start = perf_counter_ns()
        yield
        self.phases.append(Span(name, start, perf_counter_ns(), self.main))

    def step(self, position: int, compute: Callable[[], Result]) -> Result:
        """Return what `compute` does, recorded as the instruction at `position`."""
        start = perf_counter_ns()
        result = compute()
        self.instructions.append(Span(position, start, perf_counter_ns(), self.main))
        return result

    def call(self, name: str, compute: Callable[[], Result]) -> Result:
        """Return what `compute` does, recorded as a call of the library."""
        return self._timed(name, compute)()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record what is done meanwhile as a call."""
        start = perf_counter_ns()
        yield
        self.calls.append(Span(name, start, perf_counter_ns(), threading.get_ident()))

    def around(self, backend: Backend[Ciphertext, Plaintext]) -> Backend[Ciphertext, Plaintext]:
        """Return the backend with its steps recorded, and with just the same protocols."""
        return cast("Backend[Ciphertext, Plaintext]", _Timed(backend, self._timed))

    def _timed(self, name: str, method: Callable[..., Result]) -> Callable[..., Result]:
        record, clock, thread = self.calls.append, perf_counter_ns, threading.get_ident

        def timed(*arguments: object) -> Result:
            start = clock()
            result = method(*arguments)
            record(Span(name, start, clock(), thread()))
            return result

        return timed

    def to_json(self) -> bytes:
        """Return what was recorded in this process, for the trace of another one."""
        return json.dumps({"instructions": self.instructions, "calls": self.calls}).encode("ascii")

    def add_worker(self, number: int, recorded: bytes) -> None:
        """Add what a worker process recorded; clocks of processes are the same."""
        for name, spans in json.loads(recorded).items():
            into = self.instructions if name == "instructions" else self.calls
            into += [Span(what, start, end, -number) for what, start, end, _ in spans]

    @property
    def workers(self) -> int:
        """Return how many processes computed."""
        return len({span.thread for span in self.instructions if span.thread < 0}) + 1

    @property
    def wall(self) -> float:
        """Return the seconds of the whole run."""
        if not self.phases:
            raise InvalidProgram("nothing was traced yet")
        return _NANO * (self.phases[-1].end - self.phases[0].start)

    @property
    def totals(self) -> Mapping[str, Calls]:
        """Return what each kind of call took on the main thread, longest first."""
        found: dict[str, Calls] = {}
        for name, start, end, thread in self.calls:
            if thread == self.main:
                so_far = found.get(str(name), Calls(0, 0.0))
                seconds = so_far.seconds + _NANO * (end - start)
                found[str(name)] = Calls(so_far.count + 1, seconds)
        return dict(sorted(found.items(), key=lambda item: -item[1].seconds))

    @property
    def efficiency(self) -> float:
        """Return the share of the run that calls of the library took; the rest is hec's own.

        Time in which the main thread waited, or passed ciphertexts on, is not the library's.
        """
        own = sum(x.seconds for name, x in self.totals.items() if name not in _NOT_COMPUTING)
        return own / self.wall


class _Timed:
    """A backend whose steps are attributes of the instance: so `isinstance` finds its protocols."""

    def __init__(
        self, backend: object, timed: Callable[[str, Callable[..., object]], object]
    ) -> None:
        for name in _TIMED:
            method = getattr(backend, name, None)
            if method is not None:
                setattr(self, name, timed(name, method))
        for name in _PASSED:
            if hasattr(backend, name):
                setattr(self, name, getattr(backend, name))
