"""Worker processes in the clear: the same answers, however many compute, and nothing is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hec.compiler.ckks_ir import EncryptionParameters, Program
from hec.compiler.errors import CompileError
from hec.compiler.worker_schedule import ExchangeCosts, Schedule, Work, shared_out
from hec.runtime import executor, forking, worker_choice, workers
from hec.runtime.cleartext import Cleartext, Plain, Slots
from hec.runtime.exchange import WorkerLost
from hec.runtime.memory_file import MemoryFile
from hec.runtime.trace import COMPUTE, PASS_ON, WAIT_FOR_WORKER, Trace
from hec.runtime.trace_events import events
from hec.runtime.workers import Workers
from sample_plans import TINY, deep_program, linear_program
from test_executor import encrypted, values
from test_worker_schedule import FREE, matrices

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux only")
ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {
    "linear": linear_program(TINY),
    "deep": deep_program(TINY),
    "wide": matrices((2, 3, 1), 14, TINY),
    "split": matrices((1, 5, 2), 9, TINY),
}


class SlotsCopies:
    """Numbers in files: level, scale, values."""

    is_raw = True

    def __init__(self, parameters: EncryptionParameters) -> None:
        self.largest = 8 * (2 + parameters.slots)

    def renew(self) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, x: Slots, file: MemoryFile) -> None:
        data = np.concatenate([[x.level, x.scale], x.values[0]]).tobytes()
        file.room(0, len(data))[:] = data

    def read(self, file: MemoryFile) -> Slots:
        numbers = np.frombuffer(bytes(file.room(0, self.largest)))
        return Slots(numbers[None, 2:], int(numbers[0]), float(numbers[1]))


def started(
    program: Program,
    count: int = 2,
    backend: Cleartext | None = None,
    exchange: ExchangeCosts = FREE,
    room: float = float("inf"),
) -> Workers[Slots, object]:
    schedule = shared_out(Work.of(program), count, exchange)
    assert schedule.linear
    prepared = executor.prepare(program, backend or Cleartext(TINY), room)
    return Workers(prepared, schedule, SlotsCopies(TINY))


def alone(program: Program, seed: int = 0) -> dict[str, list[Slots]]:
    return executor.run(executor.prepare(program, Cleartext(TINY)), encrypted(program, seed))


def assert_equal(found: dict[str, list[Slots]], expected: dict[str, list[Slots]]) -> None:
    assert found.keys() == expected.keys()
    for name, blocks in expected.items():
        np.testing.assert_allclose(values(found[name]), values(blocks), rtol=0, atol=1e-12)
        kinds = [(block.level, block.scale) for block in blocks]
        assert [(block.level, block.scale) for block in found[name]] == kinds


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child, no descriptor, and so no memory: files in memory have no name."""
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", PROGRAMS)
def test_several_processes_compute_what_one_does(name: str, count: int) -> None:
    program = PROGRAMS[name]
    group = started(program, count)
    assert len(group.processes) == count - 1
    for seed in range(3):
        assert_equal(group.run(encrypted(program, seed)), alone(program, seed))
    group.close()


def test_each_process_may_make_its_own_babies() -> None:
    program = PROGRAMS["wide"]
    shared = shared_out(Work.of(program), 2, FREE)
    own = {k: workers.shared_run.Shares(None, x.giants) for k, x in shared.linear.items()}
    prepared = executor.prepare(program, Cleartext(TINY))
    schedule = Schedule(2, own, shared.gathers, shared.seconds)
    group = Workers(prepared, schedule, SlotsCopies(TINY))
    assert_equal(group.run(encrypted(program)), alone(program))
    group.close()


class Counting(Cleartext):
    """Cleartext that counts its rotations in this process."""

    rotations = 0

    def rotate(self, x: Slots, steps: int) -> Slots:
        self.rotations += 1
        return super().rotate(x, steps)


def test_this_process_does_about_its_share_of_the_rotations() -> None:
    program = matrices((1, 1), 25, TINY)
    whole, shared = Counting(TINY), Counting(TINY)
    executor.run(executor.prepare(program, whole), encrypted(program))
    group = started(program, 2, shared)
    group.run(encrypted(program))
    group.close()
    assert whole.rotations / 2 - 1 <= shared.rotations <= whole.rotations / 2 + 1


