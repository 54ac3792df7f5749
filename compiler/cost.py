"""What each primitive step costs on SEAL, as a function of ring degree and level.

A key switch at level l works on l + 1 digits of l + 2 limbs, so it grows with the square of the
level; everything else grows linearly. The coefficients were fitted to timings on the reference
machine (2 cores, one thread used): N = 8192, 16384 and 32768, all levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log2

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import EncryptionParameters

_REFERENCE = 16384 * log2(16384)


@dataclass(frozen=True)
class StepCosts:
    """Seconds of one primitive step at a given ring degree; `limbs` is level + 1."""

    ring_degree: int

    @property
    def _size(self) -> float:
        return self.ring_degree * log2(self.ring_degree) / _REFERENCE

    def key_switch(self, limbs: int) -> float:
        """One rotation, or one relinearization."""
        return self._size * (0.268e-3 * limbs**2 + 0.76e-3 * limbs)

    def multiply_plain(self, limbs: int) -> float:
        """One product with an encoded plaintext."""
        return self._size * 0.1e-3 * limbs

    def add(self, limbs: int) -> float:
        """One sum of ciphertexts."""
        return self._size * 0.03e-3 * limbs

    def multiply(self, limbs: int) -> float:
        """One product of ciphertexts, without its relinearization."""
        return self._size * 0.2e-3 * limbs

    def rescale(self, limbs: int) -> float:
        """One rescaling."""
        return self._size * 0.42e-3 * limbs


@dataclass(frozen=True)
class Counted:
    """A ciphertext as the cost model sees it."""

    level: int
    scale: float


@dataclass
class CostCounter:
    """A backend that runs nothing and adds up seconds and key switches."""

    ring_degree: int
    primes: tuple[int, ...]
    seconds: float = 0.0
    key_switches: int = 0
    plaintexts: int = 0
    plaintext_limbs: int = 0
    costs: StepCosts = field(init=False)

    def __post_init__(self) -> None:
        self.costs = StepCosts(self.ring_degree)

    def encode(self, values: NDArray[np.float64], level: int, scale: float) -> float:
        """Count a plaintext; return its scale."""
        self.plaintexts += 1
        self.plaintext_limbs += level + 1
        return scale

    def rotate(self, x: Counted, steps: int) -> Counted:
        """Count a key switch."""
        self.key_switches += 1
        self.seconds += self.costs.key_switch(x.level + 1)
        return x

    def multiply_plain(self, x: Counted, y: float) -> Counted:
        """Count a product with a plaintext."""
        self.seconds += self.costs.multiply_plain(x.level + 1)
        return Counted(x.level, x.scale * y)

    def add_plain(self, x: Counted, y: float) -> Counted:
        """Count a sum."""
        self.seconds += self.costs.add(x.level + 1) / 2
        return x

    def add(self, x: Counted, y: Counted) -> Counted:
        """Count a sum."""
        self.seconds += self.costs.add(x.level + 1)
        return x

    def multiply(self, x: Counted, y: Counted) -> Counted:
        """Count a product and its key switch."""
        self.key_switches += 1
        limbs = x.level + 1
        self.seconds += self.costs.multiply(limbs) + self.costs.key_switch(limbs)
        return Counted(x.level, x.scale * y.scale)

    def bootstrap(self, parameters: EncryptionParameters, degree: int) -> None:
        """Count a functional bootstrap."""
        self.seconds += 10.0

    def rescale(self, x: Counted) -> Counted:
        """Count a rescaling."""
        self.seconds += self.costs.rescale(x.level + 1)
        return Counted(x.level - 1, x.scale / self.primes[x.level])

    def mod_switch(self, x: Counted, level: int) -> Counted:
        """Dropping limbs costs next to nothing."""
        return Counted(level, x.scale)

    def level(self, x: Counted) -> int:
        """Return the rescalings left."""
        return x.level

    def scale(self, x: Counted) -> float:
        """Return the scale."""
        return x.scale
