"""Narrow the sums of Softmax: where they differ too much for 1/x to be fitted, shift exp first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.calibration import Calibration, Range
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Array, Linear, Multiply, TensorGraph, size
from hec.passes.matrices import diagonal_matrix, is_copy
from hec.passes.rewriting import Rebuilt, consumers

WIDEST: Final = 24.0  # largest over smallest sum for which 1/x is fitted as it is; measured: 007
HALF: Final = 0.5  # of the inputs, in the sum that estimates the other
SOUND: Final = 1 / HALF  # weight of the estimate: the new sums then lie in [1/n, 1] on any data
_STEPS: Final = 4  # sum, reciprocal, copies, product

Blocks = NDArray[np.intp]


@dataclass(frozen=True)
class _Softmax:
    """Positions of exp, sum, and reciprocal, and which sum each element of exp belongs to."""

    exp: int
    total: int
    blocks: Blocks


def narrow_softmax(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Subtract an estimate of log(sum(exp x)) from x where sums range over more than `WIDEST`.

    The estimate is a + b log(sum(exp(x / 2))): of half the inputs the sum ranges over the root
    only. Whatever is subtracted, the shares stay the same, for the sum is made of what exp then
    gives; so the estimate may be rough, and its logarithm has a mild slope. With b = 2 the new sums
    lie in [1/n, 1] whatever the inputs are; on samples a and b are the best on average. Costs two
    activations more, and pays because 1/x over a range of a thousand has no fit of low degree, and
    because exp of a row then has a largest value near 1, above the noise of a bootstrap.

    Source: of the two steps, Cho et al., "Fast and Accurate Homomorphic Softmax Evaluation" (CCS
    2024), which normalizes and squares; measured in docs/design/007. Cost: one evaluation of the
    graph where there is a Softmax.
    """
    found = {softmax.exp: softmax for softmax in _softmaxes(graph)}
    if not found:
        return graph
    with np.errstate(all="ignore"):  # functions have no domain yet
        ranges = calibration.ranges(graph)
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        softmax = found.get(position)
        if softmax is not None and _ratio(ranges[softmax.total]) > WIDEST:
            exp = operation
            assert isinstance(exp, Activation)  # what `_softmaxes` looks for
            weights = _weights(ranges[exp.operand], softmax.blocks)
            shifted = _append_shift(rebuilt, exp, softmax, weights)
            rebuilt.positions[position] = rebuilt.add(replace(exp, operand=shifted))
        else:
            rebuilt.keep(position, operation)
    return rebuilt.finish(graph.outputs)


def _softmaxes(graph: TensorGraph) -> Iterator[_Softmax]:
    """Yield every exp whose values are only divided by their own sums, and not yet shifted."""
    readers = consumers(graph)
    for output in graph.outputs:  # an output has another reader
        readers[output.operand].append(len(graph.operations))
    for position, operation in enumerate(graph.operations):
        if not isinstance(operation, Activation) or operation.function != Function("exp"):
            continue
        if not _is_shifted(graph, operation.operand):
            for total in readers[position]:
                blocks = _blocks(graph, readers, position, total)
                yield from () if blocks is None else (_Softmax(position, total, blocks),)


def _blocks(graph: TensorGraph, readers: list[list[int]], exp: int, total: int) -> Blocks | None:
    """Return the sum that each element of `exp` is divided by, if `total` is one of Softmax."""
    path, end = [total], len(graph.operations)
    while len(path) < _STEPS and path[-1] < end and len(readers[path[-1]]) == 1:
        path += readers[path[-1]]
    if end in path or {*readers[exp]} != {total, path[-1]}:
        return None
    match [graph.operations[i] for i in path]:
        case [
            Linear(operands=(_,)) as sums,
            Activation(function=Function("reciprocal", (), ())),
            Linear(operands=(_,)) as copies,
            Multiply(),
        ]:
            return _shared_blocks(sums, copies)
        case _:
            return None


def _shared_blocks(sums: Linear, copies: Linear) -> Blocks | None:
    """Return which sum `copies` takes back to each element that `sums` adds up, if all are."""
    adds = sp.csr_array(sums.matrices[0].T)
    blocks: Blocks = copies.matrices[0].indices.astype(np.intp)
    if sums.bias.any() or copies.bias.any() or not is_copy(copies.matrices[0]):
        return None
    return blocks if is_copy(adds) and np.array_equal(adds.indices, blocks) else None


def _is_shifted(graph: TensorGraph, operand: int) -> bool:
    operation = graph.operations[operand]
    sources = operation.operands if isinstance(operation, Linear) else ()
    inner = [graph.operations[source] for source in sources]
    return any(isinstance(x, Activation) and x.function.name == "log" for x in inner)


def _ratio(total: Range) -> float:
    low, high = total.interval()
    ratio = high / low if low > 0 else np.inf
    return float(ratio) if np.isfinite(ratio) else np.inf


def _weights(seen: Range, blocks: Blocks) -> tuple[float, float]:
    """Return a and b, so that a + b log(sum(exp(x / 2))) is near log(sum(exp x))."""
    if seen.values is None:
        return 0.0, SOUND
    estimate = _log_sums(HALF * seen.values, blocks).reshape(-1)
    wanted = _log_sums(seen.values, blocks).reshape(-1)
    if np.ptp(estimate) == 0:
        return 0.0, SOUND
    slope, constant = np.polyfit(estimate, wanted, 1)
    return float(constant), float(slope)


def _log_sums(x: Array, blocks: Blocks) -> Array:
    """Return the logarithm of the sum of exp(x) over each block, (samples, blocks)."""
    order = np.argsort(blocks, kind="stable")
    starts = np.searchsorted(blocks[order], np.arange(int(blocks.max()) + 1))
    ordered = x[:, order]
    largest = np.maximum.reduceat(ordered, starts, axis=1)
    rest = np.exp(ordered - largest[:, blocks[order]])
    return np.asarray(largest + np.log(np.add.reduceat(rest, starts, axis=1)), np.float64)


def _append_shift(
    rebuilt: Rebuilt, exp: Activation, softmax: _Softmax, weights: tuple[float, float]
) -> int:
    """Append what computes the shifted inputs; return their position."""
    source, shape, origin = rebuilt.positions[exp.operand], exp.shape, exp.origin
    count, blocks = size(exp), int(softmax.blocks.max()) + 1
    zeros = np.zeros(count)
    halves = diagonal_matrix(np.full(count, HALF))
    adds = sp.csr_array((np.ones(count), (softmax.blocks, np.arange(count))), (blocks, count))
    copies = sp.csr_array(adds.T)
    half = rebuilt.add(Linear((source,), (halves,), zeros, shape, origin))
    powers = rebuilt.add(Activation(half, Function("exp"), shape, origin))
    total = rebuilt.add(Linear((powers,), (adds,), np.zeros(blocks), (1, blocks), origin))
    log = rebuilt.add(Activation(total, Function("log"), (1, blocks), origin))
    spread = rebuilt.add(Linear((log,), (copies,), zeros, shape, origin))
    same, (constant, slope) = diagonal_matrix(np.ones(count)), weights
    matrices = (same, diagonal_matrix(np.full(count, -slope)))
    return rebuilt.add(Linear((source, spread), matrices, zeros - constant, shape, origin))
