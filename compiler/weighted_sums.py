"""Weighted sums of ciphertexts: matrices where every ciphertext is one element of many images.

With one slot for each image nothing rotates, and a diagonal is one number: a result is a sum of
operands times whole numbers, the weights at their scale. Products of ciphertexts that only such
sums read need not be relinearized one by one: their sums are, which are fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from hec.compiler.backend import Accumulates, Backend, Ciphertext, Plaintext
from hec.compiler.ckks_ir import (
    DiagonalMatrix,
    Instruction,
    LinearTransform,
    ModSwitch,
    Multiply,
    Program,
)
from hec.compiler.errors import InvalidProgram
from hec.compiler.kernels import is_weighted_sum
from hec.compiler.typing_rules import operands

_LARGEST = 2.0**52  # of a weight at its scale: float64 holds it exactly


def whole_weights(matrix: DiagonalMatrix, scale: float) -> sp.csr_array:
    """Return the (out_blocks, in_blocks) int64 weights of a matrix of one slot, at `scale`.

    What rounds to zero is left out. A row of which nothing is left gets a 1, which is less than a
    rounding error: a ciphertext times zero is no longer encrypted.
    """
    rows = np.repeat(np.arange(len(matrix.index)), np.diff(matrix.values.indptr))
    weights = np.rint(matrix.values.data.astype(np.float64) * scale)
    if np.abs(weights).max(initial=0.0) >= _LARGEST:
        raise InvalidProgram("a weight is too large for its scale")
    used = weights != 0
    out_block, in_block, _ = matrix.index[rows[used]].T
    empty = np.setdiff1d(np.arange(matrix.out_blocks), out_block)
    row = np.concatenate([out_block, empty])
    column = np.concatenate([in_block, np.zeros_like(empty)])
    values = np.concatenate([weights[used], np.ones(len(empty))]).astype(np.int64)
    return sp.csr_array((values, (row, column)), shape=(matrix.out_blocks, matrix.in_blocks))


def apply_weights(
    blocks: Sequence[Ciphertext],
    weights: sp.csr_array,
    scale: float,
    backend: Backend[Ciphertext, Plaintext],
) -> list[Ciphertext]:
    """Return weights @ blocks by primitive steps, not rescaled."""
    add = backend.accumulate if isinstance(backend, Accumulates) else backend.add
    level = backend.level(blocks[0])
    results = []
    for start, stop in zip(weights.indptr[:-1], weights.indptr[1:], strict=True):
        total: Ciphertext | None = None
        for term in range(start, stop):
            weight = np.asarray(weights.data[term] / scale)
            plain = backend.encode(weight, level, scale)
            product = backend.multiply_plain(blocks[weights.indices[term]], plain)
            total = product if total is None else add(total, product)
        if total is None:
            raise InvalidProgram("a sum has no terms")
        results.append(total)
    return results


def deferring_sums(program: Program) -> dict[int, int]:
    """Return the products whose relinearization waits, and for each the matrix that it waits for.

    That is where one matrix of fewer sums than terms is all that reads a product. One that is
    rescaled first does not wait: the rounding of its third polynomial meets the square of the
    secret key.
    """
    readers: dict[int, list[int]] = {}
    for position, instruction in enumerate(program.instructions):
        for operand in set(operands(instruction)):
            readers.setdefault(operand, []).append(position)
    found = {}
    for position, instruction in enumerate(program.instructions):
        if isinstance(instruction, Multiply):
            end = _end(position, readers, program.instructions)
            if end is not None:
                found[position] = end
    return found


def _end(
    position: int, readers: dict[int, list[int]], instructions: Sequence[Instruction]
) -> int | None:
    """Return the matrix that is all that reads a product in the end, if it has fewer sums."""
    while len(readers.get(position, ())) == 1:
        (position,) = readers[position]
        reader = instructions[position]
        if isinstance(reader, LinearTransform):
            fewer = reader.matrix.out_blocks < reader.matrix.in_blocks
            return position if is_weighted_sum(reader) and fewer else None
        if not isinstance(reader, ModSwitch):
            return None
    return None
