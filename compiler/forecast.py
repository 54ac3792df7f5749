"""Predict a Program's seconds and the error of its outputs, instruction by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hec.compiler.ckks_ir import Bootstrap, Output, Program
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.predicted_errors import Known, errors_of
from hec.compiler.predicted_seconds import seconds_of
from hec.compiler.typing_rules import headroom, infer_types
from hec.compiler.variances import tail

CONFIDENCE = 4.5  # standard deviations that the promised precision covers


@dataclass(frozen=True)
class Forecast:
    """What the plan will cost and how exact it will be."""

    seconds: tuple[float, ...]  # per instruction
    deviations: tuple[float, ...]  # root mean square of every value's error, slots in [-1, 1]
    bounds: tuple[float, ...]  # what no slot exceeds, but for `predicted_errors.FAILURE`, likewise
    output_error: float  # largest error of any output, with `CONFIDENCE`, in output units
    headroom: float  # bits by which any value may exceed the headroom that typing demands

    @property
    def total_seconds(self) -> float:
        """Seconds of one prediction; one thread on SEAL, two on OpenFHE."""
        return sum(self.seconds)


def forecast(
    program: Program,
    known: Known | Sequence[float],
    sizes: KernelSizes | None = None,
    table: CostTable = REFERENCE,
) -> Forecast:
    """Predict, from what is known of the values: all of it, or only their magnitudes.

    Seconds are those of `table`'s machine.
    """
    known = known if isinstance(known, Known) else Known(known)
    sizes = sizes or KernelSizes()
    types = infer_types(program)
    seconds = seconds_of(program, types, sizes, table)
    errors = errors_of(program, types, known, sizes)
    outputs = [(i, x) for i, x in enumerate(program.instructions) if isinstance(x, Output)]
    worst = max((errors.worst[i] * abs(x.factor) for i, x in outputs), default=0.0)
    spare = headroom(program.parameters, types)
    confidence = CONFIDENCE * tail(program.parameters.batch) / tail(1)  # of every image
    return Forecast(seconds, errors.deviations, errors.bounds, confidence * worst, spare)


def bootstrap_count(program: Program) -> int:
    """Return how many ciphertexts one prediction refreshes."""
    pairs = zip(program.instructions, infer_types(program), strict=True)
    return sum(value.blocks for x, value in pairs if isinstance(x, Bootstrap))
