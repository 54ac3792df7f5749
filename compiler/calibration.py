"""Calibration: where the values of a network lie, from samples or from a sound interval analysis.

Ranges decide scales and fitted polynomials, so a wrong range is wrong predictions and a wide one
is lost precision. Samples are the user's own inputs, as the model takes them. Without samples the
ranges follow from `Target.input_range` by interval arithmetic: never too narrow, often too wide.

Source: R. E. Moore, Interval Analysis, 1966 (for networks: Gowal et al., arXiv 1810.12715).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler.client_steps import Normalize, prepared
from hec.compiler.errors import CompileError, Problem, fail, warn
from hec.compiler.evaluate import evaluate, polynomial
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    Shape,
    TensorGraph,
    TensorOperation,
    inputs,
    size,
)

MULTIPLICATIONS = 1_000_000_000  # per evaluation of the graph: about a second
KEPT_VALUES = 48_000_000  # float64 values of all tensors together: 384 MB
ELEMENT = 50  # an elementwise function costs as much as this many multiplications
FEWEST, MOST = 64, 2048  # samples used, where there are as many
STRAY = 4.0  # times the upper quartile of samples' largest values: beyond it, a sample is stray
GRID = 33  # points at which a function is sampled on an interval


@dataclass(frozen=True, eq=False)
class Range:
    """Where one tensor's elements lie; `values` holds the (samples, elements) where there are."""

    low: Array  # (elements,)
    high: Array  # (elements,)
    values: Array | None = None

    def interval(self, margin: float = 1.0) -> tuple[float, float]:
        """Return the least interval that holds all elements, widened `margin` times."""
        if not self.low.size:
            return 0.0, 0.0
        low, high = float(self.low.min()), float(self.high.max())
        more = (margin - 1.0) * (high - low) / 2
        return low - more, high + more

    def magnitude(self, margin: float = 1.0) -> float:
        """Return the largest absolute value, `margin` times; a stray sample's does not count.

        A network of squares may throw one sample in a hundred far away. Scaling for that one would
        cost all others their precision: the headroom of the modulus is there for it.
        """
        largest = max(map(abs, self.interval()))
        if self.values is not None and self.values.size:
            each = np.abs(self.values).max(axis=1)
            largest = min(largest, STRAY * float(np.quantile(each, 0.75)) or largest)
        return margin * largest


@dataclass(frozen=True, eq=False)
class Calibration:
    """Samples by input name, each (samples, elements), or None: then `input_range` holds.

    They are what is encrypted: an input's prologue is done.
    """

    samples: dict[str, Array] | None = None
    input_range: tuple[float, float] = (-1.0, 1.0)
    margin: float = 1.0  # what was seen in samples is widened by this factor

    @staticmethod
    def from_samples(
        graph: TensorGraph,
        samples: NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None,
        target: Target,
        model_name: str,
    ) -> Calibration:
        """Check the user's samples and keep as many as the graph's size affords.

        An array serves a graph with one input; the first axis counts samples.
        Raises `CompileError` if names, shapes, types, or values do not fit.
        """
        if samples is None:
            _require_bounded(graph, model_name)
            return _without_samples(target, model_name)
        expected = {operation.name: operation.shape for _, operation in inputs(graph)}
        given = _by_name(samples, expected, model_name)
        problems = [
            problem
            for name, shape in expected.items()
            for problem in _problems(given[name], name, shape, model_name)
        ] or _count_problems(given, model_name)
        if problems:
            raise CompileError(*problems)
        count = len(next(iter(given.values())))
        limit = affordable_samples(graph, MULTIPLICATIONS)
        chosen = np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)
        kept = {
            operation.name: prepared(
                given[operation.name][chosen], operation.shape, operation.prologue
            )
            for _, operation in inputs(graph)
        }
        return Calibration(kept, target.input_range, target.range_margin)

    def ranges(self, graph: TensorGraph) -> list[Range]:
        """Return the range of every operation: of the samples, or sound without samples."""
        if self.samples is None:
            return _sound_ranges(graph, self.input_range)
        return [
            Range(values.min(axis=0), values.max(axis=0), values)
            for values in evaluate(graph, self.samples)
        ]


