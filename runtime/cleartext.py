"""The reference backend: slot vectors in numpy, many samples at once, exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hec.compiler.bootstrapping import level_scales, result_level
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import InvalidProgram
from hec.compiler.fourier import series

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slots:
    """A stand-in for a ciphertext: (samples, slots) values, and the type it would have."""

    values: Array
    level: int
    scale: float


@dataclass(frozen=True, eq=False)
class Plain:
    """A stand-in for an encoded plaintext: (slots,) values, or one for all."""

    values: Array
    scale: float


class Cleartext:
    """Evaluates every primitive step exactly."""

    def __init__(self, parameters: EncryptionParameters) -> None:
        self.parameters = parameters

    def encode(self, values: Array, level: int, scale: float) -> Plain:
        """Keep the values."""
        return Plain(values, scale)

    def rotate(self, x: Slots, steps: int) -> Slots:
        """Rotate left; numpy's roll turns right for positive numbers."""
        return Slots(np.roll(x.values, -steps, axis=1), x.level, x.scale)

    def multiply_plain(self, x: Slots, y: Plain) -> Slots:
        """Multiply slotwise."""
        return Slots(x.values * y.values, x.level, x.scale * y.scale)

    def add_plain(self, x: Slots, y: Plain) -> Slots:
        """Add slotwise."""
        return Slots(x.values + y.values, x.level, x.scale)

    def add(self, x: Slots, y: Slots) -> Slots:
        """Add slotwise."""
        return Slots(x.values + y.values, x.level, x.scale)

    def multiply(self, x: Slots, y: Slots) -> Slots:
        """Multiply slotwise."""
        return Slots(x.values * y.values, x.level, x.scale * y.scale)

    def bootstrap(self, x: Slots, coefficients: Array) -> Slots:
        """Evaluate the series, and raise the level."""
        level, scale = self._refreshed(coefficients.shape[1] - 1)
        return Slots(series(coefficients, x.values), level, scale)

    def _refreshed(self, degree: int) -> tuple[int, float]:
        """Return level and scale of the result of a series of `degree`."""
        how = self.parameters.bootstrapping
        if how is None:
            raise InvalidProgram("the parameters are not made for bootstraps")
        level = result_level(self.parameters, how, degree)
        return level, level_scales(self.parameters.primes)[level] ** 2

    def rescale(self, x: Slots) -> Slots:
        """Drop a level."""
        return Slots(x.values, x.level - 1, x.scale / self.parameters.primes[x.level])

    def mod_switch(self, x: Slots, level: int) -> Slots:
        """Drop to `level`."""
        return Slots(x.values, level, x.scale)

    def level(self, x: Slots) -> int:
        """Return the rescalings left."""
        return x.level

    def scale(self, x: Slots) -> float:
        """Return the scale."""
        return x.scale
