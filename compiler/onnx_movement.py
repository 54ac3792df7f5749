"""Operators that only move data: Reshape, Transpose, Slice, Gather, Pad, Concat, Where …

The operator runs on element numbers instead of elements, through onnx's reference implementation;
the numbers that come out say which input element each output element is. So every option of
every operator-set version means what ONNX says, and no operator needs code of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hec.compiler.onnx_fold import run_node
from hec.compiler.onnx_matrices import Indices, select
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import (
    MAX_ELEMENTS,
    Constant,
    Encrypted,
    GraphBuilder,
    NodeError,
    Term,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.tensor_ir import EpilogueStep

_MOVES_FIRST_INPUT = (
    "CenterCropPad Compress DepthToSpace Expand Flatten Gather Reshape ReverseSequence Slice "
    "SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze"
)
OPERATORS = frozenset(_MOVES_FIRST_INPUT.split()) | {"Concat", "Where"}
RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def convert_movement(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a node of `OPERATORS` into one selection per output, or none if nothing moves."""
    first = node.inputs[0]
    if isinstance(first, Encrypted) and first.epilogue:
        return [_reshape_afterwards(builder, node, first)]
    pool = Pool(node, _data_inputs(node))
    arrays = [pool.numbers(k) for k in range(len(node.inputs))]
    results = run_node(node.proto, node.opset, arrays, MAX_ELEMENTS)
    return [pool.selection(builder, np.asarray(result, np.int64)) for result in results]


def convert_pad(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Pad in any mode into a selection; negative padding cuts off."""
    x = node.encrypted(0)
    pads = _pads(node, len(x.shape))
    mode = node.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise NodeError(f"Pad in mode '{mode}' does not exist in ONNX")
    filler = node.real("value", 0.0) if node.input(2) is None else node.weights(2).item()
    check_shape(size + sum(pair) for size, pair in zip(x.shape, pads, strict=True))
    pool = Pool(node, (0,))
    cut = tuple(
        slice(max(-begin, 0), size - max(-end, 0))
        for size, (begin, end) in zip(x.shape, pads, strict=True)
    )
    grown = [(max(begin, 0), max(end, 0)) for begin, end in pads]
    numbers = np.pad(pool.element_numbers(0)[cut], grown, mode=mode)  # type: ignore[call-overload]
    return [pool.selection(builder, numbers, filler)]


def _pads(node: Node, rank: int) -> list[tuple[int, int]]:
    given, axes = node.constant(1), node.constant(3)
    flat = node.integers("pads") if given is None else [int(p) for p in given.reshape(-1)]
    padded = range(rank) if axes is None else [check_axis(int(a), rank) for a in axes.reshape(-1)]
    if len(flat) != 2 * len(padded):
        raise NodeError(f"{len(flat)} pads do not fit {len(padded)} axes")
    pads = [(0, 0)] * rank
    for axis, begin, end in zip(padded, flat, flat[len(padded) :], strict=False):
        pads[axis] = (begin, end)
    return pads


def _reshape_afterwards(builder: GraphBuilder, node: Node, value: Encrypted) -> Encrypted:
    numbers = np.arange(np.prod(value.shape, dtype=np.int64)).reshape(value.shape)
    others = [node.constant(k) for k in range(1, len(node.inputs))]
    (result,) = run_node(node.proto, node.opset, [numbers, *others])
    shape = check_shape(result.shape)
    return builder.finish(value, shape, EpilogueStep("reshape", shape=shape))


def _data_inputs(node: Node) -> Sequence[int]:
    if node.operator == "Concat":
        return range(len(node.inputs))
    return (1, 2) if node.operator == "Where" else (0,)


class Pool:
    """Numbers for the elements of a node's data inputs; 0 is what padding is made of."""

    def __init__(self, node: Node, data_inputs: Sequence[int]) -> None:
        self._node = node
        self._starts: dict[int, int] = {}
        total = 1
        for index in data_inputs:
            value = node.input(index)
            if isinstance(value, Encrypted | np.ndarray):
                self._starts[index] = total
                total += int(np.prod(value.shape, dtype=np.int64))

    def numbers(self, index: int) -> Constant | None:
        """Return an input's element numbers, or the input itself if it is not data."""
        if index not in self._starts:
            return self._node.constant(index)
        return self.element_numbers(index)

    def element_numbers(self, index: int) -> NDArray[np.int64]:
        """Return the numbers of a data input's elements, in its shape."""
        value = self._node.inputs[index]
        shape = value.shape if isinstance(value, Encrypted | np.ndarray) else ()
        count = int(np.prod(shape, dtype=np.int64))
        return np.arange(count, dtype=np.int64).reshape(shape) + self._starts[index]

    def selection(self, builder: GraphBuilder, numbers: Indices, filler: float = 0.0) -> Encrypted:
        """Return the tensor with the elements that `numbers` name, `filler` at 0."""
        node = self._node
        shape = check_shape(numbers.shape)
        check_nonzeros(len(self._starts) * numbers.size)
        bias = np.where(numbers == 0, filler, 0.0)
        terms: list[Term] = []
        for index, start in self._starts.items():
            value = node.inputs[index]
            if isinstance(value, Encrypted):
                width = int(np.prod(value.shape, dtype=np.int64))
                inside = (numbers >= start) & (numbers < start + width)
                columns = np.where(inside, numbers - start, -1)
                terms.append((value.position, select(columns, width)))
            else:
                flat = node.weights(index).reshape(-1)
                inside = (numbers >= start) & (numbers < start + flat.size)
                bias[inside] = flat[numbers[inside] - start]
        return builder.linear(terms, bias, shape, node.origin)


def check_axis(axis: int, rank: int) -> int:
    """Return `axis` counted from the front; raise `NodeError` if the tensor has no such axis."""
    if not -rank <= axis < rank:
        raise NodeError(f"axis {axis} does not exist in a tensor of rank {rank}")
    return axis % rank
