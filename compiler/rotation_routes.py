"""Compose a rotation from those that have a key.

A key of a large ring takes 100 MB, and a bootstrap needs dozens anyway: any other rotation is two
or three of those in a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.errors import InvalidProgram

_UNREACHED: Final = -1


@dataclass(frozen=True, eq=False)
class Routes:
    """The last step on a shortest way from 0 to every rotation; `_UNREACHED` where none leads."""

    last: NDArray[np.int32]  # (slots,)

    def parent(self, step: int) -> tuple[int, int]:
        """Return the rotation before `step` (in [1, slots)), and the step from there."""
        last = int(self.last[step])
        return (step - last) % len(self.last), last

    def reaches(self, step: int) -> bool:
        """Tell whether keys compose to the rotation by `step`."""
        return bool(self.last[step % len(self.last)] != _UNREACHED)


def route(step: int, available: Iterable[int], slots: int) -> tuple[int, ...]:
    """Return the fewest available steps that rotate by `step`; () for no rotation.

    Raise `InvalidProgram` where they never do.
    """
    found, step = routes(frozenset(available), slots), step % slots
    if not found.reaches(step):
        raise InvalidProgram(f"no available rotations compose to {step}")
    steps: list[int] = []
    while step:
        step, last = found.parent(step)
        steps.append(last)
    return tuple(reversed(steps))


@lru_cache(maxsize=8)
def routes(available: frozenset[int], slots: int) -> Routes:
    """Return the shortest routes to all rotations, breadth first."""
    steps = sorted({step % slots for step in available} - {0})
    last = np.full(slots, _UNREACHED, np.int32)
    last[0] = 0
    frontier = np.zeros(1, np.int64)
    while len(frontier):
        reached: list[NDArray[np.int64]] = []
        for step in steps:
            new = (frontier + step) % slots
            new = new[last[new] == _UNREACHED]
            last[new] = step
            reached.append(new)
        frontier = np.concatenate(reached) if reached else frontier[:0]
    return Routes(last)
