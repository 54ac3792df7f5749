"""One ONNX node as its converter sees it: inputs by kind, attributes by type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto

from hec.compiler.onnx_values import DIVERGED, Constant, Encrypted, NodeError, Value
from hec.compiler.tensor_ir import Array, Origin

_MAX_READERS = 3  # nodes that a message about a tensor lists


def node_name(proto: NodeProto) -> str:
    """Return the node's name, or one made of its operator and output if it has none."""
    return proto.name or f"{proto.op_type}_{next(iter(proto.output), '')}"


def operators_of(nodes: Iterable[NodeProto]) -> dict[str, str]:
    """Return the operator of every node, by the node's name."""
    return {node_name(proto): proto.op_type for proto in nodes}


def read_by(nodes: Iterable[NodeProto], tensor: str) -> str:
    """Return ", read by node ..." with the first few nodes that read a tensor, "" if none does."""
    found = [f"'{node_name(node)}' ({node.op_type})" for node in nodes if _reads(node, tensor)]
    if not found:
        return ""
    more = f" and {len(found) - _MAX_READERS} more" if len(found) > _MAX_READERS else ""
    return f", read by node{'s' * (len(found) > 1)} {', '.join(found[:_MAX_READERS])}{more}"


def _reads(node: NodeProto, tensor: str) -> bool:
    """Return whether the node has the tensor as an input, or a node of its graphs does."""
    graphs = [graph for a in node.attribute for graph in (a.g, *a.graphs)]
    inner = (other for graph in graphs for other in graph.node)
    return tensor in node.input or any(_reads(other, tensor) for other in inner)


def check_arity(proto: NodeProto, opset: int) -> None:
    """Raise `NodeError` if the node has too few or too many inputs; ignore unknown operators."""
    if proto.domain not in ("", "ai.onnx") or not onnx.defs.has(proto.op_type, opset):
        return
    schema = onnx.defs.get_schema(proto.op_type, opset)
    fewest, most = schema.min_input, schema.max_input
    if not fewest <= len(proto.input) <= most or "" in proto.input[:fewest]:
        given = sum(1 for name in proto.input if name)
        wanted = f"{fewest}" if fewest == most else f"at least {fewest}"
        raise NodeError(f"{proto.op_type} has {given} inputs, and needs {wanted}")


@dataclass(frozen=True, eq=False)
class Node:
    """A node whose inputs are all known, at least one of them encrypted."""

    proto: NodeProto
    opset: int
    inputs: tuple[Value | None, ...]  # None: an optional input that is left out
    is_final: bool = False  # whether its result reaches nothing but graph outputs

    @property
    def operator(self) -> str:
        """Return the operator's name."""
        return self.proto.op_type

    @property
    def origin(self) -> Origin:
        """Return the node's name, for the operations made from it."""
        return (node_name(self.proto),)

    def input(self, index: int) -> Value | None:
        """Return an input, None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> Value:
        """Return an input that the operator cannot do without."""
        value = self.input(index)
        if value is None:
            raise NodeError(f"{self.operator} lacks its input {index}")
        return value

    def encrypted(self, index: int) -> Encrypted:
        """Return an input that must be encrypted."""
        value = self.required(index)
        if not isinstance(value, Encrypted):
            raise NodeError(f"{self.operator} with a constant input {index} is not supported")
        return value

    def constant(self, index: int) -> Constant | None:
        """Return an input that must be constant, None if it is left out."""
        value = self.input(index)
        if value is None or isinstance(value, np.ndarray):
            return value
        raise NodeError(
            f"{self.operator} with an encrypted input '{self.proto.input[index]}' is not supported",
            "make this input a constant of the model",
        )

    def weights(self, index: int) -> Array:
        """Return a constant input as finite float64 numbers."""
        self.required(index)
        value = self.constant(index)
        name = self.proto.input[index]
        if value is None or value.dtype.kind not in "fiuV":
            raise NodeError(f"the constant '{name}' does not hold numbers")
        numbers = np.asarray(value, np.float64)
        if not np.isfinite(numbers).all():
            raise NodeError(
                f"the constant '{name}' holds NaN or infinite numbers",
                DIVERGED,
            )
        return numbers

    def attribute(self, name: str, kind: AttributeProto.AttributeType) -> AttributeProto | None:
        """Return an attribute, None if it is absent; raise `NodeError` if it has another type."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                if attribute.type != kind:
                    raise NodeError(f"the attribute '{name}' has the wrong type")
                found: AttributeProto = attribute
                return found
        return None

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        found = self.attribute(name, AttributeProto.INT)
        return default if found is None else int(found.i)

    def real(self, name: str, default: float) -> float:
        """Return a floating-point attribute; it must be finite if its default is."""
        found = self.attribute(name, AttributeProto.FLOAT)
        value = default if found is None else float(found.f)
        if isfinite(default) and not isfinite(value):
            raise NodeError(
                f"the attribute '{name}' is {value}",
                DIVERGED,
            )
        return value

    def reals(self, name: str) -> tuple[float, ...]:
        """Return a list of floating-point numbers; raise `NodeError` if it is absent."""
        found = self.attribute(name, AttributeProto.FLOATS)
        if found is None:
            raise NodeError(f"{self.operator} lacks the attribute '{name}'")
        return tuple(found.floats)

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        found = self.attribute(name, AttributeProto.STRING)
        return default if found is None else found.s.decode("utf-8", "replace")

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return a list of integers; raise `NodeError` if it is absent without a default."""
        found = self.attribute(name, AttributeProto.INTS)
        if found is not None:
            return tuple(found.ints)
        if default is None:
            raise NodeError(f"{self.operator} lacks the attribute '{name}'")
        return tuple(default)
