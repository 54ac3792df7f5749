"""Predict a Program's seconds and the error of its outputs, instruction by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler import noise
from hec.compiler.ckks_ir import (
    Add,
    AddPlain,
    Bootstrap,
    DiagonalMatrix,
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
from hec.compiler.cost import CostCounter, Counted, costs_of
from hec.compiler.fourier import slope
from hec.compiler.kernels import ConstantCache, apply_polynomial
from hec.compiler.memory import DEFAULT_MAX_RAM, kept_diagonals, server_memory
from hec.compiler.openfhe_costs import OpenfheCosts
from hec.compiler.pairing import products
from hec.compiler.rotation_costs import hops, rotation_seconds, steps_of
from hec.compiler.schedule import Split, rotations
from hec.compiler.typing_rules import headroom, infer_types

CONFIDENCE = 4.5  # standard deviations that the promised precision covers
_GRID = np.linspace(-1.0, 1.0, 65)  # where the slope of a polynomial is averaged


@dataclass(frozen=True)
class KernelSize:
    """Counts and gains of one matrix under one split."""

    key_switches: int
    rotates_first: bool  # whether any input is rotated before it is multiplied
    turns: int  # distinct giant steps
    diagonals: float  # per output block
    power: float  # largest sum of squares in a row: the gain of independent errors
    mean_power: float = 1.0  # of all rows that are not empty
    babies: tuple[frozenset[int], ...] = ()  # steps by which each input block is rotated
    giants: tuple[int, ...] = ()  # steps by which sums are rotated, of all output blocks


class KernelSizes:
    """The sizes of matrices, computed once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, Split], KernelSize] = {}
        self._assumed: dict[int, KernelSize] = {}
        self._kept: list[DiagonalMatrix] = []  # so that no id is used twice

    def __call__(self, instruction: LinearTransform) -> KernelSize:
        """Return the sizes of the transform."""
        matrix = instruction.matrix
        if id(matrix) in self._assumed:
            return self._assumed[id(matrix)]
        split = Split(instruction.baby_step, instruction.baby_start)
        key = id(matrix), instruction.twin, split
        if key not in self._known:
            self._known[key] = _measure(instruction)
            self._kept.append(matrix)
        return self._known[key]

    def assume(self, matrix: DiagonalMatrix, size: KernelSize) -> None:
        """Take `size` for `matrix` without looking at it."""
        self._assumed[id(matrix)] = size
        self._kept.append(matrix)


def _measure(instruction: LinearTransform) -> KernelSize:
    matrix = instruction.matrix
    split = Split(instruction.baby_step, instruction.baby_start)
    index = products(matrix, instruction.twin).index
    giant, baby = split.apply(index[:, 2].astype(np.int64))
    powers = _row_powers(matrix)
    return KernelSize(
        rotations(index, split, matrix.slots),
        bool(baby.any()),
        int(np.unique(giant[giant != 0]).size),
        len(matrix.index) / matrix.out_blocks,
        float(powers.max(initial=0.0)),
        float(powers[powers > 0].mean()) if powers.any() else 0.0,
        *steps_of(matrix, split, instruction.twin),
    )


def _row_powers(matrix: DiagonalMatrix) -> NDArray[np.float64]:
    """Return the sum of squares of every row, (out_blocks, period)."""
    powers = np.zeros((matrix.out_blocks, matrix.period))
    row = np.repeat(matrix.index[:, 0], np.diff(matrix.values.indptr))
    np.add.at(powers, (row, matrix.values.indices), matrix.values.data.astype(np.float64) ** 2)
    return powers


@dataclass(frozen=True)
class Forecast:
    """What the plan will cost and how exact it will be."""

    seconds: tuple[float, ...]  # per instruction
    deviations: tuple[float, ...]  # standard deviation of every value's error, slots in [-1, 1]
    output_error: float  # largest error of any output, with `CONFIDENCE`, in output units
    headroom: float  # bits by which any value may exceed the headroom that typing demands

    @property
    def total_seconds(self) -> float:
        """Seconds of one prediction; one thread on SEAL, two on OpenFHE."""
        return sum(self.seconds)


