"""Worker processes on SEAL: the same ciphertexts to the last bit, copied as they are."""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli_runner import hec
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import HecWarning, InvalidProgram
from hec.compiler.memory import server_memory
from hec.compiler.plan import Plan
from hec.compiler.quantities import duration
from hec.compiler.worker_memory import worker_bytes
from hec.compiler.worker_schedule import Work, best_schedule, shared_out
from hec.runtime import executor, server, worker_choice, workers
from hec.runtime.client import Client
from hec.runtime.memory_file import MemoryFile
from hec.runtime.server import Server
from hec.runtime.tenseal_client import TensealSecret
from hec.runtime.tenseal_context import TensealContext
from hec.runtime.tenseal_copies import Copies
from hec.runtime.trace import Trace
from hec.runtime.workers import Workers
from sample_plans import DEEP, SCALE, SMALL, deep_program, plan_of
from test_worker_schedule import FREE, matrices
from test_workers import is_alive

pytestmark = [
    pytest.mark.encrypted,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux only"),
]
LARGE = matrices((1, 2, 1), 80)


@pytest.fixture(autouse=True)
def threads_of_other_tests_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_choice, "why_not", lambda: "")


@pytest.fixture(autouse=True)
def no_descriptor_and_no_process_is_left(large: Served, deep: Served) -> Iterator[None]:
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


class Served:
    """A plan, its keys, a request, and what one process answers to that."""

    def __init__(self, plan: Plan) -> None:
        self.plan, client = plan, Client(plan)
        self.keys = client.evaluation_keys()
        random = np.random.default_rng(0)
        sample = {i.name: random.uniform(*i.interval, i.shape) for i in plan.client.inputs}
        self.request = client.encrypt(sample)
        self.reply = Server(plan, self.keys, workers=1).run(self.request)


@pytest.fixture(scope="module")
def large() -> Iterator[Served]:
    yield Served(plan_of(LARGE))


@pytest.fixture(scope="module")
def deep() -> Iterator[Served]:
    yield Served(plan_of(deep_program()))


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_answer_the_very_same_bytes(large: Served, count: int) -> None:
    with Server(large.plan, large.keys, workers=count) as several:
        assert several.workers == count
        for _ in range(3):
            assert several.run(large.request) == large.reply


@pytest.mark.parametrize("raw", [True, False], ids=["copied", "saved"])
def test_every_operation_gives_the_same_ciphertexts(deep: Served, raw: bool) -> None:
    alone = Server(deep.plan, deep.keys, workers=1)
    program, context = deep.plan.server.program, alone._evaluator.backend.context
    copies = Copies(context, try_raw=raw)
    assert copies.is_raw == raw
    prepared = executor.prepare(program, alone._evaluator.backend)
    group = Workers(prepared, shared_out(Work.of(program), 2, FREE), copies)
    inputs, images = alone._read(deep.request, "")
    found = group.run(inputs)
    group.close()
    assert alone._write(found, images) == deep.reply


def test_encoding_for_every_run_gives_the_same_bytes(large: Served) -> None:
    most = server_memory(large.plan.server.program).peak - 1e6
    with Server(large.plan, large.keys, max_ram=most, workers=2) as several:
        assert several.workers == 2 and several._prepared.streamed
        for _ in range(2):
            assert several.run(large.request) == large.reply


def test_a_server_without_memory_for_workers_has_none(large: Served) -> None:
    least = server_memory(large.plan.server.program).least
    with Server(large.plan, large.keys, max_ram=least + 1e6, workers=2) as alone:
        assert alone.workers == 1
        assert alone.run(large.request) == large.reply


