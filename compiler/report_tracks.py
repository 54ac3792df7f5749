"""Where layers stand in the pictures of a report: one column each, the same in every picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WIDTH: Final = 920.0  # pixels of a picture of few layers
LEFT: Final = 56.0  # of an axis and its numbers
RIGHT: Final = 16.0
_NARROWEST: Final = 14.0  # of a column
_LABELLED: Final = 24  # columns that all have a number


@dataclass(frozen=True)
class Tracks:
    """The columns of `count` layers, numbered from 1."""

    count: int

    @property
    def pitch(self) -> float:
        """Pixels from one column to the next."""
        return max(_NARROWEST, (WIDTH - LEFT - RIGHT) / max(1, self.count))

    @property
    def width(self) -> float:
        """Pixels of a whole picture."""
        return LEFT + RIGHT + self.pitch * max(1, self.count)

    def middle(self, number: int) -> float:
        """Return the pixels from the left to the middle of column `number`."""
        return LEFT + (number - 0.5) * self.pitch

    @property
    def bar(self) -> float:
        """Share of a column that a bar takes: at most 44 pixels."""
        return min(0.64, 44 / self.pitch)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the columns that show their number."""
        if self.count <= _LABELLED:
            return tuple(range(1, self.count + 1))
        step = 5 if self.count <= 4 * _LABELLED else 10
        return (1, *range(step, self.count + 1, step))
