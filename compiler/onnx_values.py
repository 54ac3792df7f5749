"""What an ONNX value becomes while a network is imported, and the graph that grows under it.

Every value is a constant array, an encrypted tensor, or unknown because its node failed. An
encrypted value carries its own shape, so that a reshape changes the value and adds no operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.target import MaxPoolChoice
from hec.compiler.tensor_ir import (
    Array,
    ClientStep,
    EpilogueStep,
    Linear,
    Origin,
    Shape,
    TensorOperation,
)

MAX_ELEMENTS = 2**24  # of one encrypted tensor: 512 ciphertexts at ring degree 65536
MAX_RANK = 32  # numpy broadcasts no more axes
MAX_CONSTANT = 2**26  # elements of one constant: 512 MiB in float64
MAX_NONZEROS = 2**28  # weights of one matrix: 3 GiB with their int32 column numbers
MAX_TOTAL_NONZEROS = 2**30  # weights of all matrices
TOO_LARGE = "use a smaller network, or smaller inputs"
DIVERGED = "check that training did not diverge, and export again"

Constant: TypeAlias = NDArray[np.generic]
Term: TypeAlias = tuple[int, sp.csr_array]  # an operation's position, and the matrix applied to it


@dataclass(frozen=True)
class Encrypted:
    """The tensor of the operation at `position` in `shape`; `epilogue` is left to the client."""

    position: int
    shape: Shape
    epilogue: tuple[ClientStep, ...] = ()


@dataclass(frozen=True)
class Unknown:
    """The output of a node that was reported as a problem."""


Value: TypeAlias = Constant | Encrypted | Unknown


class NodeError(Exception):
    """A problem with one node; the importer adds the place."""

    def __init__(self, message: str, help: str = "") -> None:
        self.message = message
        self.help = help
        super().__init__(message)


def check_shape(shape: Iterable[int], limit: int = MAX_ELEMENTS) -> Shape:
    """Return `shape` as a tuple; raise `NodeError` if such a tensor is empty or too large."""
    checked = tuple(int(size) for size in shape)
    if len(checked) > MAX_RANK:
        raise NodeError(f"the result has {len(checked)} axes; the limit is {MAX_RANK}", TOO_LARGE)
    if any(size < 1 for size in checked):
        raise NodeError(f"the result of shape {checked} has no elements")
    if prod(checked) > limit:
        raise NodeError(
            f"the result of shape {checked} has {prod(checked):,} elements; the limit is {limit:,}",
            TOO_LARGE,
        )
    return checked


def check_nonzeros(count: int) -> None:
    """Raise `NodeError` if a matrix with `count` weights would be too large."""
    if count > MAX_NONZEROS:
        raise NodeError(
            f"its matrix would hold {count:,} weights; the limit is {MAX_NONZEROS:,}", TOO_LARGE
        )


class GraphBuilder:
    """The operations of a TensorGraph in the making, and the user's choice for MaxPool."""

    def __init__(self, maxpool: MaxPoolChoice | None = None) -> None:
        self.maxpool = maxpool
        self.operations: list[TensorOperation] = []
        self._nonzeros = 0

    def add(self, operation: TensorOperation) -> Encrypted:
        """Append an operation and return its value."""
        self.operations.append(operation)
        return Encrypted(len(self.operations) - 1, operation.shape)

    def linear(
        self, terms: Iterable[Term], bias: Array | float, shape: Shape, origin: Origin
    ) -> Encrypted:
        """Return the sum of `terms` plus `bias`; an identity adds no operation."""
        self._count(terms := list(terms))
        merged = _merge(terms)
        flat = np.broadcast_to(np.asarray(bias, np.float64), shape).reshape(-1)
        finite = [np.isfinite(matrix.data).all() for matrix in merged.values()]
        if not all(finite) or not np.isfinite(flat).all():
            raise NodeError("its weights divide by zero or overflow", DIVERGED)
        if len(merged) == 1 and not flat.any():
            ((position, matrix),) = merged.items()
            if _is_identity(matrix):
                return Encrypted(position, shape)
        return self.add(Linear(tuple(merged), tuple(merged.values()), flat.copy(), shape, origin))

    def _count(self, terms: list[Term]) -> None:
        """Count the work, identities too: a long chain of them would take as long."""
        self._nonzeros += sum(matrix.nnz for _, matrix in terms)
        if self._nonzeros > MAX_TOTAL_NONZEROS:
            raise NodeError(
                f"the matrices up to here hold {self._nonzeros:,} weights; "
                f"the limit is {MAX_TOTAL_NONZEROS:,}",
                TOO_LARGE,
            )

    def finish(self, value: Encrypted, shape: Shape, *steps: ClientStep) -> Encrypted:
        """Return `value` after further steps that the client computes, which lead to `shape`."""
        epilogue = value.epilogue
        if not epilogue and self.operations[value.position].shape != value.shape:
            epilogue = (EpilogueStep("reshape", shape=value.shape),)
        return replace(value, shape=shape, epilogue=epilogue + steps)


def _merge(terms: Iterable[Term]) -> dict[int, sp.csr_array]:
    merged: dict[int, sp.csr_array] = {}
    for position, matrix in terms:
        merged[position] = _sum(merged[position], matrix) if position in merged else matrix
    return merged


def _sum(left: sp.csr_array, right: sp.csr_array) -> sp.csr_array:
    total = sp.csr_array(left + right)
    total.eliminate_zeros()
    total.sort_indices()
    return total


def _is_identity(matrix: sp.csr_array) -> bool:
    rows, columns = matrix.shape
    return bool(
        rows == columns == matrix.nnz
        and (matrix.data == 1.0).all()
        and np.array_equal(matrix.indices, np.arange(columns))
        and np.array_equal(matrix.indptr, np.arange(rows + 1))
    )
