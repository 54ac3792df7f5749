"""Diagonals: applied by their definition, then folded, they are the matrix, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.arrangement import across_copies, candidates, in_runs
from hec.compiler.ckks_ir import DiagonalMatrix
from hec.compiler.diagonals import Gather, diagonal_matrix, periodic_terms, spread, supports
from hec.compiler.layout import UNUSED, Layout, at
from sample_graphs import convolution, sparse
from sample_plans import dense

Array = NDArray[np.float64]
SHAPES = [(1, 3), (1, 16), (1, 50), (1, 2, 3, 3), (1, 3, 7, 5), (1, 5, 6, 6), (1, 150)]


def folded(packed: Array, period: int, width: int) -> Array:
    """Rotate and sum over the multiples of `period` below `width`."""
    while period < width:
        packed = packed + np.roll(packed, -period, axis=1)
        period *= 2
    return packed


def assert_is_product(
    found: Array, matrix: sp.csr_array, values: Array, target: Layout, exact: float = 0.0
) -> None:
    """Every slot of `found`, those without an output too, is as if the client had packed it.

    So no partial sum is left anywhere, and the result repeats with its period.
    """
    np.testing.assert_allclose(found, target.pack((matrix @ values)[None])[0], rtol=0, atol=exact)


def periodic(
    matrix: sp.csr_array, source: Layout, target: Layout, width: int, fold: int = 0
) -> DiagonalMatrix:
    rows, layout = spread(matrix, target)
    terms = periodic_terms(rows, source, layout, width, fold or target.period)
    return diagonal_matrix(terms, rows, (target.blocks, source.blocks), source.slots)


def check_periodic(matrix: sp.csr_array, source: Layout, target: Layout, width: int) -> None:
    found = periodic(matrix, source, target, width)
    assert found.values.nnz == matrix.nnz * target.run  # no two terms share a place
    assert np.array_equal(np.unique(found.index, axis=0), found.index)
    largest = min(source.period, target.period) // 2
    assert np.abs(found.index[:, 2]).max(initial=0) <= largest
    values = np.arange(1.0, matrix.shape[1] + 1) / 64
    product = dense(found, source.pack(values[None])[0])
    assert_is_product(folded(product, target.period, width), matrix, values, target)


@pytest.mark.parametrize("slots", [32, 64])
@pytest.mark.parametrize("before", SHAPES, ids=str)
@pytest.mark.parametrize("after", SHAPES, ids=str)
def test_a_matrix_between_any_two_layouts(
    before: tuple[int, ...], after: tuple[int, ...], slots: int
) -> None:
    random = np.random.default_rng([slots, *before, *after])
    density = float(random.choice([0.05, 0.3, 1.0]))
    matrix = sparse(random, int(np.prod(after)), int(np.prod(before)), density)
    for source in candidates(before, None, slots):
        for target in candidates(after, source, slots):
            width = max(source.layout.period, target.layout.period)
            check_periodic(matrix, source.layout, target.layout, width)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_terms_may_be_summed_over_more_than_either_period(width: int) -> None:
    matrix = sparse(np.random.default_rng(0), 7, 13, 0.5)
    check_periodic(matrix, at(np.arange(13), 16, 64), at(np.arange(7), 8, 64), width)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_strided_convolution(stride: int) -> None:
    random = np.random.default_rng(stride)
    matrix, shape = convolution(random, (2, 9, 8), 4, 3, stride)
    source = candidates((1, 2, 9, 8), None, 256)[-1]
    for target in candidates((1, *shape), source, 256):
        check_periodic(matrix, source.layout, target.layout, 256)


def test_aligned_pixels_make_a_convolution_cheap() -> None:
    matrix, shape = convolution(np.random.default_rng(0), (2, 8, 8), 4, 3, 2)
    source = candidates((1, 2, 8, 8), None, 128)[-1]
    counts = [
        len(periodic(matrix, source.layout, target.layout, 128).index)
        for target in candidates((1, *shape), source, 128)
    ]
    assert counts == [64, 64, 24, 16]


def test_few_rows_take_as_many_diagonals_as_rows() -> None:
    matrix = sparse(np.random.default_rng(0), 4, 64, 1.0)
    found = periodic(matrix, at(np.arange(64), 64, 64), at(np.arange(4), 4, 64), 64)
    assert (len(found.index), found.period) == (4, 64)


def test_many_rows_take_as_many_diagonals_as_columns() -> None:
    matrix = sparse(np.random.default_rng(0), 64, 4, 1.0)
    found = periodic(matrix, at(np.arange(4), 4, 64), at(np.arange(64), 64, 64), 64)
    assert (len(found.index), found.period) == (4, 64)


def test_several_operands_share_one_fold() -> None:
    random = np.random.default_rng(5)
    target, width = at(np.arange(5), 8, 64), 64
    layouts = [at(np.arange(7), 8, 64), at(np.arange(40), 64, 64), at(np.arange(90), 64, 64)]
    total, expected = np.zeros((1, 64)), np.zeros(5)
    for source, columns in zip(layouts, (7, 40, 90), strict=True):
        matrix = sparse(random, 5, columns, 0.8)
        values = np.arange(columns) / 64
        total += dense(periodic(matrix, source, target, width), source.pack(values[None])[0])
        expected += matrix @ values
    np.testing.assert_array_equal(folded(total, 8, width), target.pack(expected[None])[0])


def test_an_output_without_any_term_is_still_computed() -> None:
    empty = sp.csr_array((100, 8))
    target = at(np.arange(100), 64, 64)
    found = periodic(empty, at(np.arange(8), 8, 64), target, 64)
    assert found.index.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert found.values.nnz == 0


def test_only_an_output_without_terms_gets_zeros() -> None:
    matrix = sp.csr_array((np.ones(1), ([70], [3])), shape=(100, 8))
    found = periodic(matrix, at(np.arange(8), 8, 64), at(np.arange(100), 64, 64), 64)
    assert found.index.tolist() == [[0, 0, 0], [1, 0, -3]]
    assert found.values.toarray()[1, 6] == 1.0


def check_gather(matrix: sp.csr_array, target: Layout, width: int, span: int) -> Gather:
    source = Gather(supports(matrix, target, width), span)
    layout = source.layout()
    assert layout.blocks == source.ciphertexts
    found = source.diagonals(span)
    assert found.values.nnz == matrix.nnz * target.run
    assert {*map(tuple, found.index)} <= {*map(tuple, source.index())}
    values = np.arange(1.0, matrix.shape[1] + 1) / 64
    product = dense(found, layout.pack(values[None])[0])
    assert_is_product(folded(product, target.period, span), matrix, values, target)
    return source


@pytest.mark.parametrize("after", SHAPES, ids=str)
@pytest.mark.parametrize("columns", [3, 20, 90])
def test_a_matrix_from_the_clients_own_arrangement(after: tuple[int, ...], columns: int) -> None:
    random = np.random.default_rng([columns, *after])
    matrix = sparse(random, int(np.prod(after)), columns, 0.6)
    found = candidates(after, None, 64)
    for target in [*found, *(run for each in found for run in in_runs(each))]:
        layout = target.layout
        for width in {1, min(target.pixels, layout.period), layout.period}:
            span = layout.period
            while span <= 64:
                check_gather(matrix, layout, width, span)
                span *= 2


def test_windows_cost_no_rotation_at_all() -> None:
    matrix, shape = convolution(np.random.default_rng(0), (1, 9, 9), 4, 3, 2)
    target = candidates((1, *shape), None, 64)[-1]
    source = check_gather(matrix, target.layout, target.layout.period, 64)
    assert (source.rotations, source.ciphertexts) == (1, 9)
    source = check_gather(matrix, target.layout, target.pixels, 64)
    assert (source.rotations, source.ciphertexts) == (4, 3)  # the 9 taps of a window


def test_copies_fill_idle_slots() -> None:
    matrix = sparse(np.random.default_rng(0), 4, 64, 1.0)
    target = at(np.arange(4), 4, 64)
    source = check_gather(matrix, target, 1, 64)
    assert (source.copies, source.rotations, source.ciphertexts) == (16, 4, 1)
    source = check_gather(matrix, target, 4, 16)
    assert (source.copies, source.rotations, source.ciphertexts) == (4, 1, 16)


def test_a_column_that_no_row_reads_is_not_sent() -> None:
    matrix = sp.csr_array(np.array([[0.0, 1.0, 0.0, 2.0], [0.0, 3.0, 0.0, 0.0]]))
    source = check_gather(matrix, at(np.arange(2), 2, 16), 1, 16)
    assert set(source.layout().elements.ravel().tolist()) <= {-1, 1, 3}


RUNS = [(1, 3), (1, 9), (1, 3, 3, 5), (1, 2, 4, 4)]


def runs(shape: tuple[int, ...], slots: int) -> list[Layout]:
    found = candidates(shape, None, slots)
    return [run.layout for each in found for run in in_runs(each)]


@pytest.mark.parametrize("before", RUNS, ids=str)
@pytest.mark.parametrize("after", RUNS, ids=str)
def test_a_matrix_from_and_to_runs(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    random = np.random.default_rng([*before, *after])
    matrix = sparse(random, int(np.prod(after)), int(np.prod(before)), 0.6)
    plain_source, plain_target = (
        [each.layout for each in candidates(shape, None, 64)] for shape in (before, after)
    )
    for source in [*plain_source, *runs(before, 64)]:
        for target in [*plain_target, *runs(after, 64)]:
            width = max(source.period, target.period)
            check_periodic(matrix, source, target, width)


def test_runs_take_as_many_fewer_diagonals_as_they_are_long() -> None:
    matrix = sp.csr_array(np.random.default_rng(1).uniform(-1, 1, (16, 16)))
    whole = candidates((1, 16), None, 256)[0]
    counts = {1: len(periodic(matrix, whole.layout, whole.layout, 256).index)}
    for source in in_runs(whole):
        width = source.layout.period
        counts[source.layout.run] = len(periodic(matrix, source.layout, whole.layout, width).index)
    assert counts == {1: 16, 2: 8, 4: 4, 8: 2, 16: 1}


@pytest.mark.parametrize("before", [3, 8, 13])
@pytest.mark.parametrize("after", [1, 2, 5, 8, 20])
def test_a_matrix_across_the_copies_of_its_operand(before: int, after: int) -> None:
    random = np.random.default_rng([before, after])
    matrix = sp.csr_array(random.uniform(-1, 1, (after, before)))
    for source in [each.layout for each in candidates((1, before), None, 64)] + runs(
        (1, before), 64
    ):
        for target in across_copies(after, source):
            assert target.fold < source.period
            found = periodic(matrix, source, target.layout, source.period, target.fold)
            assert len(found.index) <= target.fold
            values = random.uniform(-1, 1, before)
            product = folded(dense(found, source.pack(values[None])[0]), target.fold, source.period)
            held = target.layout.elements != UNUSED
            expected = target.layout.pack((matrix @ values)[None])[0]
            np.testing.assert_allclose(product[held], expected[held], rtol=0, atol=1e-6)


def test_no_results_across_copies_where_there_is_no_room() -> None:
    whole = at(np.arange(40), 64, 64)
    blocks = at(np.arange(100), 64, 64)
    pairs = at(np.arange(20), 32, 64)
    assert across_copies(4, whole) == across_copies(4, blocks) == across_copies(64, pairs) == []
    assert [each.fold for each in across_copies(32, pairs)] == [16]
