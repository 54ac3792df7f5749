"""A matrix of diagonals as one sparse matrix, shared by those who use it at the same time."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from hec.runtime import whole_matrix as module
from hec.runtime.whole_matrix import whole_matrix
from sample_plans import dense, diagonals


@pytest.mark.parametrize("period", [4, 16])
def test_it_is_what_the_diagonals_stand_for(period: int) -> None:
    full = diagonals(1, 16, (2, 3), (-3, 0, 5))
    matrix = replace(full, values=sp.csr_array(full.values[:, :period]))
    x = np.random.default_rng(0).standard_normal((3, 16))
    found = whole_matrix(matrix).rows @ x.reshape(-1)
    np.testing.assert_allclose(found, dense(matrix, x).reshape(-1), atol=1e-6)


def test_it_is_made_once_and_not_kept() -> None:
    matrix = diagonals(1, 16, (1, 1), (0, 1))
    one, other = whole_matrix(matrix), whole_matrix(matrix)
    assert one is other
    del one, other
    gc.collect()
    assert matrix not in module._IN_USE