class Alive(Cleartext):
    """Cleartext that knows how many values were alive at once."""

    def __init__(self) -> None:
        super().__init__(TINY)
        self.values: weakref.WeakSet[Slots] = weakref.WeakSet()
        self.most = 0

    def _noted(self, x: Slots) -> Slots:
        self.values.add(x)
        self.most = max(self.most, len(self.values))
        return x

    def rotate(self, x: Slots, steps: int) -> Slots:
        return self._noted(super().rotate(x, steps))

    def multiply_plain(self, x: Slots, y: Plain) -> Slots:
        return self._noted(super().multiply_plain(x, y))

    def add(self, x: Slots, y: Slots) -> Slots:
        return self._noted(super().add(x, y))


@pytest.mark.parametrize("baby_step", [1, 2, 4, 8])
def test_a_process_holds_no_more_ciphertexts_than_one_by_itself(baby_step: int) -> None:
    program = matrices((1, 1), 15, TINY)
    instructions = list(program.instructions)
    instructions[1] = replace(instructions[1], baby_step=baby_step)  # type: ignore[call-arg]
    program = replace(program, instructions=tuple(instructions))
    by_itself, one_of_two = Alive(), Alive()
    executor.run(executor.prepare(program, by_itself), encrypted(program))
    group = started(program, 2, one_of_two)
    group.run(encrypted(program))
    group.close()
    assert one_of_two.most <= by_itself.most - (6 if baby_step == 8 else 0)


def test_plaintexts_that_are_not_kept_are_encoded_by_the_process_that_needs_them() -> None:
    program = PROGRAMS["wide"]
    group = started(program, room=0.0)
    for seed in range(2):
        assert_equal(group.run(encrypted(program, seed)), alone(program, seed))
    group.close()


class Dying(Cleartext):
    """Ends, or stops, every process but the one that made it, at the third rotation of a run."""

    def __init__(self, how: signal.Signals) -> None:
        super().__init__(TINY)
        self.how, self.process, self.rotations = how, os.getpid(), 0

    def rotate(self, x: Slots, steps: int) -> Slots:
        self.rotations += 1
        if self.rotations == 3 and os.getpid() != self.process:
            os.kill(os.getpid(), self.how)
        return super().rotate(x, steps)


@pytest.mark.parametrize("count", [2, 3])
def test_a_worker_that_is_killed_while_it_computes_ends_the_run(count: int) -> None:
    program = PROGRAMS["wide"]
    group = started(program, count, Dying(signal.SIGKILL))
    with pytest.raises(WorkerLost, match=r"a process (ended|cannot be)"):
        group.run(encrypted(program))
    with pytest.raises(WorkerLost, match="not those of this process"):
        group.run(encrypted(program))


def test_a_worker_that_was_killed_before_ends_the_run() -> None:
    program = PROGRAMS["wide"]
    group = started(program)
    group.run(encrypted(program))
    os.kill(group.processes[0], signal.SIGKILL)
    with pytest.raises(WorkerLost):
        group.run(encrypted(program))


def test_a_worker_that_does_not_answer_is_not_waited_for_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_PATIENCE", 0.2)
    program = PROGRAMS["wide"]
    group = started(program, 2, Dying(signal.SIGSTOP))
    with pytest.raises(WorkerLost, match=r"^a process did not answer for 0 s$"):
        group.run(encrypted(program))


class Failing(Cleartext):
    """Raises what a user or a bug might, in this process."""

    def rotate(self, x: Slots, steps: int) -> Slots:
        raise KeyboardInterrupt


def test_an_exception_here_ends_the_workers() -> None:
    program = PROGRAMS["wide"]
    group = started(program, 2, Failing(TINY))
    with pytest.raises(KeyboardInterrupt):
        group.run(encrypted(program))
    assert not any(map(is_alive, group.processes))


def test_workers_end_when_they_are_closed_or_forgotten() -> None:
    group = started(PROGRAMS["linear"])
    processes = list(group.processes)
    group.close()
    group.close()
    assert not any(map(is_alive, processes))
    group = started(PROGRAMS["linear"])
    processes = list(group.processes)
    del group
    gc.collect()
    assert not any(map(is_alive, processes))


