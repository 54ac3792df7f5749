"""The matrices of a bootstrap, and the rotation keys that OpenFHE makes for them.

CoeffsToSlots and SlotsToCoeffs are each a Fourier transform of log2(slots) layers. A level's budget
collapses some layers into one matrix of 2^(layers + 1) - 1 diagonals, `stride` slots apart, which
is evaluated by baby steps and one repeated giant step (Horner's rule).

Source: OpenFHE 1.6.1, `EvalBootstrapKeyGen` (a test compares the keys); Chen, Chillotti and Song,
"Improved Bootstrapping for Approximate Homomorphic Encryption" (EUROCRYPT 2019), for the layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from hec.compiler.ckks_ir import Bootstrapping

FIXED_KEYS: Final = 3  # conjugation; to the sparse secret, and back
_FEW_DIAGONALS: Final = 7  # up to these, baby steps are half as many as for more


@dataclass(frozen=True)
class Stage:
    """Layers of a transform that are one matrix, for one level."""

    layers: int
    stride: int  # slots between neighbouring diagonals
    babies: int

    @property
    def diagonals(self) -> int:
        """Plaintexts of the matrix."""
        return (2 << self.layers) - 1

    @property
    def giants(self) -> int:
        """Sums of baby steps; all but one are rotated."""
        return (2 << self.layers) // self.babies

    @property
    def steps(self) -> frozenset[int]:
        """Rotations that the matrix needs, not yet reduced to the slots of a ciphertext."""
        last = self.babies if self.giants > 1 else self.babies - 1
        return frozenset(self.stride * number for number in range(1, last + 1))


def coeffs_to_slots(how: Bootstrapping) -> tuple[Stage, ...]:
    """Return the stages of CoeffsToSlots, the first (at the highest level) first."""
    layers, rows, rest = _collapsed(how.slots, how.levels[0])
    whole = [_stage(layers, rest + layers * row, how.baby_steps[0]) for row in range(rows)]
    return tuple([*([_stage(rest, 0)] if rest else []), *whole][::-1])


def slots_to_coeffs(how: Bootstrapping) -> tuple[Stage, ...]:
    """Return the stages of SlotsToCoeffs, the first (at the highest level) first."""
    layers, rows, rest = _collapsed(how.slots, how.levels[1])
    whole = [_stage(layers, layers * row, how.baby_steps[1]) for row in range(rows)]
    return (*whole, *([_stage(rest, layers * rows)] if rest else []))


def rotation_steps(ring_degree: int, how: Bootstrapping) -> frozenset[int]:
    """Return the left rotations, in [1, ring_degree / 2), that the bootstrap has keys for."""
    slots = ring_degree // 2
    stages = (*coeffs_to_slots(how), *slots_to_coeffs(how))
    steps = {step % slots for stage in stages for step in stage.steps}
    if how.slots < slots:
        steps |= {(how.slots + 1) % slots, *partial_sums(ring_degree, how)}
    return frozenset(steps - {0})


def partial_sums(ring_degree: int, how: Bootstrapping) -> tuple[int, ...]:
    """Return the rotations that sum the copies of sparse slots after the modulus is raised.

    Four copies are summed at a time.
    """
    steps, stride, slots = list[int](), how.slots, ring_degree // 2
    while stride < slots:
        steps += [stride * turn for turn in (1, 2, 3) if turn == 1 or 4 * stride <= slots]
        stride *= 4
    return tuple(steps)


def key_count(ring_degree: int, how: Bootstrapping) -> int:
    """Return the keys of a bootstrap: rotations, conjugation, changes of secret."""
    return len(rotation_steps(ring_degree, how)) + FIXED_KEYS


def _stage(layers: int, log_stride: int, babies: int = 0) -> Stage:
    diagonals = (2 << layers) - 1
    if not 0 < babies <= diagonals:
        babies = 2 ** (layers // 2 + (2 if diagonals > _FEW_DIAGONALS else 1))
    return Stage(layers, 2**log_stride, babies)


def _collapsed(slots: int, budget: int) -> tuple[int, int, int]:
    """Return layers per whole stage, whole stages, and layers of the one that is left over."""
    total = max(1, slots.bit_length() - 1)
    layers = ceil(total / budget)
    rows = total // layers
    if rows + (total > rows * layers) < budget:
        layers -= 1
        rows = min(total // layers, budget - 1)
        if total == layers * budget:
            rows = budget
    return layers, rows, total - rows * layers
