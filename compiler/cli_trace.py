"""What `hec run --trace` writes and tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hec.compiler.cli_files import check_output
from hec.compiler.cli_terminal import duration, show_facts, show_table
from hec.compiler.errors import fail

if TYPE_CHECKING:
    from hec.compiler.plan import Plan
    from hec.runtime.trace import Trace


def check_trace(path: Path, output: Path, inputs: Sequence[Path]) -> None:
    """Raise `CompileError` if the trace cannot be written, or would replace another file."""
    check_output(path, inputs)
    if path.resolve() == output.resolve():
        raise fail("the trace would replace the output", str(path), "give another path to --trace")


def traced(plan: Plan, workers: int = 1) -> Trace:
    """Return an empty trace that knows the forecast of every instruction, on so many cores."""
    from hec.compiler.host_costs import chosen_table
    from hec.compiler.plan_forecast import forecast_of
    from hec.compiler.worker_schedule import Work, shared_out
    from hec.runtime.trace import Trace

    table = chosen_table(None, plan.client.backend)
    if workers > 1:
        return Trace(shared_out(Work.of(plan.server.program, table), workers).seconds)
    return Trace(forecast_of(plan.server, table).seconds)


def show_trace(trace: Trace, path: Path) -> None:
    """Write the trace to `path`, and print how much of the time the library took."""
    from hec.runtime import trace_events

    trace_events.save(trace, path)
    predicted = sum(trace.predicted)
    cores = "" if trace.workers == 1 else f" on {trace.workers} cores"
    show_facts(
        [
            (str(path), "where time went: open it at ui.perfetto.dev"),
            ("prediction", f"{duration(trace.wall)}{cores}; {duration(predicted)} were forecast"),
            ("efficiency", f"{trace.efficiency:.3f}: the share that calls of the library took"),
        ]
    )
    rows = [
        (name, str(calls.count), f"{1000 * calls.seconds:.1f}", f"{calls.seconds / trace.wall:.3f}")
        for name, calls in trace.totals.items()
    ]
    show_table("\nCalls of the library", ("call", "count", "ms", "share"), rows)
