"""Traces: what a run leaves behind for Perfetto, and what it must never hold."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cli_runner import hec
from hec.compiler.backend import Accumulates, Hoists, Pairs, Refreshes
from hec.compiler.ckks_ir import Program
from hec.compiler.errors import InvalidProgram
from hec.compiler.kernels import FusesLinear
from hec.compiler.plan import Plan
from hec.runtime import executor, trace_events
from hec.runtime.cleartext import Cleartext, Plain, Slots
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulator import Simulator
from hec.runtime.trace import (
    COMPUTE,
    PASS_ON,
    READ,
    WAIT,
    WAIT_FOR_WORKER,
    WRITE,
    Calls,
    Span,
    Trace,
)
from sample_plans import DEEP, TINY, deep_program, linear_program, plan_of
from test_executor import encrypted, values

Array = NDArray[np.float64]
PROTOCOLS = (Refreshes, Pairs, Accumulates, Hoists, FusesLinear)


class Everything(Cleartext):
    """A backend with every optional protocol."""

    encodes_beside = True

    def bootstrap(self, x: Slots, coefficients: Array) -> Slots:
        return x

    def encode_pair(self, real: Array, imaginary: Array, level: int, scale: float) -> Plain:
        return self.encode(real, level, scale)

    def times_i(self, x: Slots) -> Slots:
        return x

    def accumulate(self, total: Slots, x: Slots) -> Slots:
        return self.add(total, x)

    def rotate_each(self, x: Slots, steps: Sequence[int]) -> list[Slots]:
        return [self.rotate(x, step) for step in steps]


def traced(
    program: Program, labels: Sequence[str] = (), predicted: Sequence[float] = (), room: float = 0.0
) -> tuple[Trace, dict[str, list[Slots]]]:
    """Return the trace of a run whose diagonals do not fit in `room` bytes, and its outputs."""
    trace = Trace(predicted)
    prepared = executor.prepare(program, Beside(TINY), room)
    inputs = encrypted(program)
    trace.begin(program, labels)
    with trace.phase(COMPUTE):
        outputs = executor.run(prepared, inputs, trace=trace)
    return trace, outputs


class Beside(Cleartext):
    """Cleartext that encodes on another thread."""

    encodes_beside = True


def slices(trace: Trace, category: str) -> list[dict[str, Any]]:
    found: list[Any] = list(trace_events.events(trace))
    return [event for event in found if event.get("cat") == category]


def test_a_traced_run_computes_the_same() -> None:
    program = deep_program(TINY)
    _, outputs = traced(program)
    expected = executor.run(executor.prepare(program, Cleartext(TINY)), encrypted(program))
    for name, blocks in expected.items():
        np.testing.assert_array_equal(values(outputs[name]), values(blocks))


@pytest.mark.parametrize("backend", [Cleartext(TINY), Everything(TINY), Simulator(TINY)])
def test_the_wrapper_has_just_the_protocols_of_the_backend(backend: Cleartext) -> None:
    around = Trace().around(backend)
    assert [isinstance(around, kind) for kind in PROTOCOLS] == [
        isinstance(backend, kind) for kind in PROTOCOLS
    ]
    assert getattr(around, "encodes_beside", None) == getattr(backend, "encodes_beside", None)


def test_every_instruction_is_a_slice_with_its_layer_and_levels() -> None:
    program = deep_program(TINY)
    labels = [f"layer{position}" for position in range(12)]
    trace, _ = traced(program, labels, [0.5] * 12)
    layers = slices(trace, "layer")
    assert [x["name"] for x in layers] == labels[2:10]
    square = layers[4]["args"]
    assert square == {
        "instruction": 6,
        "operation": "Multiply",
        "level in": 3,
        "level out": 3,
        "scale bits": pytest.approx(56, abs=0.01),
        "ciphertexts": 2,
        "predicted seconds": 0.5,
    }
    assert layers[1]["args"]["level in"] == layers[1]["args"]["level out"] + 1  # a rescaling


def test_slices_lie_inside_each_other() -> None:
    trace, _ = traced(deep_program(TINY))
    (phase,) = slices(trace, "phase")
    layers = slices(trace, "layer")
    main = [call for call in slices(trace, "call") if call["tid"] == 1]
    assert main and all(_lies_in(layer, [phase]) for layer in layers)
    assert all(_lies_in(call, layers) for call in main)
    ends = [layer["ts"] + layer["dur"] for layer in layers]
    assert all(x["ts"] >= end for x, end in zip(layers[1:], ends, strict=False))


def _lies_in(inner: dict[str, Any], outer: Sequence[dict[str, Any]]) -> bool:
    slack = 0.002  # microseconds: both ends are rounded
    return any(
        x["ts"] - slack <= inner["ts"] and inner["ts"] + inner["dur"] <= x["ts"] + x["dur"] + slack
        for x in outer
    )


def test_encoding_beside_has_a_track_of_its_own() -> None:
    trace, _ = traced(deep_program(TINY))
    calls = slices(trace, "call")
    assert {x["name"] for x in calls if x["tid"] == 2} == {"encode"}
    assert WAIT in {x["name"] for x in calls if x["tid"] == 1}
    names = [e["args"] for e in trace_events.events(trace) if e["name"] == "thread_name"]
    assert names == [{"name": "server"}, {"name": "encode beside"}]


def test_totals_are_the_sums_of_the_calls_of_the_main_thread() -> None:
    trace, _ = traced(deep_program(TINY))
    calls = [x for x in slices(trace, "call") if x["tid"] == 1]
    for name, total in trace.totals.items():
        same = [x["dur"] for x in calls if x["name"] == name]
        assert total.count == len(same)
        assert total.seconds == pytest.approx(1e-6 * sum(same), abs=1e-8 * len(same))
    own = sum(total.seconds for name, total in trace.totals.items() if name != WAIT)
    assert trace.efficiency == pytest.approx(own / trace.wall)
    assert 0 < trace.efficiency < 1


def test_the_longest_calls_come_first() -> None:
    trace = Trace()
    trace.calls += [Span("add", 0, 3, 0), Span("rotate", 3, 9, 0), Span("add", 9, 11, 0)]
    assert list(trace.totals) == ["rotate", "add"]
    assert trace.totals["add"] == Calls(2, pytest.approx(5e-9))


def test_what_workers_record_stands_beside_the_main_thread() -> None:
    here, there = Trace(), Trace()
    here.instructions, here.calls = [Span(2, 0, 9, 7)], [Span("add", 1, 2, 7)]
    there.instructions, there.calls = [Span(2, 1, 8, 5)], [Span("rotate", 3, 4, 5)]
    here.main = 7
    assert here.workers == 1
    for number in (1, 2):
        here.add_worker(number, there.to_json())
    assert here.instructions == [Span(2, 0, 9, 7), Span(2, 1, 8, -1), Span(2, 1, 8, -2)]
    assert here.calls == [Span("add", 1, 2, 7), Span("rotate", 3, 4, -1), Span("rotate", 3, 4, -2)]
    assert here.workers == 3
    assert list(here.totals) == ["add"]  # of the main thread alone


def test_waiting_and_passing_on_are_not_the_librarys_time() -> None:
    trace = Trace()
    trace.phases = [Span(READ, 10, 12, 0), Span(COMPUTE, 12, 30, 0)]
    names = ("add", WAIT, WAIT_FOR_WORKER, PASS_ON)
    trace.calls = [Span(name, 12 + i, 12 + 2 * i + 5, 0) for i, name in enumerate(names)]
    assert trace.wall == pytest.approx(20e-9)
    assert trace.efficiency == pytest.approx(5 / 20)
    trace.instructions = [Span(0, 12, 30, 0)]
    trace.again()
    assert (trace.instructions, trace.calls, len(trace.phases)) == ([], [], 2)


def test_a_second_run_replaces_the_first() -> None:
    program = linear_program(TINY)
    trace = Trace()
    prepared = executor.prepare(program, Cleartext(TINY))
    counts = []
    for _ in range(2):
        trace.begin(program, ())
        with trace.phase(COMPUTE):
            executor.run(prepared, encrypted(program), trace=trace)
        counts.append((len(trace.phases), len(trace.instructions), len(trace.calls)))
    assert counts[0] == counts[1]
    assert counts[0][:2] == (1, 3)


def test_without_a_trace_nothing_is_recorded() -> None:
    program = deep_program(TINY)
    prepared = executor.prepare(program, Beside(TINY), 0.0)
    trace = Trace()
    trace.begin(program, ())
    with trace.phase(COMPUTE):
        executor.run(prepared, encrypted(program), trace=trace)
    before = len(trace.calls)
    executor.run(prepared, encrypted(program))
    assert len(trace.calls) == before


def test_what_was_not_traced_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidProgram, match="nothing was traced yet"):
        trace_events.save(Trace(), tmp_path / "trace.json")
    with pytest.raises(InvalidProgram, match="nothing was traced yet"):
        list(trace_events.events(Trace()))


def test_the_file_is_what_the_format_says(tmp_path: Path) -> None:
    trace, _ = traced(deep_program(TINY), predicted=[0.1] * 12)
    path = tmp_path / "trace.json"
    trace_events.save(trace, path)
    document = json.loads(path.read_bytes())
    assert set(document) == {"displayTimeUnit", "otherData", "traceEvents"}
    for event in document["traceEvents"]:
        if event["ph"] == "M":
            assert set(event) == {"ph", "name", "pid", "tid", "args"}
            continue
        assert set(event) - {"args"} == {"ph", "name", "cat", "ts", "dur", "pid", "tid"}
        assert event["ph"] == "X" and event["ts"] >= 0 and event["dur"] >= 0
        numbers = event.get("args", {}).values()
        assert all(isinstance(x, str | int | float) for x in numbers)  # no list: no values


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    program = linear_program(TINY)
    name = '"},{"ph":"X"\x00\x1b[2J</script>\u202e\ud83d' + "x" * 10_000
    trace, _ = traced(program, [name] * len(program.instructions))
    path = tmp_path / "trace.json"
    trace_events.save(trace, path)
    data = path.read_bytes()
    assert data.isascii() and len(data) < 20_000
    (found,) = {e["name"] for e in json.loads(data)["traceEvents"] if e.get("cat") == "layer"}
    assert len(found) == 200 and "\x1b" not in found and found.startswith('"},{"ph":"X"')


def test_a_trace_that_cannot_be_written_is_an_error_before_the_run(tmp_path: Path) -> None:
    for name in ("plan", "x.enc", "keys"):
        (tmp_path / name).write_bytes(b"")
    plan, message, keys = (tmp_path / name for name in ("plan", "x.enc", "keys"))
    common = ("run", plan, message, "--keys", keys, "-o", tmp_path / "y.enc")
    for path, told in (
        (tmp_path / "y.enc", "the trace would replace the output"),
        (plan, "the output would replace the input"),
        (tmp_path / "nowhere" / "trace.json", "the folder of the output does not exist"),
    ):
        run = hec(*common, "--trace", path)
        assert run.exit_code == 2 and told in run.stderr


@pytest.mark.encrypted
def test_a_server_records_a_whole_prediction(tmp_path: Path) -> None:
    plan = plan_of(deep_program(DEEP))
    client = Client(plan)
    server = Server(plan, client.evaluation_keys(), workers=1)
    sample = {item.name: np.full(item.shape, 0.25) for item in plan.client.inputs}
    request, trace = client.encrypt(sample), Trace([0.01] * 12)
    expected = client.decrypt(server.run(request))
    found = client.decrypt(server.run(request, trace=trace))
    assert isinstance(expected, dict) and isinstance(found, dict)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-3)
    assert [span.name for span in trace.phases] == [READ, COMPUTE, WRITE]
    assert {"load", "save", "rotate", "multiply", "rescale"} <= set(trace.totals)
    assert 0.8 < trace.efficiency < 1  # on an idle machine 0.97
    first, *_, last = slices(trace, "phase")
    assert first["ts"] == 0
    assert last["ts"] + last["dur"] == pytest.approx(1e6 * trace.wall, rel=1e-6)


@pytest.mark.encrypted
def test_hec_run_writes_and_tells_where_time_went(tmp_path: Path) -> None:
    plan, keys, trace = (tmp_path / name for name in ("model.hec", "keys", "trace.json"))
    plan_of(deep_program(DEEP)).save(plan)
    part = Client(Plan.load_client(plan))
    part.save(keys)
    sample = {item.name: np.full(item.shape, 0.25) for item in part.part.inputs}
    (tmp_path / "x.enc").write_bytes(part.encrypt(sample))
    evaluation = keys / "evaluation.key"
    common = ("run", plan, tmp_path / "x.enc", "--keys", evaluation, "-o", tmp_path / "y.enc")
    run = hec(*common, "--workers", 1, "--trace", trace)
    assert run.exit_code == 0, run.stderr
    assert "where time went: open it at ui.perfetto.dev" in run.stdout
    assert re.search(
        r"efficiency +0\.[89]\d\d: the share that calls of the library took", run.stdout
    )
    layers = [e for e in json.loads(trace.read_bytes())["traceEvents"] if e.get("cat") == "layer"]
    assert [e["name"] for e in layers] == [f"node {i}" for i in range(2, 10)]
    assert all(e["args"]["predicted seconds"] >= 0 for e in layers)
    assert "efficiency" not in hec(*common).stdout
