"""Where plain bootstraps go: the cheapest placement in a graph of exact polynomials.

Seen from the outputs backwards, a placement is one decision for each value. What its readers ask
decides the level of a value that is not refreshed; a value that is refreshed runs at the lowest
level from which a bootstrap can start; higher ones only cost more. So all that matters about a
placement of the operations seen so far is its seconds, and the level it asks of every value that is
still to be made: a shortest path over (position, levels asked).

Source: Ebel et al., "Orion" (ASPLOS 2025), the shortest path over (position, level); here it runs
over the levels of all values of a cut, so that forks and joins need no treatment of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from hec.compiler.depth import levels
from hec.compiler.tensor_ir import (
    Bootstrap,
    Input,
    Linear,
    Polynomial,
    TensorGraph,
    TensorOperation,
    operands,
)

STATES = 2000  # partial placements kept; measured: 540 at most, 200 operations, forks nested thrice
SCALING_LEVELS = 1  # of the diagonal matrix that brings a value to [-1/2, 1/2]


@dataclass(frozen=True)
class RefreshCosts:
    """Levels, counted from the lowest at which a bootstrap starts, and seconds.

    `seconds` must not fall when the level rises.
    """

    fresh: int  # level of a refreshed value
    entry: int  # level of an input
    seconds: Callable[[int, int], float]  # of the operation at a position, operands at a level
    refresh: Callable[[int], float]  # to refresh the value of a position, all its ciphertexts
    reserve: int = 0  # levels below 0, for what no bootstrap follows


@dataclass(frozen=True)
class Placement:
    """Which values are refreshed, for whom, and at which level everything runs."""

    readers: Mapping[int, frozenset[int]]  # of each refreshed value: who reads it refreshed
    levels: tuple[int, ...]  # of the operands of each operation; of an input, its own
    seconds: float  # predicted, of operations and bootstraps
    exact: bool  # False where partial placements beyond `STATES` were dropped


@dataclass(frozen=True)
class _Partial:
    """A placement from the outputs back to the operation at `position`."""

    seconds: float
    asked: Mapping[int, int]  # level asked of each value that is read and still to be made
    position: int = -1
    level: int = 0
    is_refreshed: bool = False
    later: _Partial | None = None  # the decisions taken before this one


def place(graph: TensorGraph, costs: RefreshCosts) -> Placement | None:
    """Return the placement that takes the fewest seconds, or None where there is none.

    Exact on any graph whose cuts are narrow: chains, residual blocks, branches side by side. Where
    more than `STATES` partial placements could still win, the cheapest are kept (`exact` says so),
    and neither the optimum nor, in theory, finding a placement is sure any more.
    Cost: operations times `STATES` squared at most.
    """
    costs = replace(costs, seconds=cache(costs.seconds), refresh=cache(costs.refresh))
    partials, exact = [_Partial(0.0, {})], True
    for position in _backwards(graph):
        longer = [new for old in partials for new in _extended(old, position, graph, costs)]
        partials = _undominated(longer, graph, costs)
        exact = exact and len(partials) < STATES
    return _placement(partials[0], graph, exact) if partials else None


def _backwards(graph: TensorGraph) -> Iterator[int]:
    """Yield positions, readers before what they read, one branch after the other: narrow cuts."""
    waiting = [0] * len(graph.operations)
    for operation in graph.operations:
        for operand in set(operands(operation)):
            waiting[operand] += 1
    ready = [position for position, readers in enumerate(waiting) if not readers]
    while ready:
        position = ready.pop()
        yield position
        for operand in dict.fromkeys(operands(graph.operations[position])):
            waiting[operand] -= 1
            if not waiting[operand]:
                ready.append(operand)


def _extended(
    later: _Partial, position: int, graph: TensorGraph, costs: RefreshCosts
) -> Iterator[_Partial]:
    """Yield `later` with each decision about the value at `position`."""
    operation = graph.operations[position]
    asked = dict(later.asked)
    wanted = asked.pop(position, -costs.reserve)
    for level, is_refreshed in _runs(operation, wanted, costs):
        seconds = later.seconds
        if not isinstance(operation, Input):
            seconds += costs.seconds(position, level)
        if is_refreshed:
            seconds += costs.refresh(position)
        raised = {i: max(level, asked.get(i, level)) for i in operands(operation)}
        yield _Partial(seconds, {**asked, **raised}, position, level, is_refreshed, later)


def _runs(
    operation: TensorOperation, wanted: int, costs: RefreshCosts
) -> Iterator[tuple[int, bool]]:
    """Yield the lowest level to run at for a result at `wanted`, without and with a refresh."""
    if isinstance(operation, Bootstrap):
        if wanted <= costs.fresh:
            yield 0, False
        return
    highest = costs.entry if isinstance(operation, Input) else max(costs.fresh, costs.entry)
    start, spent = _start(operation), levels(operation)
    if wanted + spent <= highest:
        yield wanted + spent, False
    if wanted <= costs.fresh and start + spent <= highest:
        yield start + spent, True


def _start(operation: TensorOperation) -> int:
    """Return the lowest level at which the result can be refreshed: its scaling included."""
    return 0 if isinstance(operation, Linear) else SCALING_LEVELS


def _undominated(
    partials: list[_Partial], graph: TensorGraph, costs: RefreshCosts
) -> list[_Partial]:
    """Return, cheapest first, the partials that no other can replace, `STATES` at most.

    One replaces another if it asks for no higher level, or else would still take no more seconds
    after refreshing each value of which it does. (Levels too low for that are asked by the reserve
    alone, where there is no choice: then no other partial asks for more.)
    """
    if not partials:
        return []
    live = sorted(partials[0].asked)
    price = np.array([costs.refresh(i) for i in live])
    ordered = sorted(partials, key=lambda one: one.seconds)
    asked = np.zeros((min(len(ordered), STATES), len(live)), np.int64)
    seconds = np.zeros(len(asked))
    kept: list[_Partial] = []
    for partial in ordered:
        row, count = np.array([partial.asked[i] for i in live], np.int64), len(kept)
        more = asked[:count] > row
        total = seconds[:count] + more @ price
        total[(more & (asked[:count] > costs.fresh)).any(axis=1)] = np.inf
        if (total <= partial.seconds).any():
            continue
        if count == STATES:
            break
        asked[count], seconds[count] = row, partial.seconds
        kept.append(partial)
    return kept


def _placement(best: _Partial, graph: TensorGraph, exact: bool) -> Placement:
    runs = [0] * len(graph.operations)
    refreshed = []
    step: _Partial | None = best
    while step is not None and step.position >= 0:
        runs[step.position] = step.level
        if step.is_refreshed:
            refreshed.append(step.position)
        step = step.later
    readers = {position: _readers(position, runs, graph) for position in sorted(refreshed)}
    return Placement(readers, tuple(runs), best.seconds, exact)


def _readers(value: int, runs: list[int], graph: TensorGraph) -> frozenset[int]:
    """Return who reads the refreshed value; the others run low enough without it.

    What takes its operand unscaled always does: `fold_scales` could not scale the layer that makes
    the value for the bootstrap too, and the scaling would cost a level.
    """
    start = _start(graph.operations[value])
    return frozenset(
        position
        for position, operation in enumerate(graph.operations)
        if value in operands(operation)
        if runs[position] > start or isinstance(operation, Polynomial | Bootstrap)
    )
