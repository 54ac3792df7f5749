"""How much memory worker processes take beside the server that they are forked from."""

from __future__ import annotations

from typing import Final

from hec.compiler.ckks_ir import LIMB_BYTES, Program
from hec.compiler.live_ciphertexts import live_bytes
from hec.compiler.typing_rules import infer_types
from hec.compiler.worker_schedule import Schedule

RING: Final = 4  # ciphertexts on their way that a process keeps room for
_PROCESS_BYTES: Final = 25 * 10**6  # what is not shared of interpreter and libraries; measured


def worker_bytes(program: Program, schedule: Schedule) -> int:
    """Return the bytes that the other processes take, and what is on its way between all.

    Keys and encoded weights are shared. Ciphertexts are not: each process has those that a server
    has by itself, and the sums of its giant steps, all at once.
    """
    types, workers = infer_types(program), schedule.workers
    pair = 2 * program.parameters.ring_degree * LIMB_BYTES
    sums = max(
        (
            max(map(len, shares.giants)) * pair * (types[position].level + 1)
            for position, shares in schedule.linear.items()
        ),
        default=0,
    )
    ring = RING * pair * len(program.parameters.primes)
    own = live_bytes(program) + _PROCESS_BYTES
    return (workers - 1) * own + workers * (sums + ring)
