"""Two plans side by side: totals, and layers aligned by the ONNX nodes that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

from hec.compiler.cost_table import CostTable
from hec.compiler.layer_report import LayerReport
from hec.compiler.layers import Layer, layers
from hec.compiler.plan import Plan
from hec.compiler.program_depth import depth
from hec.compiler.report import Report, report, server_of

Unit: TypeAlias = Literal["", "seconds", "bytes", "bits", "precision", "share"]  # "": a count


@dataclass(frozen=True)
class Row:
    """One number of both plans."""

    name: str
    unit: Unit
    left: float | None  # None: this plan does not tell
    right: float | None
    difference: float | None  # right - left
    ratio: float | None  # right / left; None: not known, or of a precision, which is a logarithm


@dataclass(frozen=True)
class Side:
    """A layer in one of the plans."""

    number: int
    label: str
    operation: str
    level_in: int
    level_out: int
    seconds: float
    rotations: int
    plaintext_bytes: int


@dataclass(frozen=True)
class LayerRow:
    """A layer of both plans, or of one."""

    left: Side | None
    right: Side | None
    seconds: Row


@dataclass(frozen=True)
class Comparison:
    """What two plans have in common, and what not."""

    models: tuple[str, str]
    plan_ids: tuple[str, str]
    backends: tuple[str, str]  # and whose seconds
    ways: tuple[str, str]  # why each backend and way was chosen, in words
    rows: tuple[Row, ...]
    layers: tuple[LayerRow, ...]


def compare(left: tuple[Plan, CostTable], right: tuple[Plan, CostTable]) -> Comparison:
    """Return two plans side by side, each in the seconds of its table."""
    mine, theirs = report(*left), report(*right)
    numbers = zip(_numbers(left[0], mine), _numbers(right[0], theirs), strict=True)
    return Comparison(
        (mine.model, theirs.model),
        (mine.plan_id, theirs.plan_id),
        (_backend(mine), _backend(theirs)),
        (left[0].server.reason, right[0].server.reason),
        tuple(_row(name, unit, one, other) for (name, unit, one), (_, _, other) in numbers),
        tuple(_aligned(_sides(left[0], mine), _sides(right[0], theirs))),
    )


def _row(name: str, unit: Unit, left: float | None, right: float | None) -> Row:
    if left is None or right is None:
        return Row(name, unit, left, right, None, None)
    ratio = right / left if left and unit != "precision" else None
    return Row(name, unit, left, right, right - left, ratio)


def _numbers(plan: Plan, told: Report) -> Iterator[tuple[str, Unit, float | None]]:
    parameters, server = told.parameters, server_of(told)
    yield "ring degree", "", parameters.ring_degree
    yield "modulus", "bits", parameters.modulus_bits
    yield "security", "bits", parameters.security_bits
    yield "levels of a fresh ciphertext", "", len(parameters.prime_bits) - 1
    yield "depth", "", depth(plan.server.program)
    yield "bootstraps", "", server.bootstraps.count if server.bootstraps else 0
    yield "seconds", "seconds", server.seconds
    yield "  of matrices", "seconds", server.seconds_by_kind.matrices
    yield "  of bootstraps", "seconds", server.seconds_by_kind.bootstraps
    yield "  of other steps", "seconds", server.seconds_by_kind.other
    yield "rotations", "", sum(layer.rotations for layer in server.layers)
    yield "memory of the server", "bytes", server.memory.peak
    yield "  without weights", "bytes", server.memory.least
    yield "evaluation keys", "", told.keys
    yield "  size", "bytes", told.key_bytes
    yield "ciphertexts sent", "", sum(x.ciphertexts for x in told.inputs)
    yield "  size", "bytes", sum(x.bytes for x in told.inputs)
    yield "ciphertexts received", "", sum(x.ciphertexts for x in told.outputs)
    yield "  size", "bytes", sum(x.bytes for x in told.outputs)
    yield "precision of the outputs", "precision", told.precision_bits
    known = plan.server.calibrated
    yield "agreement with the network", "share", None if known is None else known.agreement
    yield "error of fits", "share", None if known is None else known.error


def _backend(told: Report) -> str:
    return f"backend {told.backend}, {told.threads}, seconds of {server_of(told).costs}"


@dataclass(frozen=True)
class _Item:
    """A layer to align: by its nodes, and by whether it is linear."""

    side: Side
    nodes: tuple[str, ...]
    linear: bool

    @property
    def key(self) -> tuple[tuple[str, ...], bool]:
        return self.nodes, self.linear


def _sides(plan: Plan, told: Report) -> list[_Item]:
    pairs = zip(layers(plan.server), server_of(told).layers, strict=True)
    return [_item(layer, found) for layer, found in pairs]


def _item(layer: Layer, told: LayerReport) -> _Item:
    side = Side(
        layer.number,
        layer.label,
        told.operation,
        told.level_in,
        told.level_out,
        told.seconds,
        told.rotations,
        told.plaintext_bytes,
    )
    nodes = layer.nodes or (layer.label,)
    return _Item(side, nodes, told.is_linear)


def _aligned(left: Sequence[_Item], right: Sequence[_Item]) -> Iterator[LayerRow]:
    """Yield the layers of both in order, those of the same nodes beside each other."""
    matcher = SequenceMatcher(None, [x.key for x in left], [x.key for x in right], autojunk=False)
    for _, start, stop, begin, end in matcher.get_opcodes():
        for one, other in _paired(left[start:stop], right[begin:end]):
            mine, theirs = (None if item is None else item.side for item in (one, other))
            before, after = (None if x is None else x.seconds for x in (mine, theirs))
            yield LayerRow(mine, theirs, _row("seconds", "seconds", before, after))


def _paired(
    left: Sequence[_Item], right: Sequence[_Item]
) -> Iterator[tuple[_Item | None, _Item | None]]:
    """Yield pairs that share a node and are both linear, or both not; and the rest alone."""
    waiting = list(right)
    for one in left:
        places = (i for i, other in enumerate(waiting) if _is_pair(one, other))
        place = next(places, None)
        if place is None:
            yield one, None
            continue
        yield from ((None, other) for other in waiting[:place])
        yield one, waiting[place]
        waiting = waiting[place + 1 :]
    yield from ((None, other) for other in waiting)


def _is_pair(one: _Item, other: _Item) -> bool:
    return one.linear == other.linear and bool(set(one.nodes) & set(other.nodes))
