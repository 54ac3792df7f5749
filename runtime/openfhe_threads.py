"""Work on many ciphertexts at once: a Python thread for each core, which OpenFHE lets run.

OpenFHE's own threads share the limbs of one ciphertext, and wait for each other after every step.
Where there are many ciphertexts to do the same to, each thread takes its own instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final, TypeVar

from threadpoolctl import ThreadpoolController, threadpool_limits

FEWEST: Final = 32  # ciphertexts that are worth it

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads() -> int:
    """Return how many threads OpenFHE computes with."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(told) if told.isdigit() and int(told) else os.cpu_count() or 1


def each(action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what `action` makes of every item, in their order.

    With several threads at work, OpenFHE uses no others.
    """
    known = list(items)
    if len(known) < FEWEST or threads() == 1:
        return list(map(action, known))
    return list(_pool().map(action, known))


def few(action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what `action`, which multiplies large matrices, makes of every item, however few.

    numpy uses one thread in each: threads that wait for others take two and a half times the
    processor's time in all, measured.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        return list(_pool().map(action, items))


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all that is loaded


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), "hec-blocks", initializer=_alone)


def _alone() -> None:
    """Let OpenFHE use no thread but this one, from here on."""
    threadpool_limits(1, user_api="openmp")
