"""The story of a polynomial or a bootstrap: its degree, and what other degrees would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from hec.compiler.bootstrapping import DEGREES
from hec.compiler.ckks_ir import (
    Bootstrap,
    Instruction,
    Multiply,
    Polynomial,
    Program,
    ValueType,
)
from hec.compiler.cost import CostCounter, Counted, bootstrap_seconds
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.kernels import ConstantCache, apply_polynomial
from hec.compiler.layers import Layer
from hec.compiler.noise import bootstrapping
from hec.compiler.quantities import duration, share
from hec.compiler.tensor_ir import Fit
from hec.compiler.typing_rules import operands, polynomial_depth

_HIGHEST: Final = 31  # degree of a fitted polynomial
_SQUARE: Final = 2  # degree
_POINTS: Final = 401  # at which a fit is made again
_FLOOR: Final = 1e-3  # weight of points that no sample came near


@dataclass(frozen=True)
class DegreeStory:
    """What a series of some degree takes in this place, with the same result."""

    degree: int
    levels: int
    seconds: float
    at_outputs: float | None = None  # error of the outputs, of their rms; None: not known


@dataclass(frozen=True)
class SeriesStory:
    """A polynomial, a square, or the series of a bootstrap."""

    kind: Literal["polynomial", "square", "bootstrap"]
    ciphertexts: int
    chosen: DegreeStory
    lower: DegreeStory | None  # the highest degree that takes a level less
    higher: DegreeStory | None  # the highest degree that takes a level more
    transform_levels: tuple[int, int] | None  # of a bootstrap: CoeffsToSlots, and SlotsToCoeffs
    error: float | None  # of a bootstrap: of its argument, of a range of width 1


def series_story(
    program: Program, types: Sequence[ValueType], layer: Layer, table: CostTable = REFERENCE
) -> SeriesStory | None:
    """Return the story of the layer's series, None where it has none."""
    for position in layer.positions:
        x = program.instructions[position]
        degree = _degree(x)
        if degree is None:
            continue
        source = types[operands(x)[0]]
        if isinstance(x, Bootstrap):
            return _bootstrap(program, source, degree, table)
        result = types[position].level - isinstance(x, Multiply)  # once it is rescaled
        prices = _Prices(program, result, source, types[position].scale, table)
        depth = polynomial_depth(degree) if isinstance(x, Polynomial) else 1
        below, above = 2 ** (depth - 1) - 1, 2 ** (depth + 1) - 1
        return SeriesStory(
            "polynomial" if isinstance(x, Polynomial) else "square",
            source.blocks,
            prices.of(degree),
            prices.of(max(below, _SQUARE)) if degree > _SQUARE else None,
            prices.of(above) if above <= _HIGHEST else None,
            None,
            None,
        )
    return None


def with_errors(story: SeriesStory, fit: Fit) -> SeriesStory:
    """Return the story with what each degree does to the outputs, about.

    The error of the chosen one was measured; those of others are in proportion to how well the
    activation's curve is fitted again where the histogram of its inputs is.
    """
    if story.kind == "bootstrap" or fit.degree != story.chosen.degree:  # or it is one of several
        return story
    known = _refit_error(fit, fit.degree)
    if not known or fit.at_outputs is None:
        return story

    def told(other: DegreeStory | None) -> DegreeStory | None:
        if other is None:
            return None
        return replace(other, at_outputs=at_outputs * _refit_error(fit, other.degree) / known)

    at_outputs = fit.at_outputs
    chosen = replace(story.chosen, at_outputs=at_outputs)
    return replace(story, chosen=chosen, lower=told(story.lower), higher=told(story.higher))


def _refit_error(fit: Fit, degree: int) -> float:
    """Return the root mean square error of a fit of another degree to the activation's inputs.

    0 where it is not known, which is so for all degrees or for none.
    """
    curve, seen, (low, high) = fit.curve, fit.histogram, fit.interval
    if curve is None or seen is None or not low < high:
        return 0.0
    x = np.linspace(low, high, _POINTS)
    y = np.interp(x, curve.x, curve.exact)
    place = ((x - seen.low) / (seen.high - seen.low) * len(seen.counts)).astype(np.int64)
    counts = np.asarray(seen.counts, np.float64)
    inside = (place >= 0) & (place < len(counts))
    weight = np.where(inside, counts[place.clip(0, len(counts) - 1)], 0.0)
    if not weight.sum():
        return 0.0
    weight = weight / weight.mean()
    t = (2 * x - low - high) / (high - low)
    series = np.polynomial.chebyshev.chebfit(t, y, degree, w=np.sqrt(weight + _FLOOR))
    error = np.polynomial.chebyshev.chebval(t, series) - y
    return float(np.sqrt((weight * error**2).mean()))


def _degree(x: Instruction) -> int | None:
    match x:
        case Bootstrap():
            return int(x.coefficients.shape[1]) - 1
        case Polynomial():
            return len(x.coefficients) - 1
        case Multiply() if x.left == x.right:
            return _SQUARE
        case _:
            return None


def _bootstrap(program: Program, source: ValueType, degree: int, table: CostTable) -> SeriesStory:
    parameters = program.parameters

    def of(other: int) -> DegreeStory:
        seconds = source.blocks * bootstrap_seconds(parameters, other, table)
        return DegreeStory(other, polynomial_depth(other), seconds)

    lower = [other for other in DEGREES if other < degree]
    higher = [other for other in DEGREES if other > degree]
    return SeriesStory(
        "bootstrap",
        source.blocks,
        of(degree),
        of(lower[-1]) if lower else None,
        of(higher[0]) if higher else None,
        None if parameters.bootstrapping is None else parameters.bootstrapping.levels,
        bootstrapping(parameters),
    )


@dataclass(frozen=True)
class _Prices:
    """Prices of polynomials that end at `level`, whatever they start from."""

    program: Program
    level: int
    source: ValueType
    scale: float  # of the result
    table: CostTable

    def of(self, degree: int) -> DegreeStory:
        """Return what `degree` takes; a square is one product of ciphertexts."""
        depth = polynomial_depth(degree) if degree > _SQUARE else 1
        parameters = self.program.parameters
        primes = parameters.primes + parameters.primes[-1:] * depth  # a chain may have to be longer
        counter = CostCounter(parameters.ring_degree, primes, parameters, self.table)
        x = Counted(self.level + depth, self.source.scale)
        if degree == _SQUARE:
            counter.rescale(counter.multiply(x, x))
        else:
            generic = np.random.default_rng(0).uniform(1, 2, degree + 1)  # no part of it vanishes
            series = Polynomial(0, generic, self.scale)
            apply_polynomial(x, series, 0, counter, primes, ConstantCache())
        return DegreeStory(degree, depth, counter.seconds * self.source.blocks)


def why_degree(story: SeriesStory) -> str:
    """Return in a sentence what other degrees would take instead."""
    parts = [f"degree {story.chosen.degree} takes {_price(story.chosen)}"]
    parts += [
        f"degree {other.degree} would take {_price(other)}{_error(other)}"
        for other in (story.lower, story.higher)
        if other is not None
    ]
    return "; ".join(parts)


def _price(story: DegreeStory) -> str:
    return f"{story.levels} level{'s' if story.levels > 1 else ''} and {duration(story.seconds)}"


def _error(story: DegreeStory) -> str:
    if story.at_outputs is None:
        return ""
    return f", and change the outputs by about {share(story.at_outputs)}"
