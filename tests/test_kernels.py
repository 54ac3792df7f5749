"""Kernels in the clear equal numpy; levels, scales and numbers of products are those promised."""

from __future__ import annotations

import itertools
from math import isclose

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Golden
from hec.compiler import series_tree
from hec.compiler.ckks_ir import LinearTransform, Polynomial
from hec.compiler.kernels import (
    ConstantCache,
    apply_linear,
    apply_polynomial,
    apply_rotate_sum,
    encode_linear,
)
from hec.compiler.series_tree import product_count
from hec.compiler.typing_rules import polynomial_depth
from hec.runtime.cleartext import Plain, Slots
from sample_graphs import Strict, nominal
from sample_plans import dense, diagonals

Array = NDArray[np.float64]
SLOTS = 16
PARAMETERS = nominal(SLOTS, 7, 40)
SCALE = 2.0**40


class Counting(Strict):
    """Counts products and encodings."""

    products = scalings = rescalings = 0
    encoded = 0

    def multiply(self, x: Slots, y: Slots) -> Slots:
        self.products += 1
        return super().multiply(x, y)

    def multiply_plain(self, x: Slots, y: Plain) -> Slots:
        self.scalings += 1
        return super().multiply_plain(x, y)

    def rescale(self, x: Slots) -> Slots:
        self.rescalings += 1
        return super().rescale(x)

    def encode(self, values: Array, level: int, scale: float) -> Plain:
        self.encoded += 1
        return super().encode(values, level, scale)


def series(seed: int, degree: int, *slots: int) -> Array:
    return np.random.default_rng([seed, degree]).uniform(-1, 1, (degree + 1, *slots))


def fresh(level: int, scale: float = SCALE) -> Slots:
    values = np.random.default_rng(1).uniform(-1, 1, (4, SLOTS))
    return Slots(values, level, scale)


def evaluated(coefficients: Array, x: Slots, block: int = 0, scale: float = SCALE) -> Slots:
    instruction = Polynomial(0, coefficients, scale)
    primes = PARAMETERS.primes
    return apply_polynomial(x, instruction, block, Strict(PARAMETERS), primes, ConstantCache())


@pytest.mark.parametrize("degree", range(1, 64))
def test_a_polynomial_is_its_chebyshev_series(degree: int) -> None:
    coefficients, x = series(0, degree), fresh(6, 2.0**39.3)
    found = evaluated(coefficients, x, scale=2.0**38.6)
    expected = np.polynomial.chebyshev.chebval(x.values, coefficients)
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-11)
    assert found.level == 6 - polynomial_depth(degree)
    assert isclose(found.scale, 2.0**38.6, rel_tol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3, 6, 7, 15, 16])
def test_every_slot_may_have_coefficients_of_its_own(degree: int) -> None:
    coefficients, x = series(0, degree, 2, SLOTS), fresh(5)
    for block in range(2):
        found = evaluated(coefficients, x, block)
        for slot in range(SLOTS):
            own = coefficients[:, block, slot]
            expected = np.polynomial.chebyshev.chebval(x.values[:, slot], own)
            np.testing.assert_allclose(found.values[:, slot], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("degree", [3, 8, 15, 31])
def test_coefficients_may_be_zero(degree: int) -> None:
    for coefficients in (np.eye(degree + 1)[degree], np.eye(degree + 1)[0]):
        x = fresh(6)
        expected = np.polynomial.chebyshev.chebval(x.values, coefficients)
        found = evaluated(coefficients, x)
        np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-12)


def test_a_polynomial_uses_no_level_more_than_it_takes() -> None:
    for degree in range(1, 64):
        assert evaluated(series(0, degree), fresh(polynomial_depth(degree))).level == 0


def counts(coefficients: Array) -> Counting:
    """Evaluate the series, and return what was counted."""
    backend = Counting(PARAMETERS)
    instruction = Polynomial(0, coefficients, SCALE)
    apply_polynomial(fresh(6), instruction, 0, backend, PARAMETERS.primes, ConstantCache())
    return backend


