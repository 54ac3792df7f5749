"""A matrix times many samples, some at a time: the same as all at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler import many_samples
from hec.compiler.many_samples import TOGETHER, times_samples


@pytest.mark.parametrize("count", [1, TOGETHER, 2 * TOGETHER + 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_sums_are_those_of_one_product(
    monkeypatch: pytest.MonkeyPatch, count: int, threads: int
) -> None:
    monkeypatch.setattr(many_samples, "THREADS", threads)
    monkeypatch.setattr(many_samples, "WORTH_THREADS", 0)
    random = np.random.default_rng(count)
    matrix = sp.random_array((60, 40), density=0.3, format="csr", rng=random)
    samples = random.standard_normal((count, 40))
    before = threading.active_count()
    found = times_samples(matrix, samples)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, (matrix @ samples.T).T)
    assert threading.active_count() == before  # a server forks its workers


def test_no_samples_have_no_results() -> None:
    assert times_samples(sp.csr_array((3, 2)), np.zeros((0, 2))).shape == (0, 3)
