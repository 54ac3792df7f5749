"""Small graphs written by hand for the tests of passes, and what to look at in the result."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Array,
    Fit,
    Input,
    Linear,
    Output,
    Polynomial,
    TensorGraph,
    TensorOperation,
)
from hec.passes import TensorPass
from random_graphs import meaning

X = Input("x", (1, 2))
SEEN = {"x": np.array([[-1.0, 0.5], [1.0, -0.25], [0.5, 2.0]])}
FIT = Fit("relu", 2, (-1.0, 1.0), (-0.9, 0.9), 0.01)
RANDOM = np.random.default_rng(5)


def graph(*operations: TensorOperation, outputs: tuple[int, ...] = (-1,)) -> TensorGraph:
    positions = [position % len(operations) for position in outputs]
    return TensorGraph(operations, tuple(Output(f"out{i}", i) for i in positions))


def affine(operand: int, matrix: Array, bias: Array | None = None, name: str = "") -> Linear:
    rows = len(matrix)
    bias = np.zeros(rows) if bias is None else bias
    origin = (name,) if name else ()
    return Linear((operand,), (sp.csr_array(matrix),), bias, (1, rows), origin)


def apply(
    tensor_pass: TensorPass, before: TensorGraph, samples: dict[str, Array] | None = None
) -> TensorGraph:
    """Run the pass, and check that it keeps the meaning on the samples."""
    samples = SEEN if samples is None else samples
    after = tensor_pass(before, Target(), Calibration(samples, margin=1.0))
    for old, new in zip(meaning(before, samples), meaning(after, samples), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-12)
    return after


def kinds(of: TensorGraph) -> list[type[TensorOperation]]:
    return [type(operation) for operation in of.operations]


def polynomial(of: TensorGraph, position: int = -1) -> Polynomial:
    operation = of.operations[position]
    assert isinstance(operation, Polynomial)
    return operation


def linear(of: TensorGraph, position: int = -1) -> Linear:
    operation = of.operations[position]
    assert isinstance(operation, Linear)
    return operation


def dense(of: Linear, index: int = 0) -> Array:
    return np.asarray(of.matrices[index].toarray())
