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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import hypot, sqrt
from typing import Final

import numpy as np
from typing_extensions import assert_never

from hec.compiler import noise
from hec.compiler.bootstrap_errors import results_share, usual_slope
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
from hec.compiler.copy_gains import Ending, endings, folds_of
from hec.compiler.fourier import slope
from hec.compiler.kernel_sizes import FEW, KernelSizes
from hec.compiler.layout import UNUSED
from hec.compiler.polynomial_errors import (
    GRID,
    Kind,
    Source,
    gains,
    near,
    sources,
)
from hec.compiler.variances import Local, Variances, laplace, tail

SPIKED: Final = 2.0  # times its rms: the value of a slot that has a spike
REACH: Final = (
    3.4  # times its rms: the largest value of a slot; so that times `tail` it is the tail
)
# of a product of two Gaussians, value and error
PEAK: Final = 1.25  # times the largest value that samples showed, likewise
FEW_SAMPLES: Final = 2.0  # times the reach that samples showed: another one's errors may be larger
PARTS: Final = 2.0  # of a sum whose parts `FEW` limits already, that may be unusual at once


@dataclass(frozen=True)
class Errors:
    """Of every value of a Program, slots in [-1, 1]."""

    deviations: tuple[float, ...]  # root mean square over the slots that hold something
    worst: tuple[float, ...]  # standard deviation in the worst slot
    bounds: tuple[float, ...]  # what no slot exceeds, but for `FAILURE`


@dataclass(frozen=True)
class Known:
    """What samples tell about the values of a Program."""

    magnitudes: Sequence[float]  # root mean squares
    measured: Sequence[float] = ()  # deviations that come from bootstraps; (): derive them
    coherence: Sequence[float] = ()  # by how much entering errors grow more than by the rules
    peaks: Sequence[float] = ()  # largest magnitudes
    reaches: Sequence[float] = ()  # largest errors of `measured`, over those of Gaussians

    def largest(self, position: int, unit: float = 1.0) -> float:
        """Return the largest value there is, but for strays; at most `unit`."""
        magnitude = self.magnitudes[position]
        peak = PEAK * self.peaks[position] if self.peaks else unit
        return max(min(unit, peak, REACH * magnitude), magnitude)


def errors_of(
    program: Program, types: Sequence[ValueType], known: Known, sizes: KernelSizes
) -> Errors:
    """Return the errors of all values."""
    if known.measured:
        more = results_share(program, known.magnitudes)
        known = replace(known, measured=tuple(more * each for each in known.measured))
    found, folds, last = list[Variances](), folds_of(program), endings(program)
    for instruction in program.instructions:
        rules = Rules(program.parameters, types, found, known, sizes, folds, last)
        found.append(rules.grown(instruction))
    caused = known.measured or (0.0,) * len(found)
    means = tuple(hypot(sqrt(each.mean), more) for each, more in zip(found, caused, strict=True))
    worst = tuple(sqrt(each.worst + each.peak) for each in found)
    if program.parameters.bootstrapping is not None:  # many layers mix all rows, but not spikes
        pairs = zip(means, found, strict=True)
        worst = tuple(hypot(mean, sqrt(each.spike)) for mean, each in pairs)
    most = (sqrt(each.most + each.spike) for each in found)
    tails = [tail(value.blocks * program.parameters.ring_slots) for value in types]
    bounds = tuple(far * max(pair) for far, *pair in zip(tails, most, means, strict=True))
    if known.reaches:  # by the rules, bounds take the steepest slope in every layer
        values = zip(tails, known.reaches, means, found, strict=True)
        seen = (
            far * hypot(FEW_SAMPLES * reach * mean, sqrt(each.spike))
            for far, reach, mean, each in values
        )
        bounds = tuple(map(min, bounds, seen))
    return Errors(means, worst, bounds)


@lru_cache(maxsize=1024)
def _key_switch_variances(parameters: EncryptionParameters, level: int) -> tuple[float, float]:
    """Return mean and largest variance of a key switch over the slots of all images."""
    variances = noise.key_switching(parameters, level) ** 2
    return float(variances.mean()), float(variances.max())


