"""Check the normal form: what lowering may rely on after the tensor passes."""

from __future__ import annotations

import scipy.sparse as sp

from hec.compiler.calibration import Calibration
from hec.compiler.errors import InvalidProgram
from hec.compiler.fourier import HALF
from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    operands,
)
from hec.passes.fuse_linear import is_light
from hec.passes.matrices import uniform_factor
from hec.passes.rewriting import consumers

ROUNDING = 1e-9


def check_normal_form(graph: TensorGraph, calibration: Calibration | None = None) -> None:
    """Raise `InvalidProgram` unless the graph is as `passes/__init__.py` promises.

    Given the calibration, also check that every multiplied value, polynomial's operand and
    output lies in [-1, 1] on it, every bootstrap's operand in the interval of its series.
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
                problem = _polynomial_problem(operation)
            case Linear():
                problem = _linear_problem(operation, graph, readers)
            case _:
                pass
        if problem:
            raise InvalidProgram(f"normal form: operation {position}: {problem}")
    if calibration is not None:
        _check_ranges(graph, calibration)


def _polynomial_problem(polynomial: Polynomial) -> str:
    if polynomial.basis != "chebyshev" or len(polynomial.coefficients) < 4:
        return "polynomial is not Chebyshev of degree 3 or more"
    return ""


def _linear_problem(linear: Linear, graph: TensorGraph, readers: list[list[int]]) -> str:
    if uniform_factor(linear) == 1.0:
        return "identity is left"
    for operand, matrix in zip(linear.operands, linear.matrices, strict=True):
        inner = graph.operations[operand]
        is_read_once = len(readers[operand]) == 1
        if isinstance(inner, Linear) and is_read_once and _is_cheap(matrix, inner):
            return f"linear after linear {operand} is not fused"
    return ""


def _is_cheap(outer: sp.csr_array, inner: Linear) -> bool:
    return all(is_light(outer, matrix) for matrix in inner.matrices)


def _check_ranges(graph: TensorGraph, calibration: Calibration) -> None:
    limits = {output.operand: 1.0 for output in graph.outputs}
    for operation in graph.operations:
        if isinstance(operation, Multiply | Polynomial | Bootstrap):
            limit = _span(operation) if isinstance(operation, Bootstrap) else 1.0
            for operand in operands(operation):
                limits[operand] = min(limit, limits.get(operand, 1.0))
    ranges = calibration.ranges(graph)
    for position, limit in sorted(limits.items()):
        magnitude = ranges[position].magnitude()
        if magnitude > limit + ROUNDING:
            raise InvalidProgram(f"normal form: operation {position} reaches {magnitude:g}")


def _span(bootstrap: Bootstrap) -> float:
    return HALF.radius if bootstrap.fit is None else bootstrap.fit.radius