def test_products_of_ciphertexts_are_few_and_depth_the_least(golden: Golden) -> None:
    """About sqrt(2 d) + log2(d) products; a slower tree shows as a larger number in the table."""
    lines = ["degree  levels  products  scalings  rescalings"]
    for degree in range(1, 64):
        made, levels = counts(series(0, degree)), polynomial_depth(degree)
        assert levels == int(np.ceil(np.log2(degree + 1)))
        assert made.products == product_count(degree)
        assert made.products <= np.sqrt(2 * degree) + np.log2(degree) + 1
        lines.append(
            f"{degree:6}  {levels:6}  {made.products:8}  {made.scalings:8}  {made.rescalings:10}"
        )
    golden.check("series.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("degree", range(1, 13))
def test_no_other_split_takes_fewer_products(degree: int) -> None:
    """All sets of known polynomials are tried, not only T_1, T_2, ... and powers of two."""
    found = []
    for chosen in itertools.product((False, True), repeat=max(degree - 1, 0)):
        known = frozenset({1} | {n + 2 for n, used in enumerate(chosen) if used})
        if all({n // 2, n - n // 2} <= known for n in known - {1}):
            found.append(len(known) - 1 + series_tree._products(degree, degree.bit_length(), known))
    assert product_count(degree) == min(found)


def test_zero_coefficients_take_no_product() -> None:
    for degree in (15, 31):
        odd, even = series(0, degree), series(0, degree)
        odd[::2], even[1::2] = 0.0, 0.0
        for part in (odd, even):
            assert counts(part).scalings < counts(series(0, degree)).scalings
        assert counts(even).products < product_count(degree)
    assert counts(np.eye(17)[16]).products == 5
    assert counts(np.eye(32)[0]).products == 0


def test_constants_are_encoded_once() -> None:
    backend = Counting(PARAMETERS)
    instruction = Polynomial(0, series(0, 11), SCALE)
    constants: ConstantCache[Plain] = ConstantCache()
    results, encoded = [], []
    for _ in range(2):
        found = apply_polynomial(fresh(6), instruction, 0, backend, PARAMETERS.primes, constants)
        results.append(found.values)
        encoded.append(backend.encoded)
    assert encoded == [len(constants.plains)] * 2
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3)])
@pytest.mark.parametrize(("step", "start"), [(1, 0), (4, 0), (5, -2), (16, -8)])
def test_a_linear_kernel_is_its_matrix(blocks: tuple[int, int], step: int, start: int) -> None:
    matrix = diagonals(1, SLOTS, blocks, (-7, -3, 0, 1, 4, 6))
    x = np.random.default_rng(2).uniform(-1, 1, (blocks[1], SLOTS))
    instruction = LinearTransform(0, matrix, step, start, 2.0**22)
    backend = Strict(PARAMETERS)
    encoded = encode_linear(instruction, backend, 3)
    found = apply_linear([Slots(row[None], 3, SCALE) for row in x], encoded, backend)
    np.testing.assert_allclose(
        np.concatenate([block.values for block in found]), dense(matrix, x), rtol=0, atol=1e-14
    )
    assert {(block.level, block.scale) for block in found} == {(3, SCALE * 2.0**22)}


def test_small_entries_are_exact() -> None:
    """Nothing is added to keep a product encrypted: backends see to that where it matters."""
    matrix = diagonals(1, SLOTS, (1, 1), (0, 3))
    matrix.values.data *= np.float32(2.0**-30)
    backend = Strict(PARAMETERS)
    x = fresh(2)
    encoded = encode_linear(LinearTransform(0, matrix, 4, 0, 2.0**20), backend, 2)
    found = apply_linear([x], encoded, backend)[0].values
    expected = np.stack([dense(matrix, row[None])[0] for row in x.values])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-22)


def test_rotate_sum_adds_each_rotation_to_the_sum_so_far() -> None:
    x = fresh(2)
    found = apply_rotate_sum(x, (2, -4), Strict(PARAMETERS))
    once = x.values + np.roll(x.values, -2, axis=1)
    np.testing.assert_allclose(found.values, once + np.roll(once, 4, axis=1), atol=1e-15)
    assert (found.level, found.scale) == (x.level, x.scale)