@pytest.mark.parametrize("what", ["MemoryFile", "fork"])
def test_what_was_begun_is_undone_if_the_system_refuses(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = getattr(workers, what), []

    def fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError
        return real(*arguments)

    monkeypatch.setattr(workers, what, fails)
    with pytest.raises(OSError):
        started(PROGRAMS["linear"], 3)


def test_a_copy_of_the_process_neither_uses_nor_ends_the_workers() -> None:
    program = PROGRAMS["linear"]
    group = started(program)
    copy = os.fork()
    if not copy:
        try:
            group.run(encrypted(program))
        except WorkerLost:
            group.close()
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 7
    assert_equal(group.run(encrypted(program)), alone(program))
    group.close()


def is_alive(process: int) -> bool:
    """Tell whether a process is there; what ended and was not waited for counts as well."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def script_run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may import what is here, in a session of its own."""
    command = [sys.executable, "-W", "error", "-c", script]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, start_new_session=True,
        check=False, timeout=60,
    )  # fmt: skip


SCRIPT = """
import os, signal, sys, time
import test_workers as t
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
program = t.PROGRAMS["wide"]
group = t.started(program, 3)
group.run(t.encrypted(program))
{before}
print(*group.processes, flush=True)
try:
    {then}
except KeyboardInterrupt:
    sys.exit(5)
"""
ENDS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "returns": ("sys.exit(0)", 0),
    "fails": ("sys.exit(3)", 3),
    "ctrl-c": ("os.killpg(0, signal.SIGINT); time.sleep(9)", 5),
}


@pytest.mark.parametrize("how", [*ENDS, "killed, but not its copy"])
def test_workers_end_with_the_process_that_has_them(how: str) -> None:
    how, copied, _ = how.partition(", but")
    then, status = ENDS[how]
    copy = "if not os.fork(): os.setsid(); os.close(1); os.close(2); time.sleep(4); os._exit(0)"
    script = SCRIPT.format(before=copy if copied else "", then=then)
    done = script_run(script)
    assert done.returncode == status, done.stderr
    assert not done.stderr
    processes = list(map(int, done.stdout.split()))
    assert len(processes) == 2
    deadline = time.monotonic() + 3
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_alive, processes))


def test_ctrl_c_is_left_to_the_process_that_has_the_workers() -> None:
    script = (
        "import os, signal, time, test_workers as t\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "program = t.PROGRAMS['wide']\n"
        "group = t.started(program)\n"
        "try:\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "    time.sleep(9)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(0.3)\n"
        "t.assert_equal(group.run(t.encrypted(program)), t.alone(program))\n"
    )
    done = script_run(script)
    assert done.returncode == 0, done.stderr


STARTS = {
    signal.SIGINT: "t.assert_equal(group.run(t.encrypted(program)), t.alone(program))\n",
    signal.SIGTERM: "ended = os.waitid(os.P_PID, group.processes[0], os.WEXITED | os.WNOWAIT)\n"
    "assert ended.si_status == number, ended\n",
}


@pytest.mark.parametrize("number", STARTS, ids=lambda number: number.name)
def test_a_signal_to_a_worker_that_starts_does_not_raise_in_it(number: signal.Signals) -> None:
    script = (
        "import os, signal, test_workers as t\n"
        f"number, fork = {int(number)}, os.fork\n"
        "def raised(number, frame): raise KeyboardInterrupt\n"
        "signal.signal(number, raised)\n"
        "def signalled():\n"
        "    process = fork()\n"
        "    if not process: os.kill(os.getpid(), number)\n"
        "    return process\n"
        "os.fork = signalled\n"
        "program = t.PROGRAMS['wide']\n"
        "group = t.started(program)\n"
    )
    done = script_run(script + STARTS[number])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_holds_no_descriptor_of_others() -> None:
    ours, theirs = os.pipe()
    group = started(PROGRAMS["linear"])
    os.close(theirs)
    assert os.read(ours, 1) == b""  # or this would wait until the worker ends
    os.close(ours)
    group.close()


def test_a_trace_has_what_the_workers_did() -> None:
    program, trace = PROGRAMS["wide"], Trace()
    group = started(program, 3)
    trace.begin(program, [])
    with trace.phase(COMPUTE):
        assert_equal(group.run(encrypted(program), trace), alone(program))
    group.close()
    found = list(events(trace))
    names = [event["args"]["name"] for event in found if event["name"] == "thread_name"]  # type: ignore[index,call-overload]
    assert names == ["server", "worker process 1", "worker process 2"]
    steps = sum(type(x).__name__ not in {"Input", "Output"} for x in program.instructions)
    assert len(trace.instructions) == 3 * steps
    start, end = trace.phases[0].start, trace.phases[0].end
    assert all(start <= span.start <= span.end <= end for span in trace.calls)
    assert {PASS_ON, WAIT_FOR_WORKER, "rotate", "multiply_plain"} <= trace.totals.keys()


