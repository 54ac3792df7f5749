"""How much memory worker processes take beside the server that they are forked from."""

from __future__ import annotations

from typing import Final

from hec.compiler.ckks_ir import LIMB_BYTES, Program
from hec.compiler.live_ciphertexts import live_bytes
from hec.compiler.worker_schedule import Schedule

RING: Final = 4  # ciphertexts on their way that a process keeps room for
_PROCESS_BYTES: Final = 7 * 10**6  # of interpreter and libraries; measured 2026-11-27


def worker_bytes(program: Program, schedule: Schedule) -> int:
    """Return the bytes that the other processes take, and what is on its way between all.

    Keys and encoded weights are shared. Ciphertexts are not: each process has at most those that a
    server has by itself.
    """
    workers = schedule.workers
    limbs = program.parameters.ring_degree * len(program.parameters.primes)
    ring = RING * 2 * limbs * LIMB_BYTES
    return (workers - 1) * (live_bytes(program) + _PROCESS_BYTES) + workers * ring
