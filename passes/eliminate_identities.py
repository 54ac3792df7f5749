"""Eliminate identities: what a reshape or a sum with nothing reads, its readers read directly."""

from __future__ import annotations

from dataclasses import replace

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import EpilogueStep, Linear, Output, TensorGraph
from hec.passes.matrices import uniform_factor
from hec.passes.rewriting import Rebuilt


def eliminate_identities(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Drop every `Linear` that is the identity; at an output the client reshapes.

    Always pays: one level each, where no neighbour is linear. Tensors are flat, so a reshape is
    the identity. Cost: linear in the operations.
    """
    rebuilt = Rebuilt()
    outputs = list(graph.outputs)
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Linear) and uniform_factor(operation) == 1.0:
            source = operation.operands[0]
            kept = rebuilt.positions[source]
            rebuilt.positions[position] = kept
            if rebuilt.operations[kept].shape != operation.shape:
                outputs = [_reshaped(output, position, operation) for output in outputs]
        else:
            rebuilt.keep(position, operation)
    return rebuilt.finish(outputs)


def _reshaped(output: Output, position: int, identity: Linear) -> Output:
    if output.operand != position:
        return output
    reshape = EpilogueStep("reshape", shape=identity.shape)
    return replace(output, epilogue=(reshape, *output.epilogue))
