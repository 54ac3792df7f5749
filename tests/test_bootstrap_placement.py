"""Where plain bootstraps go, against exhaustive search."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from math import inf

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hec.compiler import bootstrap_placement
from hec.compiler.bootstrap_placement import STATES, Placement, RefreshCosts, place
from hec.compiler.calibration import Calibration
from hec.compiler.depth import levels
from hec.compiler.tensor_ir import (
    Bootstrap,
    Input,
    Linear,
    TensorGraph,
    TensorOperation,
    operands,
)
from hec.passes.place_bootstraps import place_bootstraps
from placement_graphs import (
    SERIES,
    SHAPE,
    chebyshev,
    flat,
    grown,
    linear,
    residual_block,
    result_level,
    square,
    start,
    uneven,
)
from small_graphs import SEEN, X, graph, kinds

SEEDS = st.integers(0, 2**32 - 1)


def exhaustive(of: TensorGraph, costs: RefreshCosts) -> float:
    """Return the fewest seconds over all levels of all operations and all sets of refreshes."""
    last = {value: i for i, operation in enumerate(of.operations) for value in operands(operation)}

    @cache
    def rest(available: tuple[int, ...]) -> float:
        """Return the fewest seconds of what follows values that are there at these levels."""
        position = len(available)
        if position == len(of.operations):
            return 0.0
        operation = of.operations[position]
        highest = min((available[i] for i in operands(operation)), default=costs.entry)
        lowest = 0 if isinstance(operation, Bootstrap) else -costs.reserve
        read = tuple(x if last.get(i, 0) > position else 0 for i, x in enumerate(available))
        best = inf
        for level in range(lowest, highest + 1):
            made = result_level(operation, level, costs)
            if made < -costs.reserve:
                continue
            spent = 0.0 if isinstance(operation, Input) else costs.seconds(position, level)
            best = min(best, spent + rest((*read, made)))
            if made >= start(operation):
                refreshed = rest((*read, max(made, costs.fresh)))
                best = min(best, spent + costs.refresh(position) + refreshed)
        return best

    return rest(())


def verify(of: TensorGraph, placement: Placement, costs: RefreshCosts) -> None:
    """Check that all operands are there at the level wanted, and that the seconds add up."""
    seconds = 0.0
    raw: list[int] = []
    for position, operation in enumerate(of.operations):
        level = placement.levels[position]
        for operand in operands(operation):
            is_refreshed = position in placement.readers.get(operand, ())
            assert level <= (costs.fresh if is_refreshed else raw[operand])
        if isinstance(operation, Input):
            assert level <= costs.entry
        else:
            seconds += costs.seconds(position, level)
        raw.append(result_level(operation, level, costs))
        assert raw[-1] >= -costs.reserve
        if position in placement.readers:
            assert placement.readers[position] and raw[-1] >= start(operation)
            seconds += costs.refresh(position)
    assert placement.seconds == pytest.approx(seconds)


def placed(of: TensorGraph, costs: RefreshCosts) -> Placement:
    placement = place(of, costs)
    assert placement is not None
    verify(of, placement, costs)
    return placement


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_no_placement_is_cheaper(seed: int) -> None:
    random = np.random.default_rng(seed)
    before = grown(seed, int(random.integers(3, 8)))
    fresh, reserve = int(random.integers(2, 6)), int(random.choice([0, 0, 1, 2]))
    entry = fresh + int(random.choice([-2, 0, 0, 2]))
    costs = uneven(seed, fresh, entry, reserve, float(random.choice([0.1, 1, 20])))
    placement, best = place(before, costs), exhaustive(before, costs)
    if placement is None:
        assert best == inf
    else:
        verify(before, placement, costs)
        assert placement.exact and placement.seconds == pytest.approx(best, rel=1e-9)


def test_the_random_graphs_have_what_matters() -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        before, costs = grown(seed, 7), uneven(seed, 3 + seed % 2)
        placement = place(before, costs)
        if placement is None:
            seen["impossible"] += 1
            continue
        verify(before, placement, costs)
        seen["none"] += not placement.readers
        seen["several"] += len(placement.readers) > 1
        for value, readers in placement.readers.items():
            everyone = {i for i, op in enumerate(before.operations) if value in operands(op)}
            seen["shared"] += len(readers) > 1
            seen["for some"] += readers != everyone
    assert set(seen) == {"impossible", "none", "several", "shared", "for some"}
    assert min(seen.values()) >= 5


@pytest.mark.parametrize("seed", range(20))
def test_a_chain_is_a_shortest_path_over_position_and_level(seed: int) -> None:
    random = np.random.default_rng(seed)
    operations: list[TensorOperation] = [X]
    for kind in random.integers(0, 4, 40):
        last = len(operations) - 1
        operations.append([linear(last), square(last), linear(last), chebyshev(last, 7)][kind])
    before, costs = graph(*operations), uneven(seed, int(random.integers(4, 12)))
    paths: nx.DiGraph[tuple[int, int]] = nx.DiGraph()
    for position, operation in enumerate(operations):
        for level in range(costs.fresh + 1):
            at = (position, level)
            if level:
                paths.add_edge(at, (position, level - 1), seconds=0.0)
            if start(operation) <= level < costs.fresh:
                refreshed = (position, costs.fresh)
                paths.add_edge(at, refreshed, seconds=costs.refresh(position))
            if position and level + levels(operation) <= costs.fresh:
                before_it = (position - 1, level + levels(operation))
                paths.add_edge(before_it, at, seconds=costs.seconds(position, before_it[1]))
    ends = ((0, costs.entry), (40, 0))
    best = nx.dijkstra_path_length(paths, *ends, weight="seconds")
    assert placed(before, costs).seconds == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(
    ("cheapest", "readers"),
    [
        (1, {1: {2, 5}}),  # one refresh serves the block and its shortcut
        (3, {3: {4}}),  # the shortcut waits with levels enough
        (4, {3: {4}}),  # a square would have to be scaled first, a level that is not there
    ],
)
def test_a_residual_block_is_refreshed_where_it_is_cheapest(
    cheapest: int, readers: dict[int, set[int]]
) -> None:
    prices = {1: 90.0, 3: 80.0, cheapest: 70.0}
    costs = RefreshCosts(4, 3, lambda *_: 1.0, lambda position: prices.get(position, 99.0))
    assert placed(residual_block(), costs).readers == readers


def test_values_run_no_higher_than_their_readers_ask() -> None:
    assert placed(residual_block(), flat(9)).levels == (5, 5, 4, 3, 2, 1)
    costs = replace(flat(4), refresh=lambda position: 1.0 if position == 1 else 100.0)
    assert placed(residual_block(), costs).levels == (1, 1, 4, 3, 2, 1)


def test_a_reader_with_levels_enough_takes_the_value_as_it_was() -> None:
    """The square is at level 1, to be scaled: a last layer can read it there."""
    before = graph(
        X, square(0), linear(1), linear(1), square(3), linear(4), square(5), outputs=(2, 6)
    )
    costs = replace(flat(4), entry=2, refresh=lambda position: 1.0 if position == 1 else 50.0)
    placement = placed(before, costs)
    assert placement.readers == {1: frozenset({3})} and placement.levels[2] == 1


def test_outputs_are_not_refreshed() -> None:
    before = graph(X, linear(0), square(1), linear(2), outputs=(1, 3))
    after = place_bootstraps(before, placed(before, flat(2)).readers, Calibration(SEEN))
    assert Bootstrap in kinds(after)
    assert [type(after.operations[output.operand]) for output in after.outputs] == [Linear] * 2


@pytest.mark.parametrize(
    ("operations", "possible", "impossible"),
    [
        ((linear(0),), 1, 0),
        ((linear(0), linear(1)), 1, 0),
        ((chebyshev(0, 15),), 4, 3),
        ((linear(0), chebyshev(1, 15)), 4, 3),
        ((chebyshev(0, 15), linear(1)), 5, 4),  # the polynomial's value needs a scaling
        ((square(0), square(1)), 2, 1),
    ],
)
def test_there_is_no_placement_where_an_operation_needs_too_many_levels(
    operations: tuple[TensorOperation, ...], possible: int, impossible: int
) -> None:
    before = graph(X, *operations)
    placed(before, flat(possible))
    assert place(before, flat(impossible)) is None


def test_an_input_may_enter_lower_or_higher_than_a_bootstrap_ends() -> None:
    chain = graph(X, linear(0), square(1), linear(2), square(3))
    assert not placed(chain, replace(flat(2), entry=4)).readers
    assert placed(chain, replace(flat(4), entry=1)).readers == {1: frozenset({2})}
    assert place(chain, replace(flat(4), entry=0)) is None
    squares = graph(X, square(0), square(1))
    assert placed(squares, replace(flat(2), entry=1)).readers == {0: frozenset({1})}


def test_levels_beyond_those_of_a_bootstrap_come_from_inputs_alone() -> None:
    squares = graph(X, linear(0), square(1), square(2), square(3))
    costs = RefreshCosts(2, 4, lambda *_: 1.0, lambda value: 0.0 if value == 1 else 500.0)
    assert not placed(squares, costs).readers  # the layer, though it costs nothing, is asked for 3
    first = graph(X, Bootstrap(0, SERIES, SHAPE), square(1), square(2), linear(3))
    assert placed(first, replace(flat(2), entry=5)).readers
    layers = graph(X, *(linear(i) for i in range(10)))
    costs = RefreshCosts(5, 7, lambda *_: 1.0, lambda value: 1.0 if value == 3 else 50.0 + value)
    assert placed(layers, costs).readers == {5: {6}}  # the third, though cheap, is asked for 7


def test_every_cost_is_asked_for_once() -> None:
    asked: Counter[tuple[int, ...]] = Counter()

    def seconds(position: int, level: int) -> float:
        asked[position, level] += 1
        return 1.0

    def refresh(position: int) -> float:
        asked[(position,)] += 1
        return 5.0

    placed(grown(1, 40), replace(flat(6), seconds=seconds, refresh=refresh))
    assert max(asked.values()) <= 2  # the second by this test
    assert len(asked) > 80


def test_what_no_bootstrap_follows_may_spend_the_reserve() -> None:
    chain = graph(X, linear(0), square(1), linear(2), square(3), linear(4))
    assert len(placed(chain, flat(3, reserve=1)).readers) == 1
    placement = placed(chain, flat(3, reserve=2))
    assert not placement.readers and placement.levels == (3, 3, 2, 1, 0, -1)


@pytest.mark.parametrize(
    ("tail", "readers"),
    [
        (chebyshev(1, 3), {2, 3}),
        (Bootstrap(1, SERIES, SHAPE), {2, 3}),
        (square(1), {3}),
        (linear(1), {3}),
    ],
)
def test_what_takes_its_operand_unscaled_reads_a_refreshed_layer_refreshed(
    tail: TensorOperation, readers: set[int]
) -> None:
    """Else the layer would have the tail's scale, and the bootstrap's at a further level."""
    before = graph(X, linear(0), tail, square(1), linear(3), square(4), outputs=(2, 5))
    costs = replace(flat(3, reserve=2), entry=1)
    costs = replace(costs, refresh=lambda position: 1.0 if position == 1 else 500.0)
    assert placed(before, costs).readers == {1: readers}


def test_a_bootstrap_that_is_there_starts_anew() -> None:
    before = graph(X, linear(0), Bootstrap(1, SERIES, SHAPE), square(2), linear(3))
    assert placed(before, flat(2)).levels == (1, 1, 0, 2, 1)
    assert placed(before, replace(flat(2, reserve=2), entry=1)).levels == (1, 1, 0, 0, -1)
    assert place(before, flat(1)) is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_more_levels_and_cheaper_bootstraps_never_cost_more(seed: int) -> None:
    before, costs = grown(seed, 25), uneven(seed, 5, 5)
    totals = [placed(before, replace(costs, fresh=fresh)).seconds for fresh in range(5, 12)]
    assert totals == sorted(totals, reverse=True)
    cheaper = replace(costs, refresh=lambda position: costs.refresh(position) / 2)
    assert placed(before, cheaper).seconds <= totals[0]
    assert placed(before, replace(costs, reserve=1)).seconds <= totals[0]


def test_the_caller_can_sweep_the_levels() -> None:
    """Where each level makes a bootstrap dearer, the best number lies between the extremes."""
    operations: list[TensorOperation] = [X]
    for _ in range(15):
        operations += [linear(len(operations) - 1), square(len(operations))]
    before = graph(*operations)

    def total(fresh: int) -> float:
        return placed(before, flat(fresh, 20.0 + 3.0 * fresh**1.5)).seconds

    swept = {fresh: total(fresh) for fresh in range(2, 21)}
    best = min(swept, key=lambda fresh: swept[fresh])
    assert 2 < best < 20


def nested(random: np.random.Generator, count: int) -> TensorGraph:
    """Return a series-parallel graph: branches side by side, nested three deep."""
    made: list[TensorOperation] = [X]

    def series(source: int, budget: int, depth: int) -> int:
        while budget > 0:
            if depth < 3 and budget > 6 and random.random() < 0.4:
                branches, size = int(random.integers(2, 5)), int(random.integers(3, budget))
                ends = [series(source, size // branches - 1, depth + 1) for _ in range(branches)]
                made.append(linear(*dict.fromkeys(ends)))
                budget -= size
            else:
                kinds = (linear(source), square(source), chebyshev(source, 3 + 4 * (budget % 2)))
                made.append(kinds[random.integers(3)])
                budget -= 1
            source = len(made) - 1
        return source

    series(0, count, 0)
    return graph(*made)


def widest(of: TensorGraph, costs: RefreshCosts, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the most partial placements that were kept at once."""
    counts: list[int] = []
    original = bootstrap_placement._undominated

    def counted(
        partials: list[bootstrap_placement._Partial], graph: TensorGraph, costs: RefreshCosts
    ) -> list[bootstrap_placement._Partial]:
        kept = original(partials, graph, costs)
        counts.append(len(kept))
        return kept

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap_placement, "_undominated", counted)
        assert placed(of, costs).exact == (max(counts) < STATES)
    return max(counts)


