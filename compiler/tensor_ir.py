"""TensorGraph: the network as a flat list of tensor operations, before any encryption detail.

An operand is the position of an earlier operation. Tensors are flat vectors in row-major order of
`shape` (the batch axis, when there is one, has size 1), so that everything affine, from Conv to
Transpose, is the same operation: `Linear`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler.client_steps import Affine, Columns, Label, Normalize, PrologueStep
from hec.compiler.errors import InvalidProgram
from hec.compiler.functions import Function

Array = NDArray[np.float64]
Shape = tuple[int, ...]
Origin = tuple[str, ...]  # the ONNX nodes that an operation came from


@dataclass(frozen=True, eq=False)
class Input:
    """A tensor that the client encrypts, after the `prologue` and dividing it by `divisor`."""

    name: str
    shape: Shape
    divisor: float = 1.0
    interval: tuple[float, float] | None = None  # where the plan expects the undivided elements
    prologue: tuple[PrologueStep, ...] = ()  # keeps the shape


@dataclass(frozen=True, eq=False)
class Linear:
    """sum of matrices[i] @ operands[i], plus bias: every affine layer, also sums and reshapes."""

    operands: tuple[int, ...]
    matrices: tuple[sp.csr_array, ...]  # each (prod(shape), operand's size), float64
    bias: Array  # (prod(shape),)
    shape: Shape
    origin: Origin = ()


@dataclass(frozen=True)
class Fit:
    """How an activation was replaced by a polynomial: for the report."""

    function: str
    degree: int
    interval: tuple[float, float]  # where the polynomial was fitted
    observed: tuple[float, float]  # where calibration samples fell
    error: float  # root mean square over the calibration samples, in units of the activation
    tail: float | None = None  # probability that an element of another sample lies outside
    bounded: tuple[float, float] | None = None  # where it is bounded, if inexact; None: not known
    radius: float = 1.0  # of the interval, in units of the argument of polynomial or series
    sensitivity: float | None = None  # error of the outputs for each unit of error of this fit
    at_outputs: float | None = None  # error of the outputs if only this fit were inexact


@dataclass(frozen=True, eq=False)
class Multiply:
    """Elementwise product of two tensors of one shape; a square when both are the same."""

    left: int
    right: int
    shape: Shape
    origin: Origin = ()
    fit: Fit | None = None


@dataclass(frozen=True, eq=False)
class Activation:
    """A univariate function on every element, not yet replaced by a polynomial."""

    operand: int
    function: Function
    shape: Shape
    origin: Origin = ()


Basis = Literal["power", "chebyshev"]


@dataclass(frozen=True, eq=False)
class Polynomial:
    """A polynomial on every element; in the Chebyshev basis the elements must lie in [-1, 1]."""

    operand: int
    coefficients: Array  # (degree + 1,) for all elements, or (degree + 1, prod(shape)) one each
    basis: Basis
    shape: Shape
    origin: Origin = ()
    fit: Fit | None = None


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """2 Re(sum_j c_j exp(i pi j x)) on every element, and ciphertexts that are fresh again.

    Meant for x in [-1/2, 1/2); with the series of the identity it only refreshes.
    """

    operand: int
    coefficients: Array  # (2, degree + 1): real and imaginary parts of c_j
    shape: Shape
    origin: Origin = ()
    fit: Fit | None = None


TensorOperation: TypeAlias = Input | Linear | Multiply | Activation | Polynomial | Bootstrap


@dataclass(frozen=True)
class EpilogueStep:
    """What the client computes after decryption, on the tensor in its output shape."""

    name: Literal["softmax", "log_softmax", "sigmoid", "argmax", "reshape", "cast"]
    axis: int = -1
    keep_axis: bool = True  # argmax
    shape: Shape = ()  # reshape
    dtype: str = ""  # cast


ClientStep: TypeAlias = EpilogueStep | Affine | Normalize | Label | Columns


@dataclass(frozen=True)
class Output:
    """A result that leaves the graph; the client multiplies it by `factor`, then `epilogue`."""

    name: str
    operand: int
    factor: float = 1.0
    epilogue: tuple[ClientStep, ...] = ()


@dataclass(frozen=True, eq=False)
class TensorGraph:
    """Operations in an order in which every operand comes before its use."""

    operations: tuple[TensorOperation, ...]
    outputs: tuple[Output, ...]


def operands(operation: TensorOperation) -> tuple[int, ...]:
    """Return the positions that `operation` reads."""
    match operation:
        case Input():
            return ()
        case Linear():
            return operation.operands
        case Multiply():
            return (operation.left, operation.right)
        case Activation() | Polynomial() | Bootstrap():
            return (operation.operand,)
        case _:
            assert_never(operation)


def inputs(graph: TensorGraph) -> Iterator[tuple[int, Input]]:
    """Yield the position and operation of every input."""
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Input):
            yield position, operation


def size(operation: TensorOperation) -> int:
    """Return the number of elements of the operation's tensor."""
    return prod(operation.shape)


def longest_series(graph: TensorGraph) -> int:
    """Return the degree of the longest Fourier series of a bootstrap, 0 if there is none."""
    series = (x.coefficients for x in graph.operations if isinstance(x, Bootstrap))
    return max((coefficients.shape[1] - 1 for coefficients in series), default=0)


def check(graph: TensorGraph, made_by: str) -> None:
    """Raise `InvalidProgram`, naming the pass `made_by`, if the graph breaks a rule."""
    for position, operation in enumerate(graph.operations):
        for operand in operands(operation):
            if not 0 <= operand < position:
                raise InvalidProgram(f"{made_by}: operation {position} reads {operand}")
        _check_shapes(graph, position, operation, made_by)
    for output in graph.outputs:
        if not 0 <= output.operand < len(graph.operations):
            raise InvalidProgram(f"{made_by}: output '{output.name}' reads {output.operand}")


def _check_shapes(
    graph: TensorGraph, position: int, operation: TensorOperation, made_by: str
) -> None:
    count = size(operation)
    sizes = [size(graph.operations[i]) for i in operands(operation)]
    match operation:
        case Input():
            return
        case Linear():
            shapes = [matrix.shape for matrix in operation.matrices]
            expected = [(count, columns) for columns in sizes]
            good = shapes == expected and operation.bias.shape == (count,)
        case Multiply() | Activation():
            good = all(columns == count for columns in sizes)
        case Polynomial():
            rest = operation.coefficients.shape[1:]
            good = sizes == [count] and rest in ((), (count,))
        case Bootstrap():
            parts, terms = operation.coefficients.shape
            good = sizes == [count] and parts == 2 and terms >= 2
        case _:
            assert_never(operation)
    if not good:
        raise InvalidProgram(f"{made_by}: operation {position} has operands of the wrong size")
