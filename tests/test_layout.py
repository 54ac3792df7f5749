"""Layouts: packing and unpacking, and how often a layout repeats."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler.layout import UNUSED, Layout, at, ceil_power_of_two


def random_layout(seed: int) -> tuple[Layout, int]:
    """Return a layout that holds every element at least once, and the number of elements."""
    random = np.random.default_rng(seed)
    blocks, slots = int(random.integers(1, 4)), 2 ** int(random.integers(2, 6))
    count = int(random.integers(1, blocks * slots + 1))
    elements = random.integers(UNUSED, count, blocks * slots)
    elements[random.permutation(blocks * slots)[:count]] = np.arange(count)
    return Layout(elements.reshape(blocks, slots).astype(np.int32)), count


@pytest.mark.parametrize("seed", range(30))
def test_unpack_undoes_pack(seed: int) -> None:
    layout, count = random_layout(seed)
    values = np.random.default_rng(seed).normal(size=(5, count))
    packed = layout.pack(values)
    assert packed.shape == (5, layout.blocks, layout.slots)
    np.testing.assert_allclose(layout.unpack(packed), values, rtol=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_every_slot_holds_its_element_or_zero(seed: int) -> None:
    layout, count = random_layout(seed)
    values = np.random.default_rng(seed).normal(size=(2, count))
    packed = layout.pack(values)
    for block, slot in np.ndindex(layout.elements.shape):
        element = layout.elements[block, slot]
        expected = 0.0 if element == UNUSED else values[:, element]
        np.testing.assert_array_equal(packed[:, block, slot], expected)


def test_of_every_element_as_many_copies_are_read_as_the_rarest_has() -> None:
    once = Layout(np.array([[UNUSED, 1, 0, 1], [1, 0, 2, UNUSED]], np.int32))
    assert once.copies.tolist() == [[2], [1], [6]]
    assert once.first_slots().tolist() == [2, 1, 6]
    twice = Layout(np.array([[UNUSED, 1, 0, 1], [1, 0, 2, 2]], np.int32))
    assert twice.copies.tolist() == [[2, 5], [1, 3], [6, 7]]
    packed = np.arange(8.0).reshape(1, 2, 4)
    assert twice.unpack(packed).tolist() == [[3.5, 2.0, 6.5]]
    assert Layout(np.array([[2, UNUSED, 0, 2]], np.int32)).copies.tolist() == [[2], [UNUSED], [0]]


def test_an_element_that_is_left_out_does_not_shift_the_others() -> None:
    layout = Layout(np.array([[3, UNUSED, 1, 3]], np.int32))
    assert layout.first_slots().tolist() == [UNUSED, 2, UNUSED, 0]


def test_a_layout_holds_all_elements_or_not() -> None:
    layout = Layout(np.array([[3, UNUSED, 1, 3], [0, 2, 0, UNUSED]], np.int32))
    assert [layout.holds_all(count) for count in (3, 4, 5)] == [False, True, False]
    assert not Layout(layout.elements[:1]).holds_all(4)


@pytest.mark.parametrize("period", [1, 2, 8, 32])
def test_the_period_is_the_least_after_which_slots_repeat(period: int) -> None:
    layout = at(np.arange(period), period, 32)
    assert layout.period == period
    np.testing.assert_array_equal(layout.elements[0], np.arange(32) % period)


def test_one_different_copy_ends_the_repetition() -> None:
    elements = np.tile(np.arange(4, dtype=np.int32), (1, 4))
    assert Layout(elements).period == 4
    elements[0, 13] = UNUSED
    assert Layout(elements).period == 16


def test_all_blocks_must_repeat() -> None:
    elements = np.array([[0, 0, 0, 0], [1, 2, 1, 2]], np.int32)
    assert Layout(elements).period == 2


def test_positions_beyond_the_slots_lie_in_further_ciphertexts() -> None:
    layout = at(np.array([5, 0, 17]), 8, 8)
    assert (layout.blocks, layout.slots, layout.period) == (3, 8, 8)
    assert layout.first_slots().tolist() == [5, 0, 17]
    assert np.count_nonzero(layout.elements != UNUSED) == 3


@pytest.mark.parametrize(
    ("number", "power"),
    [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1024, 1024), (1025, 2048)],
)
def test_ceil_power_of_two(number: int, power: int) -> None:
    assert ceil_power_of_two(number) == power