def test_a_server_leaves_its_workers_idle_while_the_machine_is_busy(
    large: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = True
    monkeypatch.setattr(server, "is_busy", lambda workers: busy)
    monkeypatch.setattr(worker_choice, "available_cores", lambda: 2)
    steps = sum(type(x).__name__ not in {"Input", "Output"} for x in LARGE.instructions)
    with Server(large.plan, large.keys) as several:
        for busy in (True, False, True):
            trace = Trace()
            assert several.run(large.request, trace=trace) == large.reply
            assert len(trace.instructions) == (steps if busy else 2 * steps)
    with Server(large.plan, large.keys, workers=2) as asked_for:
        trace = Trace()
        assert asked_for.run(large.request, trace=trace) == large.reply
        assert len(trace.instructions) == 2 * steps


@pytest.mark.parametrize("traced", [False, True])
def test_a_server_goes_on_alone_when_a_worker_is_killed(large: Served, traced: bool) -> None:
    trace = Trace() if traced else None
    several = Server(large.plan, large.keys, workers=2)
    assert several._workers is not None
    (process,) = several._workers.processes
    os.kill(process, signal.SIGKILL)
    with pytest.warns(HecWarning) as warned:
        assert several.run(large.request, trace=trace) == large.reply
    assert not is_alive(process)
    (warning,) = warned
    told, _, help_text = str(warning.message).partition("\n")
    assert told.startswith("A worker process was lost (a process ")
    assert told.endswith("): predictions go on one core")
    assert help_text == "  help: create the server again"
    assert several.workers == 1
    assert several.run(large.request) == large.reply
    if trace is not None:
        steps = sum(type(x).__name__ not in {"Input", "Output"} for x in LARGE.instructions)
        assert len(trace.instructions) == steps


def test_a_server_that_cannot_fork_computes_alone(
    large: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(workers, "fork", fails)
    with pytest.warns(HecWarning) as warned:
        alone = Server(large.plan, large.keys, workers=2)
    (warning,) = warned
    assert str(warning.message) == (
        "Worker processes cannot be started (Cannot allocate memory): predictions go on one core\n"
        "  help: free memory, or raise its limits"
    )
    assert alone.workers == 1
    assert alone.run(large.request) == large.reply


def test_weights_are_not_encoded_for_every_run_to_make_room_for_workers(large: Served) -> None:
    program = large.plan.server.program
    schedule, memory = best_schedule(program, 2), server_memory(program)
    assert schedule is not None
    more = worker_bytes(program, schedule)
    for spare, expected in ((more + 1, 2), (more - 1e6, 1)):
        with Server(large.plan, large.keys, max_ram=memory.peak + spare, workers=2) as found:
            assert found.workers == expected
            assert not found._prepared.streamed


def test_a_closed_server_answers_by_itself(large: Served) -> None:
    several = Server(large.plan, large.keys, workers=2)
    assert several._workers is not None
    (process,) = several._workers.processes
    several.close()
    assert not is_alive(process) and several.workers == 1
    assert several.run(large.request) == large.reply


def test_without_a_number_there_are_as_many_as_pay_on_this_machine(
    large: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "is_busy", lambda workers: False)
    for cores, expected in ((1, 1), (2, 2)):
        monkeypatch.setattr(worker_choice, "available_cores", lambda cores=cores: cores)
        with Server(large.plan, large.keys) as found:
            assert found.workers == expected
    monkeypatch.setattr(server, "schedule_within", lambda *_: None)
    with Server(large.plan, large.keys) as alone:
        assert alone.workers == 1


@pytest.mark.parametrize("parameters", [SMALL, DEEP], ids=["4096", "8192"])
def test_copies_of_ciphertexts_are_exact_at_every_level(parameters: EncryptionParameters) -> None:
    context = TensealContext(parameters)
    secret, copies = TensealSecret(context), Copies(context)
    assert copies.is_raw
    for level in range(parameters.top_level, -1, -1):
        values = np.random.default_rng(level).uniform(-1, 1, parameters.slots)
        data = secret.encrypt(values, level, SCALE, "")
        x = context.load_ciphertext(data, level, SCALE, "")
        for way in (copies, Copies(context, try_raw=False)):
            file = MemoryFile(copies.largest)
            way.write(x, file)
            y = way.read(file)
            size = 2 * (level + 1) * parameters.ring_degree
            assert all(x[i] == y[i] for i in range(size))
            assert (y.scale, y.parms_id(), y.size()) == (x.scale, x.parms_id(), 2)
            file.close()
    copies.close()


@pytest.mark.parametrize("missing", ["/proc/self/mem", "address", "format"])
def test_where_limbs_are_not_found_ciphertexts_are_saved(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise PermissionError if missing == "/proc/self/mem" else InvalidProgram("not there")

    if missing == "/proc/self/mem":
        monkeypatch.setattr("hec.runtime.tenseal_copies.os.open", fails)
    if missing == "address":
        monkeypatch.setattr(Copies, "_address", fails)
    if missing == "format":
        monkeypatch.setattr(Copies, "_version_of_seal", lambda copies: (99, 0))
    copies = Copies(TensealContext(SMALL))
    assert not copies.is_raw
    copies.close()


def test_a_server_that_saves_counts_that(large: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "hec.runtime.tenseal_server.Copies", lambda context: Copies(context, try_raw=False)
    )
    with Server(large.plan, large.keys, workers=2) as several:
        assert several.run(large.request) == large.reply
        if several._workers is not None:
            copied = best_schedule(LARGE, 2)
            assert copied is not None
            assert several._workers._schedule.total_seconds > copied.total_seconds


def test_hec_run_takes_as_many_cores_as_it_may_and_tells(large: Served, tmp_path: Path) -> None:
    plan, request = tmp_path / "model.hec", tmp_path / "x.enc"
    large.plan.save(plan)
    (tmp_path / "evaluation.key").write_bytes(large.keys)
    request.write_bytes(large.request)
    common = ("run", plan, request, "--keys", tmp_path / "evaluation.key", "-o", tmp_path / "y.enc")
    for count, told in ((1, ""), (2, " on 2 cores")):
        run = hec(*common, "--workers", count, "--trace", tmp_path / "trace.json")
        assert run.exit_code == 0, run.stderr
        assert (tmp_path / "y.enc").read_bytes() == large.reply
        forecast = (
            shared_out(Work.of(LARGE), 2).total_seconds
            if count > 1
            else sum(Work.of(LARGE).seconds)
        )
        pattern = rf"prediction +\S+ m?s{told}; {re.escape(duration(forecast))} were forecast"
        assert re.search(pattern, run.stdout), run.stdout


def test_no_file_has_a_name(large: Served) -> None:
    with Server(large.plan, large.keys, workers=2) as several:
        several.run(large.request)
        maps = Path("/proc/self/maps").read_text()
        assert "/memfd:hec" in maps and "/dev/shm" not in maps