@dataclass(frozen=True)
class Rules:
    """The rule of error growth of each instruction."""

    parameters: EncryptionParameters
    types: Sequence[ValueType]
    found: Sequence[Variances]  # of the values so far
    known: Known
    sizes: KernelSizes
    folds: Mapping[int, tuple[int, ...]]  # steps of the sums that follow matrices
    endings: Mapping[int, Ending]  # of the last matrices

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
                entering = self.found[instruction.operand]
                return replace(entering.plus(rounding**2), local=entering.local)  # copies share it
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
            case ModSwitch():
                return self.found[instruction.operand]
            case Output():
                copies = instruction.layout.copies.shape[1]
                read = self.found[instruction.operand].averaged(copies, self._tail)
                return replace(read, mean=self._coherence * read.mean)
            case _:
                assert_never(instruction)

    @property
    def _encoding(self) -> float:
        return noise.encoding(self.parameters.ring_degree)

    def _switch(self, level: int, scale: float) -> tuple[float, float]:
        """Variance of a key switch at `level`, of values of that scale, and what peaks add."""
        mean, worst = _key_switch_variances(self.parameters, level)
        return mean / scale**2, (worst - mean) / scale**2

    def _together(self, peak: float, count: int) -> float:
        """What the peaks of several rotations add up to: on OpenFHE they are the same."""
        return peak * (count**2 if self.parameters.digits else count)

    @property
    def _tail(self) -> float:
        return laplace(self.parameters.ring_slots)

    @property
    def _coherence(self) -> float:
        """By how much variances that enter the instruction grow more than by the rules."""
        coherence = self.known.coherence
        return coherence[len(self.found)] ** 2 if coherence else 1.0

    def _average(self, position: int) -> float:
        """What a sum of many slots of a value has for each of them."""
        caused = self.known.measured[position] if self.known.measured else 0.0
        return self.found[position].mean + caused**2

    def _largest(self, position: int) -> float:
        """Square of the largest value there is."""
        return self.known.largest(position) ** 2

    def _fresh(self, instruction: Input) -> Variances:
        error = (noise.encryption(self.parameters.ring_degree) / instruction.scale) ** 2
        filled = float(np.mean(instruction.layout.elements != UNUSED))
        local = Local(error, error, error)
        return Variances(error, error, error, error, 0.0, filled, local=local)

    def _linear(self, instruction: LinearTransform) -> Variances:
        """What enters, grown by the rows; giant steps; and the rounding of the diagonals."""
        size, x = self.sizes(instruction), self.types[instruction.operand]
        entering, square = (
            self.found[instruction.operand],
            self.known.magnitudes[instruction.operand] ** 2,
        )
        each, peak = self._switch(x.level, x.scale)
        if not (size.rotates_first or instruction.twin):
            each = peak = 0.0
        grown = self._coherence
        rows = (grown * entering.mean + each) * size.mean_power
        average = max(1.0, grown) * self._average(instruction.operand)
        lumps = max(0.0, entering.most - average) * size.lumpy_power
        rounding = size.encoded * (self._encoding / instruction.plain_scale) ** 2
        if instruction.matrix.period == 1:  # one coefficient is rounded, however many images
            rounding /= self.parameters.batch
        few = min(1.0, FEW / max(size.diagonals, 1.0))
        largest = square + few * (self._largest(instruction.operand) - square)
        encoded = rounding * square * entering.filled
        turned, turned_peak = self._switch(x.level, x.scale * instruction.plain_scale)
        folds = self.folds.get(len(self.found), ())
        power = self.sizes.folded_power(instruction, folds) / 2 ** len(folds)
        return Variances(
            rows + encoded,
            rows * size.filled + encoded,
            (entering.worst + each) * power + encoded,
            (average + each) * size.power + lumps + rounding * largest,
            entering.spike * size.largest + peak * size.peak_power,
            size.filled,
            entering.peak * size.largest + peak * size.peak_power,
            self._local(instruction, each, power).plus_peaks(
                peak * size.peak_power, size.turns + 1
            ),
        ).plus(size.turns * turned, self._tail, self._together(turned_peak, size.turns))

    def _local(self, instruction: LinearTransform, each: float, power: float) -> Local:
        """What copies of the outputs do not share of errors that enter the last matrix."""
        ending = self.endings.get(len(self.found))
        if ending is None or instruction.twin:
            return Local()
        gains = self.sizes.copy_gains(instruction.matrix, ending)
        if gains is None:
            return Local()
        size, entering = self.sizes(instruction), self.found[instruction.operand].local
        terms, copies = 2.0 ** len(ending.steps), ending.layout.copies.shape[1]
        more = max(0.0, entering.largest - entering.variance) * size.lumpy_power
        own, power = entering.variance + each, min(size.mean_power, power)
        return Local(
            own * power,
            own * power + more,
            (entering.summed + each) * gains.power * copies / terms**2,
            entering.peak * size.largest,
            entering.amplitude * gains.largest * copies / terms,
        )

    def _rotate_sum(self, instruction: RotateSum) -> Variances:
        """Each step adds up two independent slots, and a key switch that later steps spread."""
        x, entering = self.types[instruction.operand], self.found[instruction.operand]
        each, peak = self._switch(x.level, x.scale)
        steps, terms = len(instruction.steps), 2.0 ** len(instruction.steps)
        everywhere = terms * entering.everywhere
        average = self._average(instruction.operand)
        lumps = max(0.0, entering.most - average) * min(terms, PARTS)
        together = self._together(peak, steps)
        local = entering.local.folded(steps, PARTS)
        grown = Variances(
            self._coherence * terms * entering.mean,
            everywhere,
            terms * entering.worst,
            terms * average + lumps,
            entering.spike,
            min(1.0, terms * entering.filled),
            entering.peak,
        ).plus((terms - 1) * each, self._tail, together)
        switched = local.plus_switches(steps, each, self._tail, (peak, together))
        return replace(grown, local=switched)

    def _sum(self, left: Variances, right: Variances) -> Variances:
        """Errors are independent as a rule; in the worst case they are the same."""
        return Variances(
            left.mean + right.mean,
            left.everywhere + right.everywhere,
            left.worst + right.worst,
            (sqrt(left.most) + sqrt(right.most)) ** 2,
            (sqrt(left.spike) + sqrt(right.spike)) ** 2,
            max(left.filled, right.filled),
            (sqrt(left.peak) + sqrt(right.peak)) ** 2,
        )

    def _product(self, instruction: Multiply) -> Variances:
        left, right = instruction.left, instruction.right
        x, y = self.found[left], self.found[right]
        doubled = 2.0 if left == right else 1.0  # two errors that are the same
        a, b = (
            doubled * self.known.magnitudes[left] ** 2,
            doubled * self.known.magnitudes[right] ** 2,
        )
        mean = self._coherence * (a * y.mean + b * x.mean)
        most = doubled * (self._largest(left) * y.most + self._largest(right) * x.most)
        filled = min(x.filled, y.filled)
        spike = SPIKED**2 * (a * y.spike + b * x.spike)
        worst = a * y.worst + b * x.worst
        peaks = a * y.peak + b * x.peak
        if left == right:
            local = x.local.scaled(a + b, 2 * doubled * self._largest(left))
        else:
            one = x.local.scaled(b, self._largest(right))
            local = one.joined(y.local.scaled(a, self._largest(left)))
        grown = Variances(mean, filled * mean, worst, most, spike, filled, peaks, local)
        kind = self.types[left]
        each, peak = self._switch(kind.level, kind.scale * self.types[right].scale)
        return grown.plus(each, self._tail, peak)

    def _polynomial(self, instruction: Polynomial) -> Variances:
        """What enters times the slope, and the errors of all steps."""
        operand = instruction.operand
        x, entering = self.types[operand], self.found[operand]
        gain = gains(instruction, self.known.magnitudes[operand], self.known.largest(operand))
        usual, most = gain.entering, gain.entering_most
        mean, worst = self._coherence * usual * entering.mean, usual * entering.worst
        spike, peak = most * entering.spike, usual * entering.peak
        local = entering.local.scaled(usual, most)
        found = Variances(mean, mean, worst, most * entering.most, spike, 1.0, peak, local)
        steps = sources(instruction, self.parameters.primes, x.level, x.scale)
        for step, usual, most in zip(steps, gain.made, gain.made_most, strict=True):
            made, more = self._made(step)
            tail = self._tail * most / usual if usual else 0.0
            found = found.plus(usual * made, tail, usual * more)
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
        squares = slope(instruction.coefficients, GRID / 2) ** 2
        usual = usual_slope(instruction, self.known.magnitudes[instruction.operand])
        reach = 2 * self.known.largest(instruction.operand, 0.5)
        largest = float(squares[near(reach)].max())
        made = noise.bootstrapping(self.parameters) ** 2
        degree = instruction.coefficients.shape[1] - 1
        flat = noise.bootstrap_result(self.parameters, degree) ** 2
        entering = self.found[instruction.operand]
        derived = 0.0 if self.known.measured else usual * made + flat
        mean = usual * entering.mean + derived
        most = largest * (entering.most + entering.spike + made) + flat
        return Variances(mean, mean, mean, most, 0.0, entering.filled)  # layers to come mix spikes
