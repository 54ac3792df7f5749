"""A trace as a file that Perfetto (ui.perfetto.dev) and Chrome open: the trace-event format.

One track for each thread; slices lie inside each other as the calls did. Names come from a plan,
which may be hostile: they are cut, and JSON escapes them.

Source: Trace Event Format, "Complete events" (ph X) and "Metadata events" (ph M); times in us.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import log2
from os import PathLike
from pathlib import Path
from typing import Final, TypeAlias

from hec.compiler.atomic_file import atomic_file
from hec.compiler.ckks_ir import ValueType
from hec.compiler.errors import InvalidProgram, one_line
from hec.compiler.typing_rules import infer_types, operands
from hec.runtime.trace import Span, Trace

Event: TypeAlias = "dict[str, str | int | float | dict[str, str | int | float]]"
_PROCESS: Final = 1
_LONGEST_NAME: Final = 200  # characters
_MICRO: Final = 1e-3  # microseconds in a nanosecond


def save(trace: Trace, path: str | PathLike[str]) -> None:
    """Write the trace, whole or not at all; raise `CompileError` if that fails."""
    document = {
        "displayTimeUnit": "ms",
        "otherData": {"made by": "hec", "efficiency": round(trace.efficiency, 4)},
        "traceEvents": list(events(trace)),
    }
    with atomic_file(Path(path)) as file:
        file.write(json.dumps(document, separators=(",", ":")).encode("ascii"))


def events(trace: Trace) -> Iterator[Event]:
    """Yield the events of the trace: names of the tracks, phases, instructions, calls."""
    program = trace.program
    if program is None:
        raise InvalidProgram("nothing was traced yet")
    start = trace.phases[0].start
    numbers = {trace.main: 1}
    for call in trace.calls:
        numbers.setdefault(call.thread, len(numbers) + 1)
    yield _metadata("process_name", 0, "hec")
    for thread, number in numbers.items():
        yield _metadata("thread_name", number, _thread_name(thread, trace))

    def slice_of(span: Span, name: str, category: str) -> Event:
        return {
            "ph": "X",
            "name": name,
            "cat": category,
            "ts": round(_MICRO * (span.start - start), 3),
            "dur": round(_MICRO * (span.end - span.start), 3),
            "pid": _PROCESS,
            "tid": numbers[span.thread],
        }

    yield from (slice_of(span, str(span.name), "phase") for span in trace.phases)
    types = infer_types(program)
    for span in trace.instructions:
        name = _title(trace, int(span.name))
        yield {**slice_of(span, name, "layer"), "args": _facts(trace, types, int(span.name))}
    yield from (slice_of(span, str(span.name), "call") for span in trace.calls)


def _thread_name(thread: int, trace: Trace) -> str:
    if thread == trace.main:
        return "server"
    return "encode beside" if thread > 0 else f"worker process {-thread}"


def _metadata(name: str, thread: int, text: str) -> Event:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": thread, "args": {"name": text}}


def _title(trace: Trace, position: int) -> str:
    label = trace.labels[position] if position < len(trace.labels) else ""
    if not label and trace.program is not None:
        label = type(trace.program.instructions[position]).__name__
    text = one_line(label)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _facts(
    trace: Trace, types: tuple[ValueType, ...], position: int
) -> dict[str, str | int | float]:
    if trace.program is None:
        return {}
    instruction = trace.program.instructions[position]
    entering = max((types[o].level for o in operands(instruction)), default=types[position].level)
    facts: dict[str, str | int | float] = {
        "instruction": position,
        "operation": type(instruction).__name__,
        "level in": entering,
        "level out": types[position].level,
        "scale bits": round(log2(types[position].scale), 3),
        "ciphertexts": types[position].blocks,
    }
    if position < len(trace.predicted):
        facts["predicted seconds"] = round(trace.predicted[position], 6)
    return facts
