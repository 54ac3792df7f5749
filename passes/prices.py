"""Prices: about what a network takes under encryption, before there is a program for it.

Fitting needs a price for each choice of degrees, thousands of times; layouts and parameters cannot
be chosen that often. So every operation is counted at the level where it will run, with about as
many key switches as its diagonals and its products need. A level that one activation saves makes
everything before it cheaper, and perhaps the whole ring smaller: that is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil, inf, sqrt
from typing import Final

import numpy as np

from hec.compiler.ckks_ir import Polynomial as Series
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.cost_table import REFERENCE
from hec.compiler.kernels import ConstantCache, apply_polynomial
from hec.compiler.security import MAX_MODULUS_BITS
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    operands,
    size,
)
from hec.compiler.typing_rules import polynomial_depth
from hec.passes.matrices import diagonals
from hec.passes.rewriting import consumers

SMALLEST_RING: Final = 8192
PRIME_BITS: Final = (
    26  # of a level in that ring, about; measured on the networks of bench/models.py
)
MORE_BITS: Final = 6  # for each doubling of the ring: its errors are larger, and so are programs
END_BITS: Final = 83  # of the last modulus and the special prime together, about
LARGEST_RING: Final = 32768  # of SEAL
SCALE_BITS: Final = 30  # of a series that is counted; any will do
BEYOND: Final = 10.0  # times as dear: where levels do not fit, a program of another kind is needed
QUARTIC: Final = 4  # the degree that is two squares
QUARTIC_OPERANDS: Final = 3  # that the layer after it reads: t, t^2, t^4


class Prices:
    """Seconds of a network, for any degrees of its activations."""

    def __init__(self, graph: TensorGraph, target: Target) -> None:
        self._graph = graph
        self._bits = MAX_MODULUS_BITS[target.security]
        self._readers = consumers(graph)
        self._switches = [_switches(operation) for operation in graph.operations]

    def seconds(self, degrees: Mapping[int, int]) -> float:
        """Return about what one prediction takes on SEAL, on one thread."""
        operations = self._graph.operations
        entered = [0] * len(operations)  # levels that an operation's operand has to have
        for position in reversed(range(len(operations))):
            after = max((entered[reader] for reader in self._readers[position]), default=0)
            entered[position] = after + _levels(operations[position], degrees.get(position))
        ring = self._ring(max(entered, default=0))
        penalty = BEYOND if ring > LARGEST_RING else 1.0
        return penalty * sum(
            self._operation_seconds(position, entered[position], ring, degrees)
            for position in range(len(operations))
        )

    def _ring(self, levels: int) -> int:
        for ring, bits in sorted(self._bits.items()):
            doublings = max(ring // SMALLEST_RING, 1).bit_length() - 1
            if levels * (PRIME_BITS + MORE_BITS * doublings) + END_BITS <= bits:
                return ring
        return 2 * LARGEST_RING

    def _operation_seconds(
        self, position: int, level: int, ring: int, degrees: Mapping[int, int]
    ) -> float:
        operation = self._graph.operations[position]
        blocks = ceil(size(operation) / (ring // 2))
        match operation:
            case Activation():
                return blocks * series_seconds(degrees.get(position, 0), level, ring)
            case Polynomial():
                own = len(operation.coefficients) - 1
                return blocks * series_seconds(own, level, ring)
            case Multiply():
                return blocks * series_seconds(2, level, ring)
            case _:
                quartic = any(degrees.get(i) == QUARTIC for i in operands(operation))
                switches = self._switches[position] * (QUARTIC_OPERANDS if quartic else 1)
                return switches * REFERENCE.seal_steps(ring).key_switch(level + 1)


def _levels(operation: TensorOperation, degree: int | None) -> int:
    match operation:
        case Input():
            return 0
        case Activation():
            return series_levels(degree or 0)
        case Polynomial():
            return series_levels(len(operation.coefficients) - 1)
        case _:
            return 1


def _switches(operation: TensorOperation) -> float:
    """Return about how many key switches the matrices of a layer take: baby and giant steps."""
    if not isinstance(operation, Linear):
        return 0.0
    return sum(2 * sqrt(diagonals(matrix)) for matrix in operation.matrices if matrix.nnz)


def series_levels(degree: int) -> int:
    """Return the levels of a polynomial: one for a square, two for a quartic, as two squares."""
    if degree <= 1:
        return 0
    return {2: 1, QUARTIC: 2}.get(degree, polynomial_depth(degree))


@lru_cache(maxsize=4096)
def series_seconds(degree: int, level: int, ring: int) -> float:
    """Return the seconds of a polynomial of one ciphertext that enters at `level`."""
    if degree <= 1:
        return 0.0
    if level < series_levels(degree):
        return inf
    prime = 2.0**SCALE_BITS
    counter = CostCounter(ring, (int(prime),) * (level + 1))
    x = Counted(level, prime)
    if degree in (2, QUARTIC):
        for _ in range(series_levels(degree)):
            x = counter.rescale(counter.multiply(x, x))
        return counter.seconds
    series = Series(0, np.ones(degree + 1), prime)
    apply_polynomial(x, series, 0, counter, counter.primes, ConstantCache())
    return counter.seconds
