"""How a tensor lies in its slots, in a few numbers: what reports tell of a `Layout`.

An index bit of an axis has a distance: how many slots lie between an element and the one whose
index differs in that bit alone. Row-major, multiplexed and interleaved layouts are all of that
kind, and the distances tell them apart.

Source: `arrangement`, whose places of index bits these distances are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hec.compiler.arrangement import image_shape
from hec.compiler.layout import UNUSED, Layout
from hec.compiler.tensor_ir import Shape

Distances = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Packing:
    """Ciphertexts, slots and distances of one layout."""

    ciphertexts: int
    slots: int  # that hold an element, of all ciphertexts together
    copies: int  # of the element that has the fewest
    distances: Distances | None  # of index bits of channels, rows, columns; None: irregular

    @property
    def gap(self) -> int:
        """Slots from an element to its neighbour in the row, or in a vector; 1: side by side."""
        if self.distances is None:
            return 1
        channels, rows, columns = self.distances
        return next((bits[0] for bits in (columns, rows, channels) if bits), 1)

    @property
    def kind(self) -> str:
        """The name of the layout."""
        if self.distances is None:
            return "irregular"
        channels, rows, columns = self.distances
        if not rows and not columns:
            return "vector" if self.gap == 1 else f"vector, gap {self.gap}"
        if self.gap == 1:
            return "row-major"
        filled = any(distance < self.gap for distance in (*channels, *rows))
        return f"multiplexed, gap {self.gap}" if filled else f"row-major, gap {self.gap}"


def packing(layout: Layout, shape: Shape) -> Packing:
    """Return how a tensor of `shape` lies in `layout`."""
    held = layout.elements[layout.elements != UNUSED]
    counts = np.bincount(held) if held.size else np.zeros(1, np.int64)
    copies = int(counts[counts > 0].min(initial=layout.elements.size)) if held.size else 0
    return Packing(layout.blocks, int(held.size), copies, _distances(layout, shape))


def _distances(layout: Layout, shape: Shape) -> Distances | None:
    """Return the distances, or None where an element is not where they say."""
    axes = image_shape(shape)
    first = layout.first_slots()
    if first.size != np.prod(axes) or (first == UNUSED).any():
        return None
    position = first.reshape(axes)
    index = np.indices(axes)
    expected = np.full(axes, position[0, 0, 0])
    found: list[tuple[int, ...]] = []
    for axis, size in enumerate(axes):
        line = np.moveaxis(position, axis, 0)[:, 0, 0]
        bits = [int(line[1 << k] - line[0]) for k in range((size - 1).bit_length())]
        for k, distance in enumerate(bits):
            expected = expected + (index[axis] >> k & 1) * distance
        found.append(tuple(bits))
    regular = bool((expected == position).all()) and all(d > 0 for bits in found for d in bits)
    return (found[0], found[1], found[2]) if regular else None
