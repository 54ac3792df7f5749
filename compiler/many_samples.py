"""A sparse matrix times many samples: most of what calibrating costs, so it is done cache by cache.

Some samples at a time stay in a core's cache while the matrix streams by, and several cores take
turns. Every sample's sums are formed in the same order as in one product, so results are the same
to the last bit. Measured: docs/design/017-compile-time.md.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Array = NDArray[np.float64]
TOGETHER: Final = 32  # samples: 256 bytes of every element
THREADS: Final = min(4, os.cpu_count() or 1)
WORTH_THREADS: Final = 20_000_000  # multiplications: ten milliseconds


def times_samples(matrix: sp.csr_array, samples: Array) -> Array:
    """Return `matrix` @ x of every x, (samples, rows), for (samples, columns) `samples`."""
    found = np.empty((len(samples), matrix.shape[0]))

    def multiply(start: int) -> None:
        chosen = samples[start : start + TOGETHER]
        found[start : start + TOGETHER] = (matrix @ chosen.T).T

    starts = range(0, len(samples), TOGETHER)
    if THREADS == 1 or len(samples) * matrix.nnz < WORTH_THREADS:
        for start in starts:
            multiply(start)
        return found
    with ThreadPoolExecutor(THREADS) as threads:  # gone afterwards: a server forks its workers
        list(threads.map(multiply, starts))
    return found
