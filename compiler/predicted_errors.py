"""Predict the error of each value of a Program, from the errors of its steps.

Three variances of every value grow side by side, by the same rules: the mean over the slots that
hold something; that of the worst slot, where values are as large as usual; and the largest that a
slot may have, where they are as large as they hardly ever are. The last, times the tail of a
Gaussian for as many slots, is a bound.

Errors are taken as independent from slot to slot and step to step. Within a polynomial they are
not, so `polynomial_errors` follows them; across the layers after a bootstrap they are not either,
so `measured` says what samples showed.

Source: docs/design/009-noise-model.md; `noise`, for the error of every primitive step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import hypot, sqrt
from typing import Final

import numpy as np
from scipy import special
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
from hec.compiler.kernel_sizes import FEW, KernelSizes
from hec.compiler.layout import UNUSED
from hec.compiler.polynomial_errors import (
    GRID,
    REACH,
    Kind,
    Source,
    gains,
    sources,
    weights,
)

SPIKED: Final = 2.0  # times its rms: the value of a slot that has a spike
FAILURE: Final = 1e-6  # probability that any slot of a value errs by more than its bound


@dataclass(frozen=True)
class Variances:
    """Of the error of one value, slots in [-1, 1]."""

    mean: float  # over the slots that hold something
    everywhere: float  # over all slots
    worst: float  # of the worst slot, at the usual size of values
    most: float  # of any slot, at any size of values, but for spikes
    spike: float  # what may come on top of it, in single slots
    filled: float  # share of the slots that hold something

    def plus(self, each: float, tail: float = 1.0, peak: float = 0.0) -> Variances:
        """Return the variances with those of an error of every slot added.

        Its bound is that of a Gaussian with `tail` times the variance; in few slots `peak` is
        added.
        """
        return Variances(
            self.mean + each,
            self.everywhere + each,
            self.worst + each + peak,
            self.most + tail * each,
            self.spike + peak,
            self.filled,
        )


@dataclass(frozen=True)
class Errors:
    """Of every value of a Program, slots in [-1, 1]."""

    deviations: tuple[float, ...]  # root mean square over the slots that hold something
    worst: tuple[float, ...]  # standard deviation in the worst slot
    bounds: tuple[float, ...]  # what no slot exceeds, but for `FAILURE`


def errors_of(
    program: Program,
    types: Sequence[ValueType],
    magnitudes: Sequence[float],
    sizes: KernelSizes,
    measured: Sequence[float] | None = None,
) -> Errors:
    """Return the errors of all values; `magnitudes` and `measured` are as in `forecast`."""
    found = list[Variances]()
    for instruction in program.instructions:
        rules = _Rules(program.parameters, types, found, magnitudes, sizes, measured)
        found.append(rules.grown(instruction))
    caused = measured or (0.0,) * len(found)
    means = tuple(hypot(sqrt(each.mean), more) for each, more in zip(found, caused, strict=True))
    worst = tuple(sqrt(each.worst) for each in found)
    most = (sqrt(each.most + each.spike) for each in found)
    tails = (tail(value.blocks * program.parameters.slots) for value in types)
    bounds = tuple(far * max(pair) for far, *pair in zip(tails, most, means, strict=True))
    return Errors(means, worst if program.parameters.bootstrapping is None else means, bounds)


@lru_cache(maxsize=64)
def tail(slots: int) -> float:
    """Return the deviations that none of `slots` Gaussian errors exceeds, but for `FAILURE`."""
    return float(-special.ndtri(FAILURE / (2 * slots)))


@lru_cache(maxsize=64)
def laplace(slots: int) -> float:
    """Return the variance of a Gaussian over that of a Laplace distribution of the same tail.

    An error times the secret key is a product of two complex Gaussians in every slot, one of which
    stays the same until the key changes: its real part has the distribution of Laplace.
    """
    return float((np.log(slots / FAILURE) / sqrt(2) / tail(slots)) ** 2)


@lru_cache(maxsize=1024)
def _key_switch_variances(parameters: EncryptionParameters, level: int) -> tuple[float, float]:
    """Return mean and largest variance of a key switch over the slots."""
    variances = noise.key_switching(parameters, level) ** 2
    return float(variances.mean()), float(variances.max())


@dataclass(frozen=True)
class _Rules:
    """The rule of error growth of each instruction."""

    parameters: EncryptionParameters
    types: Sequence[ValueType]
    found: Sequence[Variances]  # of the values so far
    magnitudes: Sequence[float]
    sizes: KernelSizes
    measured: Sequence[float] | None  # deviations that come from bootstraps; None: derive them

    def grown(self, instruction: Instruction) -> Variances:
        """Return the variances of the result."""
        match instruction:
            case Input():
                return self._fresh(instruction)
            case LinearTransform():
                return self._linear(instruction)
            case RotateSum():
                return self._rotate_sum(instruction)
            case AddPlain():
                rounding = self._encoding / self.types[instruction.operand].scale
                return self.found[instruction.operand].plus(rounding**2)
            case Add():
                return self._sum(self.found[instruction.left], self.found[instruction.right])
            case Multiply():
                return self._product(instruction)
            case Polynomial():
                return self._polynomial(instruction)
            case Bootstrap():
                return self._bootstrap(instruction)
            case Rescale():
                x = self.types[instruction.operand]
                scale = x.scale / self.parameters.primes[x.level]
                rounding = noise.rescaling(self.parameters.ring_degree) / scale
                return self.found[instruction.operand].plus(rounding**2, self._tail)
            case ModSwitch() | Output():
                return self.found[instruction.operand]
            case _:
                assert_never(instruction)

    @property
    def _encoding(self) -> float:
        return noise.encoding(self.parameters.ring_degree)

    def _switch(self, level: int, scale: float) -> tuple[float, float]:
        """Variance of a key switch at `level`, of values of that scale, and what peaks add."""
        mean, worst = _key_switch_variances(self.parameters, level)
        return mean / scale**2, (worst - mean) / scale**2

    @property
    def _tail(self) -> float:
        return laplace(self.parameters.slots)

    def _average(self, position: int) -> float:
        """What a sum of many slots of a value has for each of them."""
        caused = self.measured[position] if self.measured else 0.0
        return self.found[position].mean + caused**2

    def _largest(self, position: int) -> float:
        """Square of the largest value there is, but for strays."""
        magnitude = self.magnitudes[position]
        return max(min(1.0, REACH * magnitude), magnitude) ** 2

    def _fresh(self, instruction: Input) -> Variances:
        error = (noise.encryption(self.parameters.ring_degree) / instruction.scale) ** 2
        filled = float(np.mean(instruction.layout.elements != UNUSED))
        return Variances(error, error, error, error, 0.0, filled)

    def _linear(self, instruction: LinearTransform) -> Variances:
        """What enters, grown by the rows; giant steps; and the rounding of the diagonals."""
        size, x = self.sizes(instruction), self.types[instruction.operand]
        entering, square = (
            self.found[instruction.operand],
            self.magnitudes[instruction.operand] ** 2,
        )
        each, peak = self._switch(x.level, x.scale)
        if not (size.rotates_first or instruction.twin):
            each = peak = 0.0
        rows = (entering.mean + each) * size.mean_power
        average = self._average(instruction.operand)
        lumps = max(0.0, entering.most - average) * size.lumpy_power
        rounding = size.encoded * (self._encoding / instruction.plain_scale) ** 2
        few = min(1.0, FEW / max(size.diagonals, 1.0))
        largest = square + few * (self._largest(instruction.operand) - square)
        encoded = rounding * square * entering.filled
        turned, turned_peak = self._switch(x.level, x.scale * instruction.plain_scale)
        return Variances(
            rows + encoded,
            rows * size.filled + encoded,
            (entering.worst + each) * size.power + rounding * square,
            (average + each) * size.power + lumps + rounding * largest,
            entering.spike * size.largest + peak * size.peak_power,
            size.filled,
        ).plus(size.turns * turned, self._tail, size.turns * turned_peak)

    def _rotate_sum(self, instruction: RotateSum) -> Variances:
        """Each step adds up two independent slots, and a key switch that later steps spread."""
        x, entering = self.types[instruction.operand], self.found[instruction.operand]
        each, peak = self._switch(x.level, x.scale)
        steps, terms = len(instruction.steps), 2.0 ** len(instruction.steps)
        everywhere = terms * entering.everywhere
        average = self._average(instruction.operand)
        lumps = max(0.0, entering.most - average) * min(terms, FEW)
        return Variances(
            terms * entering.mean,
            everywhere,
            terms * entering.worst,
            terms * average + lumps,
            entering.spike,
            min(1.0, terms * entering.filled),
        ).plus((terms - 1) * each, self._tail, steps * peak)

    def _sum(self, left: Variances, right: Variances) -> Variances:
        """Errors are independent as a rule; in the worst case they are the same."""
        return Variances(
            left.mean + right.mean,
            left.everywhere + right.everywhere,
            left.worst + right.worst,
            (sqrt(left.most) + sqrt(right.most)) ** 2,
            (sqrt(left.spike) + sqrt(right.spike)) ** 2,
            max(left.filled, right.filled),
        )

    def _product(self, instruction: Multiply) -> Variances:
        left, right = instruction.left, instruction.right
        x, y = self.found[left], self.found[right]
        doubled = 2.0 if left == right else 1.0  # two errors that are the same
        a, b = doubled * self.magnitudes[left] ** 2, doubled * self.magnitudes[right] ** 2
        mean = a * y.mean + b * x.mean
        most = doubled * (self._largest(left) * y.most + self._largest(right) * x.most)
        filled = min(x.filled, y.filled)
        spike = SPIKED**2 * (a * y.spike + b * x.spike)
        worst = a * y.worst + b * x.worst
        grown = Variances(mean, filled * mean, worst, most, spike, filled)
        kind = self.types[left]
        each, peak = self._switch(kind.level, kind.scale * self.types[right].scale)
        return grown.plus(each, self._tail, peak)

    def _polynomial(self, instruction: Polynomial) -> Variances:
        """What enters times the slope, and the errors of all steps."""
        operand = instruction.operand
        x, entering = self.types[operand], self.found[operand]
        gain = gains(instruction, self.magnitudes[operand])
        usual, most = gain.entering, gain.entering_most
        mean, worst = usual * entering.mean, usual * entering.worst
        found = Variances(mean, mean, worst, most * entering.most, most * entering.spike, 1.0)
        steps = sources(instruction, self.parameters.primes, x.level, x.scale)
        for step, usual, most in zip(steps, gain.made, gain.made_most, strict=True):
            each, peak = self._made(step)
            tail = self._tail * most / usual if usual else 0.0
            found = found.plus(usual * each, tail, usual * peak)
        return replace(found, filled=entering.filled)

    def _made(self, step: Source) -> tuple[float, float]:
        """Variance of the error that a step of a polynomial adds, and what peaks add to it."""
        match step.kind:
            case Kind.SWITCH:
                return self._switch(step.level, step.scale)
            case Kind.RESCALE:
                error = noise.rescaling(self.parameters.ring_degree)
            case Kind.NUMBER:
                error = sqrt(noise.ROUNDING_VARIANCE)
            case Kind.VECTOR:
                error = self._encoding
            case _:
                assert_never(step.kind)
        return (error / step.scale) ** 2, 0.0

    def _bootstrap(self, instruction: Bootstrap) -> Variances:
        """The slope times the errors that enter and that the bootstrap makes, and the rest."""
        magnitude = 2 * self.magnitudes[instruction.operand]  # of a period's half
        squares = slope(instruction.coefficients, GRID / 2) ** 2
        usual = float(squares @ weights(magnitude))
        largest = float(squares[np.abs(GRID) <= max(REACH * magnitude, GRID[-1] - GRID[-2])].max())
        made = noise.bootstrapping(self.parameters) ** 2
        degree = instruction.coefficients.shape[1] - 1
        flat = noise.bootstrap_result(self.parameters, degree) ** 2
        entering = self.found[instruction.operand]
        mean = usual * (entering.mean + (0.0 if self.measured else made)) + flat
        most = largest * (entering.most + made) + flat
        return Variances(mean, mean, mean, most, largest * entering.spike, entering.filled)
