"""The layers of a plan: runs of instructions that came from the same ONNX nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hec.compiler.ckks_ir import Bootstrap, Input, Multiply, Output, Polynomial
from hec.compiler.errors import fail
from hec.compiler.plan_parts import PlanFit, PlanTensor, ServerPart
from hec.compiler.typing_rules import operands

_MOST_LISTED: Final = 12  # layers in a message


@dataclass(frozen=True)
class Layer:
    """One layer; layers are numbered from 1 in the order of execution."""

    number: int
    label: str
    positions: tuple[int, ...]  # of its instructions, ascending
    nodes: tuple[str, ...]  # all ONNX nodes that it came from, as far as the plan knows them

    def __str__(self) -> str:
        return f"{self.number} '{self.label}'"


def layers(server: ServerPart) -> tuple[Layer, ...]:
    """Return the layers of a plan, inputs and outputs left out."""
    groups = layer_positions(server)
    return tuple(
        Layer(number, server.labels[group[0]], tuple(group), _nodes(server, group))
        for number, group in enumerate(groups, start=1)
    )


def layer_positions(server: ServerPart) -> list[list[int]]:
    """Return the instructions of each layer: runs of one label, a nonlinear one begins anew."""
    groups: list[list[int]] = []
    last: tuple[str, bool] | None = None
    for position, instruction in enumerate(server.program.instructions):
        if isinstance(instruction, Input | Output):
            continue
        nonlinear = isinstance(instruction, Multiply | Polynomial | Bootstrap)
        label = server.labels[position]
        if last is None or last[0] != label or nonlinear:
            groups.append([])
        groups[-1].append(position)
        last = (label, nonlinear)
    return groups


def tensor_at(server: ServerPart, position: int) -> PlanTensor | None:
    """Return the tensor that instruction `position` belongs to, None where the plan is silent."""
    return server.tensors[server.sources[position]] if server.sources else None


def fit_of(server: ServerPart, layer: Layer) -> PlanFit | None:
    """Return what was fitted in a layer, known by the value that it reads, or by its label."""
    read = {
        operand
        for i in layer.positions
        if isinstance(x := server.program.instructions[i], Multiply | Polynomial | Bootstrap)
        for operand in operands(x)
    }
    for item in server.fits:
        named = item.value is None and item.label == layer.label and bool(read)
        if item.value in read or named:
            return item
    return None


def find_layer(server: ServerPart, wanted: str, place: str) -> Layer:
    """Return the layer with this number, label, ONNX node, or part of a label.

    Raise `CompileError`, with the candidates, where there is none or more than one.
    """
    known = layers(server)
    if not known:
        raise fail(
            "the plan has no layers",
            place,
            "its network only moves data: see hec report for what that takes",
        )
    if wanted.isdecimal() and 1 <= int(wanted) <= len(known):
        return known[int(wanted) - 1]
    for found in _matches(known, wanted):
        if len(found) == 1:
            return found[0]
        if found:
            raise fail(
                f"'{wanted}' is the name, or part of it, of {len(found)} layers",
                place,
                f"give one of the numbers: {_listed(found)}",
            )
    raise fail(f"the plan has no layer '{wanted}'", place, f"give one of {_listed(known)}")


def _matches(known: Sequence[Layer], wanted: str) -> Iterable[list[Layer]]:
    """Yield what matches, the strictest way first."""
    part = wanted.casefold()
    yield [layer for layer in known if layer.label == wanted]
    yield [layer for layer in known if wanted in layer.nodes]
    yield [layer for layer in known if wanted and part in layer.label.casefold()]
    yield [layer for layer in known if wanted and any(part in x.casefold() for x in layer.nodes)]


def _listed(found: Sequence[Layer]) -> str:
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return ", ".join(map(str, found[:_MOST_LISTED])) + more


def _nodes(server: ServerPart, group: Sequence[int]) -> tuple[str, ...]:
    known = (tensor_at(server, position) for position in group)
    return tuple(dict.fromkeys(name for tensor in known if tensor for name in tensor.nodes))
