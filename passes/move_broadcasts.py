"""Move broadcasts: copies of an activation's results become the activation of copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Linear,
    Multiply,
    TensorGraph,
    size,
)
from hec.passes.eliminate_dead_code import eliminate_dead_code
from hec.passes.matrices import is_copy
from hec.passes.rewriting import Rebuilt, consumers

ONE_CIPHERTEXT: Final = 2**14  # elements: slots of ring degree 2^15, the least with a bootstrap


def move_broadcasts(graph: TensorGraph, target: Target, calibration: Calibration) -> TensorGraph:
    """Let a `Linear` that only copies results of an `Activation` copy its inputs instead.

    Then the copies come from the matrix before the activation, which computes a sum anyway: the
    level between 1/sum and a product with it is gone. Pays while the copies fit one ciphertext,
    where an activation costs the same for one element and for all.

    Source: none. Cost: linear in the operations.
    """
    readers = consumers(graph)
    for output in graph.outputs:
        readers[output.operand].append(len(graph.operations))
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        activation = _copied(graph, position, readers)
        if isinstance(operation, Linear) and activation is not None:
            source = rebuilt.positions[activation.operand]
            copies = rebuilt.add(replace(operation, operands=(source,)))
            moved = replace(activation, operand=copies, shape=operation.shape)
            rebuilt.positions[position] = rebuilt.add(moved)
        else:
            rebuilt.keep(position, operation)
    return eliminate_dead_code(rebuilt.finish(graph.outputs), target, calibration)


def _copied(graph: TensorGraph, position: int, readers: list[list[int]]) -> Activation | None:
    """Return the activation that the operation only copies, if nothing else reads it, or None.

    None also if there are too many copies, or a matrix reads them, which could copy by itself.
    """
    operation = graph.operations[position]
    if not isinstance(operation, Linear) or len(operation.operands) != 1:
        return None
    source = graph.operations[operation.operands[0]]
    is_pure = is_copy(operation.matrices[0]) and not operation.bias.any()
    if not isinstance(source, Activation) or not is_pure or size(operation) > ONE_CIPHERTEXT:
        return None
    if len(readers[operation.operands[0]]) != 1:
        return None
    multiplied = all(
        reader < len(graph.operations) and isinstance(graph.operations[reader], Multiply)
        for reader in readers[position]
    )
    return source if multiplied else None
