"""Extend functions: what is not defined everywhere goes on as a straight line where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hec.compiler.calibration import Calibration, Range
from hec.compiler.domains import extended, needs_extension, requirement
from hec.compiler.errors import CompileError, Problem
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, TensorGraph, TensorOperation, operands
from hec.passes.rewriting import Rebuilt


def extend_functions(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Give each function such as log or 1/x values on all numbers, where its inputs are not.

    Also let exp grow no further than its tangent there. Pays because every pass after it may
    evaluate a function anywhere. Raises `CompileError` if the inputs, as calibration or interval
    arithmetic has them, leave the function's domain.

    Source: none. Cost: one evaluation of the graph, if there is such a function.
    """
    found = [i for i, op in enumerate(graph.operations) if _is_open(op)]
    if not found:
        return graph
    with np.errstate(all="ignore"):  # behind a function that fails there is NaN
        ranges = calibration.ranges(graph)
    problems: list[Problem] = []
    failed = [False] * len(graph.operations)  # or fed by what failed: its range means nothing
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        failed[position] = any(failed[operand] for operand in operands(operation))
        kept: TensorOperation = operation
        if isinstance(operation, Activation) and position in found and not failed[position]:
            inputs = ranges[operation.operand]
            function = extended(operation.function, *inputs.interval())
            if function is None:
                problems.append(_problem(operation, inputs))
                failed[position] = True
            else:
                kept = replace(operation, function=function)
        rebuilt.keep(position, kept)
    if problems:
        raise CompileError(*problems)
    return rebuilt.finish(graph.outputs)


def _is_open(operation: TensorOperation) -> bool:
    return isinstance(operation, Activation) and needs_extension(operation.function)


def _problem(activation: Activation, inputs: Range) -> Problem:
    low, high = inputs.interval()
    sound = inputs.values is None
    where = "may lie, as far as interval arithmetic tells" if sound else "lie on the samples"
    remedy = (
        "pass --calibration, which shows where its inputs really lie, or narrow --input-range"
        if sound
        else "calibrate on samples for which the network itself gives numbers, or put Clip or Add "
        "of a constant before it"
    )
    return Problem(
        f"{activation.function} has no finite value somewhere in [{low:.4g}, {high:.4g}], "
        f"where its inputs {where}",
        ", ".join(f"node '{name}'" for name in activation.origin),
        f"{requirement(activation.function)}; {remedy}",
    )
