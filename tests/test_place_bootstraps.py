"""What inserting plain bootstraps does to a graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hec.compiler.bootstrap_placement import RefreshCosts, place
from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Array,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    TensorGraph,
    check,
    inputs,
    operands,
)
from hec.passes import TENSOR_PASSES, run_tensor_passes
from hec.passes.eliminate_identities import eliminate_identities
from hec.passes.fold_scales import fold_scales
from hec.passes.fuse_linear import fuse_linear
from hec.passes.matrices import is_selection
from hec.passes.place_bootstraps import MARGIN, place_bootstraps
from hec.passes.series_stand_in import NOISE
from hec.passes.share_scaled_layers import share_scaled_layers
from placement_graphs import grown, linear, residual_block, result_level, square, uneven
from random_graphs import meaning, random_graph
from small_graphs import SEEN, X, affine, graph, kinds

SEEDS = st.integers(0, 2**32 - 1)
EYE = np.eye(2)
LATER_PASSES = (share_scaled_layers, fuse_linear, eliminate_identities, fold_scales)


def lowest_levels(of: TensorGraph, costs: RefreshCosts) -> tuple[int, int]:
    """Return the lowest level of any value, and of any that a bootstrap reads."""
    available: list[int] = []
    starts = [costs.fresh]
    for operation in of.operations:
        level = min((available[i] for i in operands(operation)), default=costs.entry)
        if isinstance(operation, Bootstrap):
            starts.append(level)
        available.append(result_level(operation, level, costs))
    return min(available), min(starts)


def programs(seed: int) -> tuple[TensorGraph, dict[str, Array]]:
    """Return a random graph in normal form, and samples for its inputs."""
    if seed % 2:
        raw, samples = random_graph(seed, activations=False)
    else:
        raw = grown(seed, 16, refreshed=0.0)
        random = np.random.default_rng(seed)
        samples = {one.name: random.uniform(-1, 1, (40, 2)) for _, one in inputs(raw)}
    calibration = Calibration(samples, margin=1.1)
    return run_tensor_passes(raw, Target(), calibration, TENSOR_PASSES), samples


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_inserting_levels_keeps_the_meaning_and_no_path_spends_more(seed: int) -> None:
    before, samples = programs(seed)
    dear = [0.2, 2.0, 20.0][seed % 7 % 3]
    costs = uneven(seed, 4 + seed % 3, reserve=seed % 5 % 3, dear=dear)
    placement = place(before, costs)
    assume(placement is not None)
    assert placement is not None
    calibration = Calibration(samples, margin=1.1)
    after = place_bootstraps(before, placement.readers, calibration)
    check(after, made_by="place_bootstraps")
    assert_same(before, after, samples)
    for one in LATER_PASSES:
        after = one(after, Target(), calibration)
        check(after, made_by=one.__name__)
    assert_same(before, after, samples)
    least, at_bootstraps = lowest_levels(after, costs)
    assert least >= -costs.reserve and at_bootstraps >= 0
    assert mixing_layers(after) <= mixing_layers(before)  # none is computed twice
    values = evaluate(after, samples)
    for operation in after.operations:
        if isinstance(operation, Bootstrap):
            assert np.abs(values[operation.operand]).max() < 0.5


def mixing_layers(of: TensorGraph) -> int:
    """Count layers of more than one entry a row: `fuse_linear` copies others to every reader."""
    layers = [one for one in of.operations if isinstance(one, Linear)]
    return sum(not all(is_selection(matrix) for matrix in one.matrices) for one in layers)


def assert_same(before: TensorGraph, after: TensorGraph, samples: dict[str, Array]) -> None:
    for exact, found in zip(meaning(before, samples), meaning(after, samples), strict=True):
        assert np.abs(found - exact).max() <= 1e-6 * np.abs(exact).max()


def test_the_random_programs_are_refreshed() -> None:
    counts: Counter[int] = Counter()
    for seed in range(60):
        placement = place(programs(seed)[0], uneven(seed, 4))
        counts[-1 if placement is None else len(placement.readers)] += 1
    assert counts[-1] < 20 and counts[1] > 5 and max(counts) > 3


def test_a_refresh_is_a_scaling_and_a_bootstrap_for_the_readers_listed() -> None:
    before = graph(X, linear(0), square(1), linear(1), outputs=(1, 2, 3))
    after = place_bootstraps(before, {1: frozenset({2})}, Calibration(SEEN))
    assert kinds(after) == [Input, Linear, Linear, Bootstrap, Multiply, Linear]
    assert [operands(operation) for operation in after.operations[2:]] == [(1,), (2,), (3, 3), (1,)]
    assert [output.operand for output in after.outputs] == [1, 4, 5]
    scaling, refresh = after.operations[2:4]
    assert isinstance(scaling, Linear) and isinstance(refresh, Bootstrap)
    assert scaling.origin == refresh.origin == ("conv0",)
    after = place_bootstraps(before, {0: frozenset({1})}, Calibration(SEEN))
    refresh = after.operations[2]
    assert isinstance(refresh, Bootstrap) and refresh.origin == ("x",)


def test_the_interval_leaves_room_for_other_samples() -> None:
    random = np.random.default_rng(0)
    samples = {"x": random.normal(size=(60, 2))}
    before = graph(X, linear(0), square(1))
    after = place_bootstraps(before, {1: frozenset({2})}, Calibration(samples, margin=1.1))
    seen = evaluate(before, samples)[1]
    refresh = after.operations[3]
    assert isinstance(refresh, Bootstrap) and refresh.fit is not None
    fit, radius = refresh.fit, refresh.fit.interval[1]
    assert (fit.function, fit.degree) == ("refresh", 15)
    assert fit.interval[0] == -radius and fit.observed == (seen.min(), seen.max())
    assert fit.error == pytest.approx(2 * radius * NOISE)
    assert fit.tail is not None and 1e-7 < fit.tail < 5e-3
    assert radius > MARGIN * np.abs(seen).max()
    argument = evaluate(after, samples)[2]
    np.testing.assert_allclose(argument, seen / (2 * radius), rtol=1e-12)
    later = evaluate(after, {"x": random.normal(size=(2000, 2))})[2]
    assert np.abs(later).max() < 0.5


def test_one_sample_leaves_the_margin() -> None:
    samples = {"x": np.array([[0.5, -2.0]])}
    for margin, factor in ((1.1, MARGIN), (1.7, 1.7)):
        after = place_bootstraps(
            graph(X, square(0)), {0: frozenset({1})}, Calibration(samples, margin=margin)
        )
        refresh = after.operations[2]
        assert isinstance(refresh, Bootstrap) and refresh.fit is not None
        assert refresh.fit.interval[1] == pytest.approx(2.0 * factor)


def test_without_samples_the_interval_is_sound() -> None:
    before = graph(X, affine(0, EYE * 3), square(1))
    after = place_bootstraps(before, {1: frozenset({2})}, Calibration(None, (-1.0, 1.0)))
    refresh = after.operations[3]
    assert isinstance(refresh, Bootstrap) and refresh.fit is not None
    assert refresh.fit.interval == (-3.0, 3.0) and refresh.fit.tail is None


def test_values_that_are_always_zero_are_refreshed() -> None:
    before = graph(X, affine(0, EYE * 0), square(1))
    for calibration in (Calibration(SEEN), Calibration(None, (-1.0, 1.0))):
        after = place_bootstraps(before, {1: frozenset({2})}, calibration)
        np.testing.assert_allclose(evaluate(after, SEEN)[-1], 0, atol=1e-12)


def test_without_refreshes_nothing_changes() -> None:
    before = residual_block()
    assert place_bootstraps(before, {}, Calibration(SEEN)) is before