def test_few_partial_placements_are_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    residual: list[TensorOperation] = [X, linear(0)]
    while len(residual) < 200:
        last = len(residual) - 1
        residual += [square(last), linear(last + 1), square(last + 2), linear(last + 3, last)]
    wide: list[TensorOperation] = [X]
    while len(wide) < 190:
        fork, ends = len(wide) - 1, []
        for length in range(1, 7):
            wide += [square(fork)] + [square(len(wide) + i) for i in range(length - 1)]
            ends.append(len(wide) - 1)
        wide.append(linear(*ends))
    assert widest(graph(*residual), uneven(1, 20), monkeypatch) <= 20
    assert widest(graph(*wide), uneven(1, 20), monkeypatch) <= 25
    for seed in range(4):
        deep = nested(np.random.default_rng(seed), 250)
        assert len(deep.operations) > 170
        assert widest(deep, uneven(seed, 20), monkeypatch) <= 75
        assert widest(deep, uneven(seed, 6, entry=40), monkeypatch) <= 100


def test_beyond_the_bound_the_cheapest_are_kept_and_the_placement_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, costs = grown(3, 120, reach=12), uneven(3, 12)
    best = placed(before, costs)
    for bound in (1, 20):
        monkeypatch.setattr(bootstrap_placement, "STATES", bound)
        rough = placed(before, costs)
        assert not rough.exact and best.seconds <= rough.seconds < 1.5 * best.seconds
