"""Candidate layouts place every element once per period; strides keep pixels in place."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler.arrangement import Arrangement, candidates, image_shape
from hec.compiler.layout import UNUSED
from hec.compiler.tensor_ir import Shape

SHAPES: list[Shape] = [
    (1,),
    (7,),
    (1, 10),
    (1, 100),
    (1, 3, 5),
    (2, 4, 6),
    (1, 1, 9, 9),
    (1, 3, 7, 5),
    (1, 4, 8, 8),
    (1, 5, 12, 3),
    (2, 3, 1, 4),
]
SLOTS = 64


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((6,), (6, 1, 1)),
        ((1, 6), (6, 1, 1)),
        ((2, 3, 5), (6, 1, 5)),
        ((1, 3, 5, 7), (3, 5, 7)),
        ((2, 3, 5, 7), (6, 5, 7)),
    ],
)
def test_image_shape(shape: Shape, image: tuple[int, int, int]) -> None:
    assert image_shape(shape) == image


def holds_each_element_once_per_period(arrangement: Arrangement, count: int) -> bool:
    layout = arrangement.layout
    copies = layout.slots // layout.period
    held = layout.elements[layout.elements != UNUSED]
    once = np.sort(layout.elements[:, : layout.period].ravel())
    return (
        np.array_equal(np.bincount(held, minlength=count), np.full(count, copies))
        and np.array_equal(once[once != UNUSED], np.arange(count))
        and layout.slots == SLOTS
        and (layout.blocks == 1 or layout.period == SLOTS)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_candidate_places_every_element_once(shape: Shape) -> None:
    count = int(np.prod(shape))
    sources = [None, *candidates((1, 2, 16, 16), None, SLOTS), *candidates(shape, None, SLOTS)]
    for source in sources:
        for candidate in candidates(shape, source, SLOTS):
            assert holds_each_element_once_per_period(candidate, count)


def test_candidates_differ() -> None:
    (only,) = candidates((1, 4, 8, 8), None, SLOTS)  # powers of two: both are row-major
    assert only.places is not None  # or nothing could align with it
    assert len(candidates((1, 3, 7, 5), None, SLOTS)) == 2
    source = candidates((1, 2, 14, 10), None, SLOTS)[-1]
    assert len(candidates((1, 3, 7, 5), source, SLOTS)) == 3


def places(arrangement: Arrangement) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the first position of every element, (channels, rows, columns)."""
    return arrangement.layout.first_slots().reshape(arrangement.shape)


@pytest.mark.parametrize(("after", "stride"), [((3, 12, 10), 1), ((3, 6, 5), 2), ((5, 3, 2), 4)])
@pytest.mark.parametrize("slots", [256, 1024])
def test_aligned_pixels_stay_where_the_source_has_them(
    after: tuple[int, int, int], stride: int, slots: int
) -> None:
    source = candidates((1, 2, 12, 10), None, slots)[-1]
    aligned = candidates((1, *after), source, slots)[-1]
    rows, columns = stride * np.arange(after[1]), stride * np.arange(after[2])
    np.testing.assert_array_equal(places(aligned)[0], places(source)[0][np.ix_(rows, columns)])


def test_channels_take_the_lowest_places_that_a_stride_frees() -> None:
    source = candidates((1, 1, 8, 7), None, SLOTS)[-1]
    aligned = candidates((1, 4, 4, 3), source, SLOTS)[-1]
    assert places(aligned)[:, 0, 0].tolist() == [0, 1, 8, 9]


def test_an_axis_that_grows_has_no_aligned_candidate() -> None:
    source = candidates((1, 2, 5, 5), None, SLOTS)[-1]
    assert len(candidates((1, 2, 9, 9), source, SLOTS)) == 2
    assert len(candidates((1, 2, 5, 9), source, SLOTS)) == 2


def test_a_source_without_places_has_no_aligned_candidate() -> None:
    dense = candidates((1, 3, 7, 5), None, SLOTS)[0]
    assert dense.places is None
    assert len(candidates((1, 3, 7, 5), dense, SLOTS)) == 2


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_slots_between_multiples_of_pixels_hold_one_channel(shape: Shape) -> None:
    for source in (None, candidates((1, 2, 16, 16), None, SLOTS)[-1]):
        for candidate in candidates(shape, source, SLOTS):
            channels, rows, columns = candidate.shape
            channel = np.arange(channels).repeat(rows * columns)
            position = candidate.layout.first_slots() // candidate.pixels
            assert len({*zip(position, channel, strict=True)}) == len({*position})


def test_pixels_is_the_width_of_a_channel() -> None:
    dense, standard = candidates((1, 3, 7, 5), None, 1024)
    assert (dense.pixels, standard.pixels) == (1, 64)
    assert candidates((1, 6, 4, 4), standard, 1024)[-1].pixels == 1  # interleaved
