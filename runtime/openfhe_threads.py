"""Work on many ciphertexts at once: a Python thread for each core, which OpenFHE lets run.

OpenFHE's own threads share the limbs of one ciphertext, and wait for each other after every step.
Where there are many ciphertexts to do the same to, each thread takes its own instead.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final, TypeVar

FEWEST: Final = 8  # ciphertexts that are worth it
_OPENMP: Final = "libgomp.so.1"

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads() -> int:
    """Return how many threads OpenFHE computes with."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(told) if told.isdigit() and int(told) else os.cpu_count() or 1


def each(action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what `action` makes of every item, in their order."""
    known = list(items)
    pool = _pool() if len(known) >= FEWEST and threads() > 1 else None
    return list(map(action, known)) if pool is None else list(pool.map(action, known))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor | None:
    """Return threads in which OpenFHE has no others; None where it cannot be told so."""
    try:
        limit = ctypes.CDLL(_OPENMP).omp_set_num_threads
    except (OSError, AttributeError):
        return None
    return ThreadPoolExecutor(threads(), "hec-blocks", initializer=limit, initargs=(1,))
