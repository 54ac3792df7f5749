"""Eliminate dead code: drop what no output depends on."""

from __future__ import annotations

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Input, TensorGraph
from hec.passes.rewriting import Rebuilt, is_live


def eliminate_dead_code(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Keep every input, and what an output depends on.

    Always pays. Inputs stay even when unused: they are the model's signature.
    Cost: linear in the number of operations.
    """
    live = is_live(graph)
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        if live[position] or isinstance(operation, Input):
            rebuilt.keep(position, operation)
    return rebuilt.finish(graph.outputs)
