"""Networks with products of two tensors and activations, refreshed: where, and on which ring."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler import pipeline, strategies
from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError, fail
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.plain_bootstraps import cheapest_refreshes
from hec.compiler.refresh_parameters import RING_DEGREES, needs
from hec.compiler.strategies import Candidate, Strategies
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Multiply,
    TensorGraph,
    longest_series,
)
from hec.passes import SERIES_PASSES, run_tensor_passes
from hec.runtime.simulate import run_simulated
from sample_graphs import Builder

LIBRARIES = pipeline.libraries()
COUNT = 16
REFUSED = fail("no", "place", "help")


def network(products: int) -> tuple[TensorGraph, dict[str, Array]]:
    """Return tanh, a chain of products of two tensors with a matrix after each, tanh, a matrix."""
    b = Builder(np.random.default_rng(0))

    def tanh(x: int) -> int:
        b.operations.append(Activation(x, Function("tanh"), (1, COUNT)))
        return len(b.operations) - 1

    x = first = tanh(b.linear((b.input("x", 1, COUNT),), 1, COUNT))
    for _ in range(products):
        x = b.linear((b.multiply(x, first),), 1, COUNT)
    last = b.linear((tanh(x),), 1, 3)
    samples = np.random.default_rng(1).uniform(-1, 1, (128, COUNT))
    return b.graph(last), {"x": samples}


def ways(products: int) -> Strategies:
    graph, samples = network(products)
    calibration = Calibration(samples, margin=1.1)
    return Strategies(graph, calibration, Target(), LIBRARIES, lambda step: None)


def series(strategy: Strategies) -> TensorGraph:
    shared, target, seen = strategy._shared, strategy.target, strategy.calibration
    return run_tensor_passes(shared, target, seen, SERIES_PASSES)


def test_where_levels_run_out_a_refresh_is_placed_beside_the_activations() -> None:
    graph = series(ways(12))
    assert needs(graph, lambda position: 1).after > 20  # more than any modulus holds
    found = cheapest_refreshes(graph, LIBRARIES.chains, Target())
    bootstraps = {i for i, x in enumerate(graph.operations) if isinstance(x, Bootstrap)}
    assert found.placement.readers and not bootstraps & set(found.placement.readers)
    only = cheapest_refreshes(graph, LIBRARIES.chains, Target(), RING_DEGREES[1:])
    assert only.parameters.ring_degree == RING_DEGREES[1]


def test_where_levels_suffice_there_are_the_activations_alone() -> None:
    graph = series(ways(2))
    found = cheapest_refreshes(graph, LIBRARIES.chains, Target())
    assert not found.placement.readers
    assert longest_series(graph) > 0 == longest_series(network(2)[0])


def test_a_network_of_products_is_predicted_within_the_promise() -> None:
    strategy = ways(3)
    found = strategy.refreshing()
    assert found.noise <= strategies.NOISE
    assert sum(isinstance(x, Multiply) for x in found.graph.operations) == 3
    plan = pipeline.plan_of(found, "products")
    graph, samples = network(3)
    x = samples["x"][:32]
    exact = evaluate(graph, {"x": x})[graph.outputs[0].operand]
    simulation = run_simulated(plan, x)
    assert simulation.overflows == simulation.wrapped == 0
    error = np.sqrt(
        np.mean((simulation.raw[graph.outputs[0].name] - exact) ** 2) / np.mean(exact**2)
    )
    assert error < 0.05


def candidate(ring_degree: int, noise: float) -> Candidate:
    """Return a candidate that knows nothing but its ring and its noise."""

    class Known(Candidate):
        noise = property(lambda self: noise)  # type: ignore[assignment]

    return Known(str(ring_degree), None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("noises", "chosen", "tried"),
    [
        ((0.01, 0.001), 0, 1),
        ((0.03, 0.01), 1, 2),
        ((0.5, 0.1), 1, 2),
        ((0.1, 0.5), 0, 2),
        ((None, 0.1), 1, 2),
        ((0.1, None), 0, 2),
    ],
)
def test_the_smallest_ring_that_is_exact_enough_is_taken(
    noises: tuple[float | None, float | None],
    chosen: int,
    tried: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def placed(self: Strategies, graph: TensorGraph, ring_degree: int) -> Candidate:
        asked.append(ring_degree)
        noise = dict(zip(RING_DEGREES, noises, strict=True))[ring_degree]
        if noise is None:
            raise REFUSED
        return candidate(ring_degree, noise)

    monkeypatch.setattr(Strategies, "_placed_on", placed)
    found = ways(1)._placed(TensorGraph((), ()))
    assert found.backend == str(RING_DEGREES[chosen]) and len(asked) == tried


def test_without_a_ring_the_problems_of_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Strategies, graph: TensorGraph, ring_degree: int) -> Candidate:
        raise fail(f"ring {ring_degree}", "place", "help")

    monkeypatch.setattr(Strategies, "_placed_on", refused)
    with pytest.raises(CompileError) as caught:
        ways(1)._placed(TensorGraph((), ()))
    assert [problem.message for problem in caught.value.problems] == ["ring 32768", "ring 65536"]


def test_products_do_not_count_as_bootstraps() -> None:
    assert ways(3)._nonlinear() == 2
    assert ways(0)._nonlinear() == 1  # tanh of tanh