def affordable_samples(graph: TensorGraph, multiplications: int) -> int:
    """Return how many samples one evaluation of `graph` can take within the budgets."""
    elements = sum(size(operation) for operation in graph.operations)
    functions = (x for x in graph.operations if not isinstance(x, Input | Linear | Multiply))
    work = nonzeros(graph) + elements + ELEMENT * sum(map(size, functions))
    limit = min(multiplications // max(work, 1), KEPT_VALUES // max(elements, 1))
    return min(max(limit, FEWEST), MOST)


def nonzeros(graph: TensorGraph) -> int:
    """Return the number of multiplications by a weight that one sample takes."""
    linears = (operation for operation in graph.operations if isinstance(operation, Linear))
    return sum(int(matrix.nnz) for linear in linears for matrix in linear.matrices)


def _without_samples(target: Target, model_name: str) -> Calibration:
    low, high = target.input_range
    if not (isfinite(low) and isfinite(high) and low < high):
        raise fail(
            f"the input range ({low:g}, {high:g}) is not an interval",
            model_name,
            "give a finite lower end, then a larger upper end",
        )
    warn(
        "no calibration data: all ranges are worst cases, which costs precision, "
        "and fitted activations get higher degrees",
        f"{model_name}: inputs assumed to lie in [{low:g}, {high:g}]",
        "pass --calibration with a few hundred real inputs",
    )
    return Calibration(None, target.input_range, 1.0)


def _require_bounded(graph: TensorGraph, model_name: str) -> None:
    """Raise `CompileError` for an input whose range no interval of the raw input tells."""
    for _, operation in inputs(graph):
        last = operation.prologue[-1:]
        if last and not (isinstance(last[0], Normalize) and last[0].norm in ("l1", "l2")):
            raise fail(
                "without calibration data nothing is known of values divided by their largest",
                f"{model_name}: input '{operation.name}'",
                "pass --calibration with a few hundred real inputs",
            )


def _by_name(
    samples: NDArray[np.generic] | Mapping[str, NDArray[np.generic]],
    expected: Mapping[str, Shape],
    model_name: str,
) -> dict[str, NDArray[np.generic]]:
    if isinstance(samples, Mapping):
        if set(samples) != set(expected):
            raise fail(
                f"calibration data is for inputs {_names(samples)}, not {_names(expected)}",
                model_name,
                "give one array for each input of the model, under its name",
            )
        return {name: np.asarray(array) for name, array in samples.items()}
    if len(expected) != 1:
        raise fail(
            f"calibration data is one array, but the model has {len(expected)} inputs",
            f"{model_name}: inputs {_names(expected)}",
            "give one array for each input of the model, under its name",
        )
    return {next(iter(expected)): np.asarray(samples)}


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "(none)"


def _problems(
    array: NDArray[np.generic], name: str, shape: Shape, model_name: str
) -> list[Problem]:
    place = f"{model_name}: input '{name}' of shape {shape}"
    if array.dtype.kind not in "biuf":
        help_ = "convert it to an array of real numbers"
        return [Problem(f"calibration data has type {array.dtype}", place, help_)]
    expected = [("samples", *shape)]
    if shape and shape[0] == 1:
        expected.append(("samples", *shape[1:]))
    if array.ndim == 0 or array.shape[1:] not in [form[1:] for form in expected]:
        message = f"calibration data has shape {array.shape}"
        forms = " or ".join(f"({', '.join(map(str, form))})" for form in expected)
        return [Problem(message, place, f"give an array of shape {forms}")]
    if not array.size:
        return [Problem("calibration data has no samples", place, "give at least one sample")]
    bad = [i for i, sample in enumerate(array) if not np.isfinite(sample.astype(np.float64)).all()]
    if bad:
        message = f"calibration data has {len(bad)} samples with NaN or infinity, first {bad[0]}"
        return [Problem(message, place, "remove or repair these samples")]
    return []


def _count_problems(given: Mapping[str, NDArray[np.generic]], model_name: str) -> list[Problem]:
    if len({len(array) for array in given.values()}) <= 1:
        return []
    counts = ", ".join(f"'{name}' has {len(array)}" for name, array in sorted(given.items()))
    message = f"calibration data has different numbers of samples: {counts}"
    return [Problem(message, model_name, "give the same number of samples for each input")]


def _sound_ranges(graph: TensorGraph, input_range: tuple[float, float]) -> list[Range]:
    ranges: list[Range] = []
    for operation in graph.operations:
        low, high = _bounds(operation, ranges, input_range)
        ranges.append(Range(low, high))
    return ranges


def _bounds(
    operation: TensorOperation, ranges: list[Range], input_range: tuple[float, float]
) -> tuple[Array, Array]:
    match operation:
        case Input():
            limits = (-1.0, 1.0) if operation.prologue else input_range  # a norm ends a prologue
            ends = np.array(limits) / operation.divisor
            count = prod(operation.shape)
            return np.full(count, ends.min()), np.full(count, ends.max())
        case Linear():
            return _linear_bounds(operation, ranges)
        case Multiply():
            return _product_bounds(operation, ranges)
        case Activation():
            operand = ranges[operation.operand]
            return _sampled_bounds(operation, operand.low, operand.high)
        case Polynomial():
            operand = ranges[operation.operand]
            return _polynomial_bounds(operation, operand.low, operand.high)
        case Bootstrap():
            reach = 2 * float(np.hypot(*operation.coefficients).sum())
            count = prod(operation.shape)
            return np.full(count, -reach), np.full(count, reach)
        case _:
            assert_never(operation)


def _linear_bounds(linear: Linear, ranges: list[Range]) -> tuple[Array, Array]:
    low, high = linear.bias.copy(), linear.bias.copy()
    for operand, matrix in zip(linear.operands, linear.matrices, strict=True):
        positive, negative = _part(matrix, 1.0), _part(matrix, -1.0)
        low += positive @ ranges[operand].low + negative @ ranges[operand].high
        high += positive @ ranges[operand].high + negative @ ranges[operand].low
    return low, high


def _part(matrix: sp.csr_array, sign: float) -> sp.csr_array:
    data = np.where(matrix.data * sign > 0, matrix.data, 0.0)
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _product_bounds(operation: Multiply, ranges: list[Range]) -> tuple[Array, Array]:
    left, right = ranges[operation.left], ranges[operation.right]
    corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
    low = np.minimum.reduce(corners)
    if operation.left == operation.right:
        low = np.maximum(low, 0.0)  # a square whose operand crosses zero has corners below it
    return low, np.maximum.reduce(corners)


def _sampled_bounds(operation: Activation, low: Array, high: Array) -> tuple[Array, Array]:
    steps = np.linspace(0.0, 1.0, GRID)[:, None]
    values = operation.function(low + steps * (high - low))
    changes = np.diff(values, axis=0)
    monotone = (changes >= 0).all(axis=0) | (changes <= 0).all(axis=0)
    more = np.where(monotone, 0.0, np.abs(changes).max(axis=0) / 2)  # between two grid points
    return values.min(axis=0) - more, values.max(axis=0) + more


def _polynomial_bounds(operation: Polynomial, low: Array, high: Array) -> tuple[Array, Array]:
    count = len(operation.coefficients)
    angles = (np.arange(count) + 0.5) * np.pi / count
    nodes = (low + high) / 2 + np.cos(angles)[:, None] * (high - low) / 2
    values = polynomial(operation, nodes)
    transform = 2 / count * np.cos(np.arange(count)[:, None] * angles)  # to Chebyshev coefficients
    coefficients = transform @ values
    centre, radius = coefficients[0] / 2, np.abs(coefficients[1:]).sum(axis=0)
    return centre - radius, centre + radius
