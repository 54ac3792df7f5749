"""Place bootstraps: values that run out of levels are refreshed, for the readers that need it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np

from hec.compiler import fourier
from hec.compiler.approximation import Density
from hec.compiler.calibration import Calibration, Range
from hec.compiler.tensor_ir import (
    Array,
    Bootstrap,
    Fit,
    Input,
    Linear,
    TensorGraph,
    operands,
    size,
)
from hec.passes.intervals import reach, tail
from hec.passes.matrices import diagonal_matrix
from hec.passes.rewriting import Rebuilt, with_operands
from hec.passes.series_stand_in import NOISE, OUTSIDE

REFRESH: Final = "refresh"  # the function of a plain bootstrap, for reports
DEGREE: Final = 15  # of the series of the identity
WEIGHT: Final = 1e9  # of each point of its fit: outweighs the ridge, which costs four digits
MARGIN: Final = 1.3  # times the largest magnitude seen: what falls outside is lost, not inexact


def place_bootstraps(
    graph: TensorGraph, readers: Mapping[int, frozenset[int]], calibration: Calibration
) -> TensorGraph:
    """Refresh each value that is a key of `readers`, for the operations that its entry lists.

    Others, and the outputs, go on reading the value as it was. A refresh is a scaling to
    [-1/2, 1/2], which fuses into the layer before it if that is linear, and a bootstrap of
    2 radius x. As all elements have one radius the series undoes the scaling, so that squares and
    polynomials can read it at no level in between.

    Source: docs/design/005-functional-bootstraps.md. Cost: one evaluation of the graph.
    """
    if not readers:
        return graph
    ranges = calibration.ranges(graph)
    rebuilt = Rebuilt()
    refreshed: dict[int, int] = {}
    for position, operation in enumerate(graph.operations):
        sources = {
            i: refreshed[i] if position in readers.get(i, ()) else rebuilt.positions[i]
            for i in operands(operation)
        }
        kept = rebuilt.add(with_operands(operation, sources.__getitem__))
        rebuilt.positions[position] = kept
        if position in readers:
            refreshed[position] = _refresh(rebuilt, kept, ranges[position], calibration.margin)
    return rebuilt.finish(graph.outputs)


def _refresh(rebuilt: Rebuilt, source: int, seen: Range, margin: float) -> int:
    """Append the scaling and the bootstrap of the value at `source`; return the position."""
    value = rebuilt.operations[source]
    shape, origin = value.shape, (value.name,) if isinstance(value, Input) else value.origin
    radius = _radius(seen, margin)
    scaling = diagonal_matrix(np.full(size(value), fourier.HALF.radius / radius))
    bias = np.zeros(size(value))
    scaled = rebuilt.add(Linear((source,), (scaling,), bias, shape, origin))
    fit = Fit(
        REFRESH,
        DEGREE,
        (-radius, radius),
        seen.interval(),
        2 * radius * NOISE,  # the series itself adds nothing to it
        None if seen.values is None else tail(seen.values / radius),
        radius=fourier.HALF.radius,
    )
    return rebuilt.add(Bootstrap(scaled, 2 * radius * _identity(), shape, origin, fit))


def _radius(seen: Range, margin: float) -> float:
    if seen.values is None:
        return seen.magnitude(margin) or 1.0
    magnitudes = np.abs(seen.values).reshape(1, -1)
    return float(reach(magnitudes, len(seen.values), max(margin, MARGIN), OUTSIDE)[0]) or 1.0


@cache
def _identity() -> Array:
    """Return the series of x, within 1e-9 on [-1/2, 1/2]: nothing beside the noise."""
    grid = fourier.HALF.grid()
    x = grid[np.abs(grid) <= fourier.HALF.near]
    return fourier.fit(grid, Density(2 * x, x, np.full(x.size, WEIGHT)), DEGREE)
