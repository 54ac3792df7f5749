"""Rebuilding a TensorGraph: new positions for operands, new operations in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import assert_never

from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Origin,
    Output,
    Polynomial,
    TensorGraph,
    TensorOperation,
    operands,
)


@dataclass
class Rebuilt:
    """A graph in the making; `positions` maps the old graph's operations to the new ones."""

    operations: list[TensorOperation] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)

    def add(self, operation: TensorOperation) -> int:
        """Append an operation whose operands are new positions; return its position."""
        self.operations.append(operation)
        return len(self.operations) - 1

    def keep(self, position: int, operation: TensorOperation) -> None:
        """Append an operation of the old graph, whose operands are old positions."""
        self.positions[position] = self.add(with_operands(operation, self.positions.__getitem__))

    def finish(self, outputs: Sequence[Output]) -> TensorGraph:
        """Return the graph; the outputs read old positions."""
        renamed = (replace(output, operand=self.positions[output.operand]) for output in outputs)
        return TensorGraph(tuple(self.operations), tuple(renamed))


def with_operands(operation: TensorOperation, rename: Callable[[int], int]) -> TensorOperation:
    """Return `operation` reading `rename(operand)` in place of each operand."""
    match operation:
        case Input():
            return operation
        case Linear():
            return replace(operation, operands=tuple(map(rename, operation.operands)))
        case Multiply():
            left, right = rename(operation.left), rename(operation.right)
            return replace(operation, left=left, right=right)
        case Activation() | Polynomial() | Bootstrap():
            return replace(operation, operand=rename(operation.operand))
        case _:
            assert_never(operation)


def is_live(graph: TensorGraph) -> list[bool]:
    """Return for every operation whether an output depends on it."""
    live = [False] * len(graph.operations)
    for output in graph.outputs:
        live[output.operand] = True
    for position in reversed(range(len(live))):
        if live[position]:
            for operand in operands(graph.operations[position]):
                live[operand] = True
    return live


def consumers(graph: TensorGraph) -> list[list[int]]:
    """Return for every operation the live operations that read it, each once."""
    readers: list[list[int]] = [[] for _ in graph.operations]
    live = is_live(graph)
    for position, operation in enumerate(graph.operations):
        for operand in set(operands(operation)) if live[position] else ():
            readers[operand].append(position)
    return readers


def merged(*origins: Origin) -> Origin:
    """Return the ONNX nodes of several operations, each once, in order."""
    return tuple(dict.fromkeys(node for origin in origins for node in origin))
