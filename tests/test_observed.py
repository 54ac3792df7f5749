"""Sensitivities: the error of bootstraps as samples carry it to every tensor."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler import fourier
from hec.compiler.calibration import Calibration
from hec.compiler.observed import ASSUMED_MAGNITUDE, observe
from hec.compiler.tensor_ir import Bootstrap, Input, Linear, Output, TensorGraph, TensorOperation
from hec.passes.matrices import diagonal_matrix
from small_graphs import X

IDENTITY = fourier.fitted(lambda x: x, 15)
SIZE = int(np.prod(X.shape))


def chain(*factors: float) -> TensorGraph:
    """Return a bootstrap of the identity, and layers that multiply by the factors."""
    operations = [X, Bootstrap(0, IDENTITY, X.shape)]
    for factor in factors:
        matrix = diagonal_matrix(np.full(SIZE, factor))
        source = len(operations) - 1
        operations.append(Linear((source,), (matrix,), np.zeros(SIZE), X.shape))
    return TensorGraph(tuple(operations), (Output("y", len(operations) - 1),))


def samples(count: int = 400) -> Calibration:
    values = np.random.default_rng(0).uniform(-0.4, 0.4, (count, SIZE))
    return Calibration({X.name: values})


def test_an_error_grows_with_the_layers_that_it_passes() -> None:
    found = observe(chain(3.0, 0.5), samples()).sensitivities
    assert found is not None
    assert found[0] == 0.0
    np.testing.assert_allclose(found[1:], [1.0, 3.0, 1.5], rtol=0.25)


def test_what_all_elements_share_does_not_average_out() -> None:
    """The rules would divide by the root of the number of elements."""
    share = np.zeros((SIZE, SIZE))
    share[:, 0] = 1.0
    copy = Linear((1,), (sp.csr_array(share),), np.zeros(SIZE), X.shape)
    mean = Linear((2,), (sp.csr_array(np.full((1, SIZE), 1 / SIZE)),), np.zeros(1), (1, 1))
    graph = TensorGraph((X, Bootstrap(0, IDENTITY, X.shape), copy, mean), (Output("y", 3),))
    found = observe(graph, samples()).sensitivities
    assert found is not None
    assert found[3] == pytest.approx(found[2], rel=1e-6)


def test_without_samples_or_bootstraps_nothing_is_observed() -> None:
    found = observe(chain(2.0), Calibration())
    assert found.sensitivities is None
    assert set(found.magnitudes) == {ASSUMED_MAGNITUDE}
    leveled = TensorGraph((X,), (Output("y", 0),))
    assert observe(leveled, samples()).sensitivities is None


def test_a_reach_is_how_far_the_largest_error_is_beyond_a_gaussian_s() -> None:
    size, shape = 64, (1, 64)
    factors = np.ones(size)
    factors[0] = 30.0
    layers: list[TensorOperation] = [Input("wide", shape), Bootstrap(0, IDENTITY, shape)]
    for values in (np.ones(size), factors):
        layers.append(Linear((1,), (diagonal_matrix(values),), np.zeros(size), shape))
    graph = TensorGraph(tuple(layers), (Output("y", 3),))
    given = np.random.default_rng(0).uniform(-0.4, 0.4, (100, size))
    found = observe(graph, Calibration({"wide": given})).reaches
    assert len(found) == 4
    assert found[0] == 1.0  # no error is there yet
    assert 1.0 <= found[1] == found[2] < 1.5
    assert 0.3 * np.sqrt(size) < found[3] < np.sqrt(size)
    assert observe(chain(2.0), Calibration()).reaches == ()
