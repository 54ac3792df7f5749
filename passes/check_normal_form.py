"""Check the normal form: what lowering may rely on after the tensor passes."""

from __future__ import annotations

from hec.compiler.calibration import Calibration
from hec.compiler.errors import InvalidProgram
from hec.compiler.tensor_ir import Activation, Linear, Multiply, Polynomial, TensorGraph, operands
from hec.passes.matrices import uniform_factor
from hec.passes.rewriting import consumers

ROUNDING = 1e-9


def check_normal_form(graph: TensorGraph, calibration: Calibration | None = None) -> None:
    """Raise `InvalidProgram` unless the graph is as `passes/__init__.py` promises.

    Given the calibration, also check that every multiplied value, polynomial's operand and
    output lies in [-1, 1] on it.
    """
    readers = consumers(graph)
    for output in graph.outputs:  # a layer that is an output too has another reader
        readers[output.operand].append(len(graph.operations))
    for position, operation in enumerate(graph.operations):
        problem = ""
        match operation:
            case Activation():
                problem = f"activation {operation.function} is left"
            case Polynomial():
                if operation.basis != "chebyshev" or len(operation.coefficients) < 4:
                    problem = "polynomial is not Chebyshev of degree 3 or more"
            case Linear():
                if uniform_factor(operation) == 1.0:
                    problem = "identity is left"
                for operand in operation.operands:
                    inner = graph.operations[operand]
                    if isinstance(inner, Linear) and _is_cheap(operation, inner, readers[operand]):
                        problem = f"linear after linear {operand} is not fused"
            case _:
                pass
        if problem:
            raise InvalidProgram(f"normal form: operation {position}: {problem}")
    if calibration is not None:
        _check_ranges(graph, calibration)


def _is_cheap(outer: Linear, inner: Linear, readers: list[int]) -> bool:
    matrices = (*outer.matrices, *inner.matrices)
    return len(readers) == 1 and all(m.nnz <= max(m.shape) for m in matrices)


def _check_ranges(graph: TensorGraph, calibration: Calibration) -> None:
    multiplied = {output.operand for output in graph.outputs}
    for operation in graph.operations:
        if isinstance(operation, Multiply | Polynomial):
            multiplied.update(operands(operation))
    ranges = calibration.ranges(graph)
    for position in sorted(multiplied):
        magnitude = ranges[position].magnitude()
        if magnitude > 1 + ROUNDING:
            raise InvalidProgram(f"normal form: operation {position} reaches {magnitude:g}")
