"""A TensorGraph as text for people: one operation a line."""

from __future__ import annotations

import numpy as np
from typing_extensions import assert_never

from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)


def dump(graph: TensorGraph) -> str:
    """Return the graph as text; weights appear by their shape and number of non-zeros."""
    lines = []
    for position, operation in enumerate(graph.operations):
        origin = "" if isinstance(operation, Input) else ", ".join(operation.origin)
        line = f"%{position} = {_text(operation)} : {operation.shape}"
        lines.append(f"{line}  # {origin}" if origin else line)
    for output in graph.outputs:
        steps = "".join(f", {step.name}" for step in output.epilogue)
        lines.append(f"output '{output.name}' = {output.factor:.6g} * %{output.operand}{steps}")
    return "\n".join(lines) + "\n"


def _text(operation: TensorOperation) -> str:
    match operation:
        case Input():
            return f"input '{operation.name}' / {operation.divisor:.6g}"
        case Linear():
            return f"linear({_terms(operation)})"
        case Multiply():
            return f"multiply(%{operation.left}, %{operation.right})"
        case Activation():
            return f"{operation.function} of %{operation.operand}"
        case Polynomial():
            return f"polynomial(%{operation.operand}, {_coefficients(operation)})"
        case Bootstrap():
            degree = operation.coefficients.shape[1] - 1
            return f"bootstrap(%{operation.operand}, Fourier series, degree {degree})"
        case _:
            assert_never(operation)


def _terms(linear: Linear) -> str:
    terms = []
    for operand, matrix in zip(linear.operands, linear.matrices, strict=True):
        rows, columns = matrix.shape
        terms.append(f"[{rows}x{columns}, {matrix.nnz} non-zeros] %{operand}")
    if linear.bias.any():
        terms.append("bias")
    return " + ".join(terms)


def _coefficients(operation: Polynomial) -> str:
    degree = len(operation.coefficients) - 1
    if operation.coefficients.ndim == 2:
        return f"{operation.basis}, degree {degree}, one per element"
    listed = np.array2string(operation.coefficients, precision=4, max_line_width=10_000)
    return f"{operation.basis}, degree {degree}, {listed}"