def forecast(
    program: Program,
    magnitudes: Sequence[float],
    sizes: KernelSizes | None = None,
    measured: Sequence[float] | None = None,
) -> Forecast:
    """Predict; `magnitudes[i]` is the root mean square of value i, slots in [-1, 1].

    `measured` are deviations that samples showed to come from the errors of bootstraps; the rules
    add all others.
    """
    sizes = sizes or KernelSizes()
    types = infer_types(program)
    seconds, deviations = [], list[float]()
    encoded_anew = _encoded_anew(program)
    for position, instruction in enumerate(program.instructions):
        anew = encoded_anew.get(position, 0.0)
        seconds.append(anew + _seconds(instruction, types, program.parameters, sizes))
        errors = _Errors(program.parameters, types, deviations, magnitudes, sizes, not measured)
        deviations.append(errors.deviation(instruction))
    if measured:
        deviations = [hypot(*both) for both in zip(deviations, measured, strict=True)]
    outputs = [i for i in program.instructions if isinstance(i, Output)]
    worst = max((deviations[i.operand] * abs(i.factor) for i in outputs), default=0.0)
    spare = headroom(program.parameters, types)
    return Forecast(tuple(seconds), tuple(deviations), CONFIDENCE * worst, spare)


def _encoded_anew(program: Program) -> dict[int, float]:
    """Return the seconds of encoding the diagonals that a server of the default size cannot keep.

    They are encoded while the other thread computes.
    """
    parameters, types = program.parameters, infer_types(program)
    if not parameters.digits:
        return {}
    room = DEFAULT_MAX_RAM - server_memory(program).least
    kept, costs = kept_diagonals(program, room), OpenfheCosts(parameters)
    return {
        position: len(products(x.matrix, x.twin).first) * costs.encode(types[x.operand].level + 1)
        for position, x in enumerate(program.instructions)
        if isinstance(x, LinearTransform) and position not in kept
    }


def bootstrap_count(program: Program) -> int:
    """Return how many ciphertexts one prediction refreshes."""
    pairs = zip(program.instructions, infer_types(program), strict=True)
    return sum(value.blocks for x, value in pairs if isinstance(x, Bootstrap))


def _seconds(
    instruction: Instruction,
    types: Sequence[ValueType],
    parameters: EncryptionParameters,
    sizes: KernelSizes,
) -> float:
    counter = CostCounter.of(parameters)
    match instruction:
        case Input() | Output() | ModSwitch():
            return 0.0
        case LinearTransform():
            limbs = types[instruction.operand].level + 1
            return _linear_seconds(instruction, limbs, parameters, sizes(instruction))
        case _:
            pass
    operand = instruction.left if isinstance(instruction, Add | Multiply) else instruction.operand
    value = types[operand]
    x = Counted(value.level, value.scale)
    match instruction:
        case RotateSum():
            for step in instruction.steps:
                counter.add(x, counter.rotate(x, step))
        case AddPlain():
            counter.add_plain(x, 1.0)
        case Add():
            counter.add(x, x)
        case Multiply():
            counter.multiply(x, x)
        case Rescale():
            counter.rescale(x)
        case Bootstrap():
            counter.bootstrap(parameters, instruction.coefficients.shape[1] - 1)
        case Polynomial():
            apply_polynomial(x, instruction, 0, counter, parameters.primes, ConstantCache())
        case _:
            assert_never(instruction)
    return counter.seconds * value.blocks


def _linear_seconds(
    instruction: LinearTransform, limbs: int, parameters: EncryptionParameters, size: KernelSize
) -> float:
    """Rotations as `Hoists` makes them, and products with encoded diagonals."""
    costs = costs_of(parameters)
    each = costs.multiply_plain(limbs) + costs.add(limbs)
    rotations = rotation_seconds(size.babies, size.giants, parameters, limbs)
    count = len(products(instruction.matrix, instruction.twin).first)
    if not instruction.twin:
        return rotations + count * each
    turned = hops((instruction.twin,), parameters) * costs.key_switch(limbs) + each
    return rotations + count * each + instruction.matrix.in_blocks * turned


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
