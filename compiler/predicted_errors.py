"""Predict the error of each value of a Program, from the errors of its steps.

Source: `noise`, for the error of every primitive step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot, sqrt

import numpy as np
from typing_extensions import assert_never

from hec.compiler import noise
from hec.compiler.ckks_ir import (
    Add,
    AddPlain,
    Bootstrap,
    EncryptionParameters,
    Input,
    Instruction,
    LinearTransform,
    ModSwitch,
    Multiply,
    Output,
    Polynomial,
    Program,
    Rescale,
    RotateSum,
    ValueType,
)
from hec.compiler.fourier import slope
from hec.compiler.kernel_sizes import KernelSize, KernelSizes

_GRID = np.linspace(-1.0, 1.0, 65)  # where the slope of a polynomial is averaged


def deviations_of(
    program: Program,
    types: Sequence[ValueType],
    magnitudes: Sequence[float],
    sizes: KernelSizes,
    measured: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """Return the standard deviation of every value's error, slots in [-1, 1].

    `magnitudes` and `measured` are as in `forecast`.
    """
    deviations = list[float]()
    for instruction in program.instructions:
        errors = _Errors(program.parameters, types, deviations, magnitudes, sizes, not measured)
        deviations.append(errors.deviation(instruction))
    if measured:
        deviations = [hypot(*both) for both in zip(deviations, measured, strict=True)]
    return tuple(deviations)


@lru_cache(maxsize=1024)
def _key_switch_variances(parameters: EncryptionParameters, level: int) -> tuple[float, float]:
    """Return mean and largest variance of a key switch over the slots."""
    variances = noise.key_switching(parameters, level) ** 2
    return float(variances.mean()), float(variances.max())


@dataclass(frozen=True)
class _Errors:
    """The rule of error growth of each instruction."""

    parameters: EncryptionParameters
    types: Sequence[ValueType]
    deviations: Sequence[float]
    magnitudes: Sequence[float]
    sizes: KernelSizes
    derives_bootstraps: bool  # else their errors have been measured

    def deviation(self, instruction: Instruction) -> float:
        degree = self.parameters.ring_degree
        match instruction:
            case Input():
                return noise.encryption(degree) / instruction.scale
            case LinearTransform():
                return self._linear(instruction)
            case RotateSum():
                variance = self._variance(instruction.operand)
                switch = self._worst_switch(instruction.operand)
                for _ in instruction.steps:
                    variance = 2 * variance + switch
                return sqrt(variance)
            case AddPlain():
                rounding = noise.encoding(degree) / self.types[instruction.operand].scale
                return sqrt(self._variance(instruction.operand) + rounding**2)
            case Add():
                return sqrt(self._variance(instruction.left) + self._variance(instruction.right))
            case Multiply():
                return self._product(instruction)
            case Polynomial():
                return self._polynomial(instruction)
            case Bootstrap():
                return self._bootstrap(instruction)
            case Rescale():
                x = self.types[instruction.operand]
                scale = x.scale / self.parameters.primes[x.level]
                error = noise.rescaling(degree) / scale
                return sqrt(self._variance(instruction.operand) + error**2)
            case ModSwitch() | Output():
                return self.deviations[instruction.operand]
            case _:
                assert_never(instruction)

    def _variance(self, position: int) -> float:
        return self.deviations[position] ** 2

    def _switch(self, position: int) -> float:
        """Variance of a key switch of value `position`, the mean over its slots."""
        return self._errors(position)[0] / self.types[position].scale ** 2

    def _worst_switch(self, position: int, factor: float = 1.0) -> float:
        """Variance of a key switch in its worst slot, at `factor` times the value's scale."""
        return self._errors(position)[1] / (factor * self.types[position].scale) ** 2

    def _errors(self, position: int) -> tuple[float, float]:
        return _key_switch_variances(self.parameters, self.types[position].level)

    def _linear(self, instruction: LinearTransform) -> float:
        size = self.sizes(instruction)
        entering = self._variance(instruction.operand)
        if size.rotates_first:
            entering += self._switch(instruction.operand)
        leaving = size.turns * self._worst_switch(instruction.operand, instruction.plain_scale)
        rounding = noise.encoding(self.parameters.ring_degree) / instruction.plain_scale
        encoded = size.diagonals * (rounding * self.magnitudes[instruction.operand]) ** 2
        return sqrt(entering * self._gain(size) + leaving + encoded)

    def _gain(self, size: KernelSize) -> float:
        """The worst row's, or with bootstraps, whose many layers mix all rows, the mean."""
        return size.power if self.parameters.bootstrapping is None else size.mean_power

    def _product(self, instruction: Multiply) -> float:
        left, right = instruction.left, instruction.right
        switch = self._worst_switch(left, self.types[right].scale)
        if left == right:
            return sqrt(4 * self.magnitudes[left] ** 2 * self._variance(left) + switch)
        crossed = self.magnitudes[left] ** 2 * self._variance(right)
        return sqrt(crossed + self.magnitudes[right] ** 2 * self._variance(left) + switch)

    def _bootstrap(self, instruction: Bootstrap) -> float:
        """The mean slope times the errors that enter and that the bootstrap makes, and the rest."""
        slopes = slope(instruction.coefficients, _GRID / 2)
        made = noise.bootstrapping(self.parameters) ** 2 if self.derives_bootstraps else 0.0
        degree = instruction.coefficients.shape[1] - 1
        flat = noise.bootstrap_result(self.parameters, degree) ** 2
        steepness = float((slopes**2).mean())
        return sqrt(steepness * (self._variance(instruction.operand) + made) + flat)

    def _polynomial(self, instruction: Polynomial) -> float:
        """The mean slope times the error that enters, and a rounding per level, weighted."""
        coefficients = instruction.coefficients.reshape(len(instruction.coefficients), -1)
        slope = np.polynomial.chebyshev.chebder(coefficients)
        slopes = np.polynomial.chebyshev.chebval(_GRID, slope)
        steepness = float(np.sqrt((slopes**2).mean(axis=-1)).max())
        error = noise.rescaling(self.parameters.ring_degree) / instruction.scale
        weight = 2 * float(np.abs(coefficients).sum(axis=0).max()) + 1
        return sqrt(steepness**2 * self._variance(instruction.operand) + (weight * error) ** 2)
