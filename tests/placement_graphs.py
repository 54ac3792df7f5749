"""Random graphs of forks and joins, and costs, for the placement of plain bootstraps."""

from __future__ import annotations

import numpy as np

from hec.compiler import fourier
from hec.compiler.bootstrap_placement import RefreshCosts
from hec.compiler.depth import levels
from hec.compiler.tensor_ir import (
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)
from small_graphs import X, affine, graph

SHAPE = (1, 2)
SERIES = fourier.fitted(np.sin, 7)


def linear(*sources: int) -> Linear:
    """Return a layer that mixes its operands a little."""
    matrix = affine(0, np.array([[0.6, -0.3], [0.2, 0.7]])).matrices[0]
    return Linear(sources, (matrix,) * len(sources), np.zeros(2), SHAPE, (f"conv{sources[0]}",))


def square(source: int) -> Multiply:
    return Multiply(source, source, SHAPE, (f"square{source}",))


def chebyshev(source: int, degree: int) -> Polynomial:
    return Polynomial(source, np.ones(degree + 1) / (degree + 1), "chebyshev", SHAPE)


def flat(fresh: int, refresh: float = 100.0, reserve: int = 0) -> RefreshCosts:
    """Return costs in which every operation takes a second for each level of its operands."""
    return RefreshCosts(fresh, fresh, lambda _, level: 10.0 + level, lambda _: refresh, reserve)


def uneven(
    seed: int, fresh: int, entry: int | None = None, reserve: int = 0, dear: float = 20.0
) -> RefreshCosts:
    """Return random costs that rise with the level."""
    random = np.random.default_rng(seed)
    weight, slope, price = (
        random.uniform(0.1, 3, 512),
        random.uniform(0, 0.5),
        random.uniform(0.2, 1, 512),
    )
    return RefreshCosts(
        fresh,
        fresh if entry is None else entry,
        lambda position, level: float(weight[position] * (9 + level) ** (1 + slope)) / 10,
        lambda position: float(dear * price[position]),
        reserve,
    )


def grown(seed: int, count: int, reach: int = 4, refreshed: float = 0.1) -> TensorGraph:
    """Return a random graph of forks and joins, with one or two inputs and outputs.

    A share of `refreshed` operations are bootstraps of a sine.
    """
    random = np.random.default_rng(seed)
    made: list[TensorOperation] = [X]
    if random.random() < 0.4:
        made.append(Input("y", SHAPE))
    while len(made) < count:
        pair = random.integers(max(0, len(made) - reach), len(made), 2)
        degree = int(random.choice([3, 5]))
        if random.random() < refreshed:
            made.append(Bootstrap(int(pair[0]), SERIES, SHAPE))
        else:
            made.append(_any(random.integers(6), len(made) - 1, tuple(map(int, pair)), degree))
    outputs = [len(made) - 1, *random.integers(0, len(made), random.integers(0, 2))]
    return graph(*made, outputs=tuple(map(int, outputs)))


def _any(kind: int, last: int, pair: tuple[int, ...], degree: int) -> TensorOperation:
    choices = (
        linear(last),
        square(last),
        linear(*dict.fromkeys(pair)),
        Multiply(*pair, SHAPE),
        chebyshev(pair[0], degree),
        linear(pair[0]),
    )
    return choices[kind]


def result_level(operation: TensorOperation, level: int, costs: RefreshCosts) -> int:
    return costs.fresh if isinstance(operation, Bootstrap) else level - levels(operation)


def start(operation: TensorOperation) -> int:
    return 0 if isinstance(operation, Linear) else 1


def residual_block() -> TensorGraph:
    """Return a stem, then square, convolution, square, and a sum with the stem."""
    return graph(X, linear(0), square(1), linear(2), square(3), linear(4, 1))
