"""What a report tells of one layer: the instructions that came from the same ONNX nodes.

Layers are numbered in the order of execution, and say which ones they read, so that the network can
be drawn from a report alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Annotated, Final, Literal, TypeAlias

from hec.compiler.ckks_ir import (
    Bootstrap,
    Input,
    Instruction,
    LinearTransform,
    Multiply,
    Output,
    Polynomial,
)
from hec.compiler.forecast import CONFIDENCE, Forecast
from hec.compiler.instruction_counts import InstructionCounts
from hec.compiler.layers import layer_positions
from hec.compiler.liveness import bytes_alive
from hec.compiler.plan_parts import ServerPart
from hec.compiler.typing_rules import infer_types, operands

LayerKind: TypeAlias = Literal["matrix", "square", "product", "polynomial", "bootstrap", "sum"]
_SMALLEST_ERROR: Final = 2.0**-64  # of a layer that adds none, so that its bits are finite


@dataclass(frozen=True)
class LayerReport:
    """The instructions that came from the same ONNX nodes, in the order of execution."""

    nodes: Annotated[str, "names of the ONNX nodes, at most three, joined by ' + '"]
    kind: Annotated[LayerKind, "what it does on ciphertexts"]
    operation: Annotated[str, "the same in words, with the degree of a polynomial or bootstrap"]
    reads: Annotated[tuple[int, ...], "positions in `layers` of those whose results it reads"]
    inputs: Annotated[tuple[int, ...], "positions in the report's `inputs` that it reads"]
    outputs: Annotated[tuple[int, ...], "positions in the report's `outputs` that it makes"]
    level_in: Annotated[int, "rescalings left in what it reads; the most, if that differs"]
    level_out: Annotated[int, "rescalings left in its result"]
    scale_bits: Annotated[float, "log2 of the scale of its result"]
    ciphertexts: Annotated[int, "that hold its result"]
    rotations: Annotated[int, "of ciphertexts; those inside of bootstraps are not counted"]
    key_switches: Annotated[int, "of rotations and products; as above"]
    diagonals: Annotated[int, "of its matrix that are not zero"]
    seconds: Annotated[float, "of one prediction"]
    precision_bits: Annotated[float, "of its result, from encryption, in slots in [-1, 1]"]
    encryption_error: Annotated[float, "root mean square that encryption causes, in such slots"]
    error_bound: Annotated[float, "that no slot's error from encryption exceeds, almost surely"]
    approximation_error: Annotated[
        float | None, "root mean square that fitted activations cause, in the same slots"
    ]
    plaintext_bytes: Annotated[int, "its encoded weights in memory"]
    live_bytes: Annotated[int, "all ciphertexts that are still to be read while it runs, at most"]

    @property
    def is_linear(self) -> bool:
        """Whether it takes no product of ciphertexts."""
        return self.kind in ("matrix", "sum")


def layer_reports(server: ServerPart, predicted: Forecast) -> tuple[LayerReport, ...]:
    """Return every layer of the server's Program."""
    groups = layer_positions(server)
    maker = _Maker(server, predicted, groups)
    return tuple(maker.layer(group) for group in groups)


class _Maker:
    """What the layers of one Program have in common, computed once."""

    def __init__(self, server: ServerPart, predicted: Forecast, groups: list[list[int]]) -> None:
        self.server, self.predicted = server, predicted
        self.instructions = server.program.instructions
        types = infer_types(server.program)
        self.counts = InstructionCounts(server.program.parameters, types)
        self.live = bytes_alive(server.program, types)
        self.owner = {i: number for number, group in enumerate(groups) for i in group}
        self.inputs = _numbered(self.instructions, Input)
        self.outputs = _numbered(self.instructions, Output)

    def layer(self, group: Sequence[int]) -> LayerReport:
        """Return the report of the instructions at the positions in `group`."""
        instructions = [self.instructions[i] for i in group]
        entering = [o for x in instructions for o in operands(x) if o not in group]
        end, counts = group[-1], self.counts
        result, deviation = counts.types[end], self.predicted.deviations[end]
        kind = _kind(instructions)
        return LayerReport(
            nodes=self.server.labels[group[0]],
            kind=kind,
            operation=_operation(kind, instructions),
            reads=_distinct(self.owner[o] for o in entering if o in self.owner),
            inputs=_distinct(self.inputs[o] for o in entering if o in self.inputs),
            outputs=tuple(
                n for i, n in self.outputs.items() if operands(self.instructions[i])[0] in group
            ),
            level_in=max(counts.types[i].level for i in entering),
            level_out=result.level,
            scale_bits=log2(result.scale),
            ciphertexts=result.blocks,
            rotations=sum(map(counts.rotations, instructions)),
            key_switches=sum(map(counts.key_switches, instructions)),
            diagonals=sum(map(counts.diagonals, instructions)),
            seconds=sum(self.predicted.seconds[i] for i in group),
            precision_bits=-log2(max(CONFIDENCE * deviation, _SMALLEST_ERROR)),
            encryption_error=deviation,
            error_bound=self.predicted.bounds[end],
            approximation_error=self._approximation(end),
            plaintext_bytes=sum(map(counts.plaintext_bytes, instructions)),
            live_bytes=max(self.live[i] for i in group),
        )

    def _approximation(self, position: int) -> float | None:
        known = self.server.approximation
        return known[position] if known else None


def _numbered(instructions: Sequence[Instruction], kind: type[Input | Output]) -> dict[int, int]:
    """Return the number among those of its `kind`, by position."""
    positions = (i for i, x in enumerate(instructions) if isinstance(x, kind))
    return {position: number for number, position in enumerate(positions)}


def _distinct(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(numbers)))


def _kind(instructions: Sequence[Instruction]) -> LayerKind:
    """Return what a layer does: the first of its instructions that is more than a sum."""
    for instruction in instructions:
        match instruction:
            case LinearTransform():
                return "matrix"
            case Multiply():
                return "square" if instruction.left == instruction.right else "product"
            case Polynomial():
                return "polynomial"
            case Bootstrap():
                return "bootstrap"
            case _:
                pass
    return "sum"


def _operation(kind: LayerKind, instructions: Sequence[Instruction]) -> str:
    for instruction in instructions:
        match instruction:
            case Polynomial() if kind == "polynomial":
                return f"{kind} of degree {len(instruction.coefficients) - 1}"
            case Bootstrap() if kind == "bootstrap":
                return f"{kind} of degree {instruction.coefficients.shape[1] - 1}"
            case _:
                pass
    return kind
