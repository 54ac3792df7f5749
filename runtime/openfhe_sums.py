"""Weighted sums of OpenFHE's ciphertexts, with whole weights.

Sums of few terms are made by the library, which multiplies a ciphertext by one number at a time.
Dense ones are made of the residues, all at once (`residue_sums`): reading and writing residues
takes as long as ten such products, and then a weight costs a tenth of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from hec.compiler.errors import InvalidProgram
from hec.compiler.openfhe_costs import NUMBER_PRODUCT, dense_units
from hec.runtime.openfhe_ciphertexts import OpenfheCiphertexts
from hec.runtime.openfhe_threads import each, few
from hec.runtime.residue_sums import Residues, summed


def weighted_sums(
    blocks: Sequence[Any], weights: sp.csr_array, scale: float, made: OpenfheCiphertexts
) -> list[Any]:
    """Return weights @ blocks, of `scale`; weights are int64, at least one in every row."""
    if dense_units(*weights.shape) < NUMBER_PRODUCT * weights.nnz:
        return _by_residues(blocks, weights, scale, made)
    rows = zip(weights.indptr[:-1].tolist(), weights.indptr[1:].tolist(), strict=True)
    level = made.context.level(blocks[0])
    sizes = (np.abs(weights.data) / made.context.nominal(level)).tolist()  # negative: off by one
    signs, columns = (weights.data > 0).tolist(), weights.indices.tolist()

    def added(row: tuple[int, int]) -> Any:
        fhe, (start, stop) = made.context.fhe, row
        total = fhe.EvalMult(blocks[columns[start]], sizes[start])
        for term in range(start + 1, stop):
            product = fhe.EvalMult(blocks[columns[term]], sizes[term])
            add = fhe.EvalAddInPlace if signs[term] == signs[start] else fhe.EvalSubInPlace
            add(total, product)
        if not signs[start]:
            fhe.EvalNegateInPlace(total)
        return made.context.typed(total, scale)

    return each(added, rows)


def _by_residues(
    blocks: Sequence[Any], weights: sp.csr_array, scale: float, made: OpenfheCiphertexts
) -> list[Any]:
    parameters, level = made.context.parameters, made.context.level(blocks[0])
    primes = parameters.primes[: level + 1]
    polynomials = blocks[0].NumberCiphertextElements()
    limbs = polynomials * len(primes)
    residues = np.empty((limbs, len(blocks), parameters.ring_degree), np.uint64)

    def read(number: int) -> None:
        if blocks[number].NumberCiphertextElements() != polynomials:
            raise InvalidProgram("the terms of a sum are ciphertexts of several kinds")
        residues[:, number] = made.residues(blocks[number])

    read(0)  # what all share is made by one thread
    each(read, range(1, len(blocks)))
    dense = weights.toarray()

    def multiplied(limb: int) -> Residues:
        return summed(dense, residues[limb], primes[limb % len(primes)])

    sums = np.stack(few(multiplied, range(limbs)), axis=1)
    first = made.of_residues(sums[0], level, scale)
    return [first, *each(lambda rows: made.of_residues(rows, level, scale), sums[1:])]
