"""What `hec lint` finds, and what it looks at: a network, and the graphs that it becomes.

A price is computed, never guessed, and always a least one: what the network takes at least so much
more than what the help proposes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np
from onnx import NodeProto

from hec.compiler.calibration import Calibration, Range
from hec.compiler.depth import activation_levels, fewest_levels
from hec.compiler.errors import Problem
from hec.compiler.onnx_import import Survey
from hec.compiler.onnx_node import node_name
from hec.compiler.onnx_values import Unknown
from hec.compiler.parameters import SMALLEST_PRIME_BITS
from hec.compiler.security import MAX_MODULUS_BITS
from hec.compiler.strategies import FUNCTIONAL_BOOTSTRAP
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Linear,
    Multiply,
    Output,
    Polynomial,
    Shape,
    TensorGraph,
    TensorOperation,
    operands,
    size,
)

Severity: TypeAlias = Literal["error", "costly", "note"]
LEVELED_RING: Final = 32768  # the largest ring of a leveled program
REFRESHING_RING: Final = 65536  # the largest ring of one with bootstraps


@dataclass(frozen=True)
class Price:
    """What a choice costs at least, compared with what the help proposes; None: not known."""

    levels: int | None = None
    bootstraps: int | None = None
    values: int | None = None  # elements on which a function is computed
    seconds: float | None = None  # of one prediction, on the reference machine

    def __str__(self) -> str:
        parts = [
            f"{count:,} {name}{'s' if count > 1 else ''}"
            for count, name in (
                (self.levels, "level"),
                (self.bootstraps, "bootstrap"),
                (self.values, "value"),
            )
            if count
        ]
        seconds = [] if self.seconds is None else [f"{self.seconds:.3g} s"]
        return ", ".join(parts + seconds) or "nothing"


FREE: Final = Price(levels=0)


@dataclass(frozen=True)
class Finding:
    """One thing in a network that cannot be compiled, costs something, or is good to know."""

    rule: str
    severity: Severity
    message: str
    place: str  # in the words of ONNX
    help: str = ""
    price: Price | None = None

    def __str__(self) -> str:
        price = "" if self.price is None else f"\n  costs at least: {self.price}"
        problem = Problem(f"{self.severity}: {self.message}", self.place, self.help)
        return f"{problem}{price}"


@dataclass(frozen=True, eq=False)
class Subject:
    """A network under scrutiny.

    Where only MaxPool fails, `rest` is the survey with averages instead, else `survey` itself.
    `recognized` is its graph after functions were recognised, `fused` after linear layers were
    fused; both hold what could be converted.
    """

    survey: Survey
    rest: Survey
    recognized: TensorGraph
    fused: TensorGraph
    calibration: Calibration
    target: Target

    @cached_property
    def levels(self) -> int:
        """Levels that a leveled program takes at least."""
        return fewest_levels(self.fused)

    @property
    def most_levels(self) -> int:
        """Levels for which the largest modulus of a leveled program has room."""
        return most_levels(self.target)

    @property
    def refreshes(self) -> bool:
        """Tell whether only bootstraps can run the network."""
        return self.levels > self.most_levels

    @cached_property
    def ranges(self) -> list[Range]:
        """Where the samples put the tensors of `fused`."""
        with np.errstate(all="ignore"):  # values may overflow
            return self.calibration.ranges(self.fused)

    @cached_property
    def protos(self) -> dict[str, NodeProto]:
        """The nodes of the network by name."""
        return {node_name(proto): proto for proto in self.survey.model.nodes}

    def shape(self, tensor: str) -> Shape | None:
        """Return the shape of a tensor, None where it is not known."""
        value = self.rest.values.get(tensor)
        return None if value is None or isinstance(value, Unknown) else tuple(value.shape)

    def place(self, operation: TensorOperation) -> str:
        """Return where an operation is: its last node, and that one's first output."""
        origin = getattr(operation, "origin", ())
        name = origin[-1] if origin else ""
        proto = self.protos.get(name)
        if proto is None:
            return f"{self.survey.model.name}: node '{name}'"
        tensor = next(iter(proto.output), "")
        shape = self.shape(tensor)
        known = f" of shape {shape}" if shape is not None else ""
        return f"{self.survey.model.name}: node '{name}' -> tensor '{tensor}'{known}"

    def word(self, operation: TensorOperation) -> str:
        """Return what to call an operation: its function, or its ONNX operator."""
        if isinstance(operation, Activation):
            return str(operation.function)
        if is_square(operation):
            return "square"
        if isinstance(operation, Polynomial):
            return f"polynomial of degree {len(operation.coefficients) - 1}"
        origin = getattr(operation, "origin", ())
        proto = self.protos.get(origin[-1]) if origin else None
        return "operation" if proto is None else str(proto.op_type)

    def ciphertexts(self, values: int) -> int:
        """Return how many ciphertexts hold so many values at least."""
        return -(-values // ((REFRESHING_RING if self.refreshes else LEVELED_RING) // 2))

    def activation_price(self, values: int, count: int = 1) -> Price:
        """Return the least price of `count` activations of so many values, one after another."""
        if not self.refreshes:
            return Price(levels=count * activation_levels(self.fused))
        return refreshed(count * self.ciphertexts(values))


def most_levels(target: Target) -> int:
    """Return the levels for which the largest modulus of a leveled program has room."""
    return MAX_MODULUS_BITS[target.security][LEVELED_RING] // SMALLEST_PRIME_BITS


def refreshed(bootstraps: int) -> Price:
    """Return the least price of so many bootstraps."""
    return Price(bootstraps=bootstraps, seconds=bootstraps * FUNCTIONAL_BOOTSTRAP)


def is_square(operation: TensorOperation) -> bool:
    """Tell whether the operation multiplies a tensor by itself."""
    return isinstance(operation, Multiply) and operation.left == operation.right


def nonlinear(graph: TensorGraph) -> Iterator[tuple[int, Activation | Polynomial | Multiply]]:
    """Yield what computes a function of each element of one tensor, with its position."""
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Multiply) and not is_square(operation):
            continue
        if isinstance(operation, Activation | Polynomial | Multiply):
            yield position, operation


def operand_of(operation: Activation | Polynomial | Multiply) -> int:
    """Return the position of the tensor whose elements the function takes."""
    return operation.left if isinstance(operation, Multiply) else operation.operand


def read_values(layers: Sequence[Linear], operand: int, count: int) -> int:
    """Return how many of the `count` elements of `operand` the layers read."""
    read = np.zeros(count, np.bool_)
    for layer in layers:
        for position, matrix in zip(layer.operands, layer.matrices, strict=True):
            if position == operand:
                read[matrix.indices[matrix.data != 0]] = True
    return int(np.count_nonzero(read))


def with_sinks(graph: TensorGraph) -> TensorGraph:
    """Return the graph with an output for every operation that nothing reads."""
    read = {i for operation in graph.operations for i in operands(operation)}
    ends = [i for i in range(len(graph.operations)) if i not in read]
    return replace(graph, outputs=tuple(Output(f"end {i}", i) for i in ends))


def total_values(graph: TensorGraph) -> int:
    """Return on how many elements functions are computed."""
    return sum(size(operation) for _, operation in nonlinear(graph))
