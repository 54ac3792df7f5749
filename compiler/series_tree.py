"""How to evaluate a Chebyshev series with few products of ciphertexts, at the least depth.

A series of degree d is quotient * T_n + remainder, for an n that is known and at least d / 2; and
so on with both. Terms whose Chebyshev polynomial is known, and early enough to be scaled, take no
product. Which polynomials to make known, and where to split, is searched, once for each degree.

Source: M. S. Paterson and L. J. Stockmeyer, SIAM J. Comput. 2 (1973), in the Chebyshev basis;
Bossuat et al. (EUROCRYPT 2021), section 5, for least depth with a split base.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

MOST_BABIES: Final = 10  # T_1 to T_10 at most are made one by one
_IMPOSSIBLE: Final = 10**6


def depth_of(n: int) -> int:
    """Return the levels that T_n takes: one for each doubling."""
    return (n - 1).bit_length()


@lru_cache(maxsize=256)
def known_polynomials(degree: int) -> frozenset[int]:
    """Return the n of the T_n from which a series of `degree` takes the fewest products."""
    best, fewest = frozenset({1}), _IMPOSSIBLE
    for known in _candidates(degree):
        products = len(known) - 1 + _products(degree, degree.bit_length(), known)
        if products < fewest:
            best, fewest = known, products
    return best


def _candidates(degree: int) -> Iterator[frozenset[int]]:
    """Yield sets 1, ..., k, g, 2 g, 4 g, ... for g from k + 1 to 2 k: each is made of two others.

    Searching all such sets for degrees up to 12 finds none with fewer products (test_kernels).
    """
    for babies in range(1, min(degree, MOST_BABIES) + 1):
        known = frozenset(range(1, babies + 1))
        yield known
        for giant in range(babies + 1, 2 * babies + 1):
            larger, n = known, giant
            while n <= degree:
                larger |= {n}
                yield larger
                n *= 2


def product_count(degree: int) -> int:
    """Return the products of ciphertexts that a series of `degree` takes, none of it being 0."""
    known = known_polynomials(degree)
    return len(known) - 1 + _products(degree, degree.bit_length(), known)


def split(degree: int, depth: int, known: frozenset[int]) -> int:
    """Return the n of the T_n to split a series at that may take `depth` levels.

    Where that is `degree`, the leading term is scaled, and takes no product.
    """
    return _best(degree, depth, known)[1]


def _products(degree: int, depth: int, known: frozenset[int]) -> int:
    return _best(degree, depth, known)[0]


@lru_cache(maxsize=65536)
def _best(degree: int, depth: int, known: frozenset[int]) -> tuple[int, int]:
    """Return the fewest products for a series, T_n being there, and where to split it first."""
    if degree == 0:
        return 0, 0
    best = _IMPOSSIBLE, 0
    if degree in known and depth_of(degree) < depth:
        best = _products(degree - 1, depth, known), degree
    for n in sorted(known):
        rest = degree - n
        if 1 <= rest <= n and max(depth_of(n), rest.bit_length()) < depth:
            count = 1 + _products(rest, depth - 1, known) + _products(n - 1, depth, known)
            best = min(best, (count, n))
    return best
