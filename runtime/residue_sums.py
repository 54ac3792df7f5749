"""Sums of residues times whole numbers, modulo a prime, as exact products of float64 matrices.

A weighted sum of ciphertexts is the same weighted sum of all their residues. Weights and residues
are cut into pieces so small that a product of matrices stays below 2^53, where float64 is exact:
so the fastest code that a machine has computes what would take a call for every weight.

Source: measured, docs/design/012-batches.md. The idea is that of FFLAS: Dumas, Giorgi and Pernet,
"Dense Linear Algebra over Word-Size Prime Fields" (ACM TOMS 2008).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Residues = NDArray[np.uint64]
_EXACT_BITS = 53  # of float64
_COLUMNS = 512  # at once: they stay in the cache
_ONES = np.uint64(0x4330000000000000)  # 2^52 as a float64; numpy's conversion takes much longer
_FEWEST_BITS = 16  # of a piece of the residues; below, weights are cut too


def summed(weights: Whole, residues: Residues, prime: int) -> Residues:
    """Return `weights` @ `residues` modulo `prime`: (sums, terms) times (terms, coefficients).

    Residues are below `prime`, which has at most 60 bits; weights have at most 52.
    """
    norm = int(np.abs(weights).sum(axis=1).max(initial=1))
    bits = _EXACT_BITS - max(1, norm).bit_length()
    if bits < _FEWEST_BITS:
        half = int(np.abs(weights).max()).bit_length() // 2
        low = weights & ((1 << half) - 1)  # the rest is a multiple of 2^half
        high = _shifted(summed(weights >> half, residues, prime).astype(np.int64), half, prime)
        both = high + summed(low, residues, prime).astype(np.int64)
        return _reduced(both, prime).astype(np.uint64)
    factors = weights.astype(np.float64)
    total = np.empty((len(weights), residues.shape[1]), np.uint64)
    for start in range(0, residues.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        total[:, columns] = _summed(factors, residues[:, columns], bits, prime)
    return total


def _summed(factors: NDArray[np.float64], residues: Residues, bits: int, prime: int) -> Whole:
    """Return the sums of some columns, by pieces of at most `bits` of the residues."""
    total = np.zeros((len(factors), residues.shape[1]), np.int64)
    for shift, piece in _pieces(residues, bits, prime):
        product = _reduced((factors @ piece).astype(np.int64), prime)
        total += _shifted(product, shift, prime) if shift else product
    return _reduced(total, prime)


def _pieces(residues: Residues, bits: int, prime: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the pieces of equal size, at most `bits`, that residues have, each with its shift."""
    count = ceil(prime.bit_length() / bits)
    width = ceil(prime.bit_length() / count)
    mask = np.uint64((1 << width) - 1)
    for number in range(count):
        shift = number * width
        piece = residues >> np.uint64(shift)
        piece &= mask
        piece |= _ONES  # as the fraction of a float64 between 2^52 and 2^53
        yield shift, piece.view(np.float64) - 2.0**52


def _shifted(values: Whole, bits: int, prime: int) -> Whole:
    """Return `values` in [0, prime) times 2^bits modulo `prime`, for at most 53 bits.

    The quotient is known to within one or two, and the rest follows modulo 2^64.
    """
    quotient = (values * (2.0**bits / prime)).astype(np.int64)
    return _reduced((values << np.int64(bits)) - quotient * np.int64(prime), prime)


def _reduced(values: Whole, prime: int) -> Whole:
    """Return `values`, of any sign, modulo `prime`: in [0, prime).

    The quotient is known to within one; numpy's own division takes several times as long.
    """
    rest = values - np.floor(values * (1.0 / prime)).astype(np.int64) * np.int64(prime)
    rest += np.int64(prime) * (rest < 0)
    rest -= np.int64(prime) * (rest >= prime)
    return np.asarray(rest, np.int64)
