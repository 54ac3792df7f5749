"""On how many cores a server computes one prediction: never on more than pays."""

from __future__ import annotations

from hec.compiler.ckks_ir import Program
from hec.compiler.errors import fail
from hec.compiler.worker_memory import worker_bytes
from hec.compiler.worker_schedule import ExchangeCosts, Schedule, best_schedule
from hec.runtime.forking import available_cores, why_not

_HELP = "leave the number of workers out: the server then takes what it can"


def most_workers(wanted: int | None, is_shareable: bool) -> int:
    """Return how many processes may compute; raise `CompileError` if it cannot be those `wanted`.

    Nothing wanted: as many as there are cores, and one where processes cannot be started.
    """
    if wanted is not None and wanted < 1:
        raise fail(f"{wanted} workers cannot compute anything", help="give 1, or more")
    if wanted == 1 or (wanted is None and available_cores() == 1):
        return 1
    if not is_shareable:
        if wanted is None:
            return 1
        message = f"{wanted} workers cannot share a prediction on OpenFHE: it has threads instead"
        raise fail(message, help="set their number in the environment: OMP_NUM_THREADS")
    obstacle = why_not()
    if obstacle and wanted is not None:
        raise fail(f"{wanted} workers cannot be started: {obstacle}", help=_HELP)
    return 1 if obstacle else wanted or available_cores()


def schedule_within(
    program: Program, most: int, room: float, exchange: ExchangeCosts | None = None
) -> Schedule | None:
    """Return the fastest schedule of at most so many processes that fits in `room` bytes."""
    schedule = best_schedule(program, most, exchange)
    while schedule is not None and worker_bytes(program, schedule) > room:
        schedule = best_schedule(program, schedule.workers - 1, exchange)
    return schedule