def test_time_spent_waiting_and_passing_on_is_no_work_of_the_library() -> None:
    trace = Trace()
    trace.begin(PROGRAMS["linear"], [])
    with trace.phase(COMPUTE):
        trace.call("rotate", lambda: time.sleep(0.01))
        for name in (PASS_ON, WAIT_FOR_WORKER):
            with trace.span(name):
                time.sleep(0.02)
    assert 0.1 < trace.efficiency < 0.5


def test_a_warning_about_threads_of_libraries_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fork

    def warned() -> int:
        warnings.warn("use of fork() may lead to deadlocks", DeprecationWarning, stacklevel=2)
        return real()

    monkeypatch.setattr(forking.os, "fork", warned)
    group = started(PROGRAMS["linear"])
    group.close()


def test_a_process_with_threads_of_its_own_does_not_fork() -> None:
    script = (
        "import os, threading, time, numpy as np, onnxruntime\n"
        "from hec.runtime.forking import why_not\n"
        "np.ones((300, 300)) @ np.ones((300, 300))\n"
        "assert len(os.listdir('/proc/self/task')) > 1\n"  # of numpy, onnxruntime: no matter
        "print(why_not())\n"
        "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "print(why_not())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "\nthis process has 2 threads of Python\n"
    assert not done.stderr


def test_where_nothing_can_be_forked_one_process_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking.sys, "platform", "darwin")
    assert forking.why_not() == "this system is not Linux"
    assert worker_choice.most_workers(None, True) == 1
    assert worker_choice.most_workers(1, True) == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 6), ("150000 100000", 2), ("50000 100000", 1), ("", 6), ("9000000 100000", 6)],
)
def test_a_containers_quota_limits_the_cores(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(forking, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(forking.os, "sched_getaffinity", lambda process: set(range(6)))
    assert forking.available_cores() == cores


@pytest.mark.parametrize(("load", "is_busy"), [(1.9, False), (4.9, False), (5.1, True)])
def test_a_machine_is_busy_if_more_than_its_cores_are_wanted(
    load: float, is_busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking.os, "getloadavg", lambda: (load, 9.0, 9.0))
    monkeypatch.setattr(forking.os, "cpu_count", lambda: 4)
    assert forking.is_busy(2) == is_busy


def test_a_machine_that_does_not_tell_its_load_is_not_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> None:
        raise OSError

    monkeypatch.setattr(forking.os, "getloadavg", fails)
    assert not forking.is_busy(2)


def test_workers_that_cannot_be_had_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_choice, "why_not", lambda: "this process has 2 threads of Python")
    monkeypatch.setattr(worker_choice, "available_cores", lambda: 4)
    assert worker_choice.most_workers(None, True) == 1
    assert worker_choice.most_workers(None, False) == 1
    with pytest.raises(CompileError) as error:
        worker_choice.most_workers(2, True)
    assert str(error.value) == (
        "2 workers cannot be started: this process has 2 threads of Python\n"
        "  help: leave the number of workers out: the server then takes what it can"
    )
    with pytest.raises(CompileError) as error:
        worker_choice.most_workers(2, False)
    assert str(error.value) == (
        "2 workers cannot share a prediction on OpenFHE: it has threads instead\n"
        "  help: set their number in the environment: OMP_NUM_THREADS"
    )
    with pytest.raises(CompileError) as error:
        worker_choice.most_workers(0, True)
    assert str(error.value) == "0 workers cannot compute anything\n  help: give 1, or more"
    monkeypatch.setattr(worker_choice, "why_not", lambda: "")
    assert worker_choice.most_workers(None, True) == 4
    assert worker_choice.most_workers(3, True) == 3


def test_workers_stay_within_the_memory() -> None:
    program = matrices((1, 1), 128)
    many = worker_choice.schedule_within(program, 8, 1e12)
    few = worker_choice.schedule_within(program, 8, 150e6)
    assert many is not None and few is not None
    assert many.workers > few.workers >= 2
    assert worker_choice.schedule_within(program, 8, 20e6) is None
