"""Candidate layouts of a tensor: which slot address bit holds which bit of which index.

A tensor is seen as (channels, rows, columns). Padding each axis to a power of two, a layout that
gives every index bit a place among the address bits covers row-major, multiplexed (pixel shuffle)
and interleaved packings alike, and a strided convolution keeps pixels where they are by taking
its input's places and leaving the lowest ones to channels.

Source: Lee et al., "Low-Complexity Deep Convolutional Neural Networks on FHE Using Multiplexed
Parallel Convolutions" (ICML 2022); Ebel et al., "Orion" (ASPLOS 2025).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import prod

import numpy as np
import scipy.sparse as sp

from hec.compiler.layout import Layout, at, ceil_power_of_two
from hec.compiler.tensor_ir import Shape

Places = tuple[int, ...]  # address bit of each index bit, lowest first


@dataclass(frozen=True, eq=False)
class Arrangement:
    """A layout, and the places of its index bits where it has any."""

    layout: Layout
    shape: tuple[int, int, int]
    places: tuple[Places, Places, Places] | None  # channels, rows, columns
    within: int | None = None  # slots in which a row's sum ends, if fewer than a period

    @property
    def pixels(self) -> int:
        """Slots that lie below the channel bits: the width of one channel, or 1."""
        if self.places is None:
            return 1
        channels, rows, columns = self.places
        lowest = min(channels, default=0)
        inner = len(rows) + len(columns)
        return self.layout.run << inner if lowest >= inner else 1

    @property
    def is_run(self) -> bool:
        """Tell whether elements repeat in adjacent slots."""
        return self.layout.run > 1

    @property
    def fold(self) -> int:
        """Slots between the terms of a row that are summed in the end."""
        return self.layout.period if self.within is None else self.within


def image_shape(shape: Shape) -> tuple[int, int, int]:
    """Return (channels, rows, columns) of a tensor whose first axis is the batch."""
    if len(shape) <= 2:
        return (prod(shape), 1, 1)
    if len(shape) == 3:
        return (shape[0] * shape[1], 1, shape[2])
    return (prod(shape[:-2]), shape[-2], shape[-1])


def candidates(shape: Shape, source: Arrangement | None, slots: int) -> list[Arrangement]:
    """Return the layouts worth trying for a tensor, given that of the tensor it comes from."""
    image = image_shape(shape)
    if slots == 1:  # any other would have empty ciphertexts
        return [_dense(image, slots)]
    found = [_dense(image, slots), _standard(image, slots)]
    if source is not None and source.places is not None:
        found += _aligned(image, source, slots)
    return distinct(found)


def distinct(found: Iterable[Arrangement]) -> list[Arrangement]:
    """Return the arrangements, one of each that are the same; with places, if one of them has."""
    unique: list[Arrangement] = []
    for candidate in found:
        twin = next((i for i, other in enumerate(unique) if _same(candidate, other)), None)
        if twin is None:
            unique.append(candidate)
        elif unique[twin].places is None:  # what comes next may align with places
            unique[twin] = candidate
    return unique


def in_place(matrix: sp.csr_array, source: Layout) -> list[Arrangement]:
    """Return the layout with each result where the matrix finds its largest term, if there is one.

    A sum then lies where its first summand does, and takes as many diagonals as it has summands.
    """
    if matrix.shape[0] > matrix.shape[1] or not (np.diff(matrix.indptr) > 0).all():
        return []
    sizes, starts = np.abs(matrix.data), matrix.indptr[:-1]
    largest = np.maximum.reduceat(sizes, starts)
    places = np.flatnonzero(sizes == np.repeat(largest, np.diff(matrix.indptr)))
    columns = matrix.indices[places[np.searchsorted(places, starts)]]  # each row's first
    positions = source.first_slots()[columns]
    if np.unique(positions).size < positions.size or positions.min(initial=0) < 0:
        return []
    period = source.period if source.blocks == 1 else source.slots
    return [Arrangement(at(positions, period, source.slots), (positions.size, 1, 1), None)]


def before_copies(matrix: sp.csr_array, slots: int) -> list[Arrangement]:
    """Return the layout with each element where a matrix of copies has its first, if it is one.

    The copies, one after the other, then take few diagonals: a tensor that is repeated as a whole
    takes one for each repetition.
    """
    rows, count = matrix.shape
    if rows <= count or rows > slots or not (np.diff(matrix.indptr) == 1).all():
        return []
    columns, positions = np.unique(matrix.indices, return_index=True)
    if columns.size < count:
        return []
    period = min(slots, ceil_power_of_two(int(positions.max()) + 1))
    return [Arrangement(at(positions, period, slots), (count, 1, 1), None)]


def in_runs(found: Arrangement) -> Iterator[Arrangement]:
    """Yield the layouts that hold every element in adjacent slots, instead of whole copies.

    The next matrix then gives every slot of a run other rows, and takes as many fewer diagonals.
    """
    layout, run = found.layout, 2
    while layout.blocks == 1 and found.within is None and run * layout.period <= layout.slots:
        elements = np.repeat(layout.elements[:, : layout.slots // run], run, axis=1)
        bits, places = run.bit_length() - 1, None
        if found.places is not None:
            channels, rows, columns = (
                tuple(place + bits for place in axis) for axis in found.places
            )
            places = channels, rows, columns
        yield Arrangement(Layout(elements), found.shape, places)
        run *= 2


def across_copies(count: int, source: Layout) -> list[Arrangement]:
    """Return the layout of a matrix's `count` results across the copies of its operand, if any.

    Every copy computes other rows. What lies between them is no element of the result.
    """
    period, copies = source.period, source.slots // source.period
    within = ceil_power_of_two(-(-count // copies))
    if source.blocks > 1 or copies == 1 or within >= period:
        return []
    copy, place = np.divmod(np.arange(count), within)
    layout = at(copy * period + place, source.slots, source.slots)
    return [Arrangement(layout, (count, 1, 1), None, within)]


def in_phases(shape: Shape, result: Arrangement, slots: int) -> list[Arrangement]:
    """Return the layout in which a layer of that result finds its pixels where the result has them.

    What a stride skips lies in phases: the lowest bits of rows and columns take places beside the
    pixels, and so do channels; then every phase and channel is read by as few shifts as the kernel
    has entries in it.
    """
    image = image_shape(shape)
    if result.places is None:
        return []
    taken = {*result.places[1], *result.places[2]}
    free = (place for place in range(64) if place not in taken)
    pixels = list[Places]()
    for axis in (2, 1):
        kept = result.places[axis]
        skipped = _bits(image[axis]) - len(kept)
        if skipped < 0:
            return []
        pixels.append((*islice(free, skipped), *kept))
    columns, rows = pixels
    channels = tuple(islice(free, _bits(image[0])))
    return [_placed(image, (channels, rows, columns), slots)]


def _same(left: Arrangement, right: Arrangement) -> bool:
    same = left.fold == right.fold
    return same and np.array_equal(left.layout.elements, right.layout.elements)


def _dense(image: tuple[int, int, int], slots: int) -> Arrangement:
    count = prod(image)
    period = min(slots, ceil_power_of_two(count))
    return Arrangement(at(np.arange(count), period, slots), image, None)


def _standard(image: tuple[int, int, int], slots: int) -> Arrangement:
    c, h, w = (_bits(axis) for axis in image)
    places = (_run(w + h, c), _run(w, h), _run(0, w))
    return _placed(image, places, slots)


def _aligned(image: tuple[int, int, int], source: Arrangement, slots: int) -> list[Arrangement]:
    """Keep every pixel where the source has it; channels take places that are left.

    They take the lowest, or else the highest ones: there shifts are cyclic, so a channel further up
    and one further down are the same shift, and a layer has fewer diagonals.
    """
    if source.places is None:
        return []
    rows = _strided(source.places[1], source.shape[1], image[1])
    columns = _strided(source.places[2], source.shape[2], image[2])
    if rows is None or columns is None:
        return []
    taken, wanted = {*rows, *columns}, _bits(image[0])
    free = [place for place in range(64) if place not in taken]
    held = [place for place in free if 1 << place < slots]
    choices = [free[:wanted]]
    if wanted < len(held):
        choices.insert(0, held[len(held) - wanted :])
    return [_placed(image, (tuple(chosen), rows, columns), slots) for chosen in choices]


def _strided(places: Places, before: int, after: int) -> Places | None:
    """Return the places of an axis that was cut from `before` to `after` by a power of two."""
    skipped = max(0, round(np.log2(before / after)))
    kept = places[skipped : skipped + _bits(after)]
    return kept if len(kept) == _bits(after) else None


def _placed(
    image: tuple[int, int, int], places: tuple[Places, Places, Places], slots: int
) -> Arrangement:
    position = np.zeros(image, np.int64)
    for axis, bits in enumerate(places):
        index = np.arange(image[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
        for bit, place in enumerate(bits):
            position += ((index >> bit) & 1) << place
    highest = max((place for bits in places for place in bits), default=-1)
    period = min(slots, 1 << (highest + 1))
    return Arrangement(at(position.reshape(-1), period, slots), image, places)


def _bits(count: int) -> int:
    return ceil_power_of_two(count).bit_length() - 1


def _run(start: int, length: int) -> Places:
    return tuple(range(start, start + length))
