"""Write a laid-out graph as a Program: choose every scale, place every rescaling.

Scales follow one rule, the waterline: rescale as soon as what remains is still the working scale.
Primes may be much larger than the working scale; then one rescaling serves a matrix and the square
after it, and all rotations run on half the limbs. A lazy plan rescales after matrices only, so that
the matrix after a square rotates at the square's large scale, where errors do not count. Every
plaintext is encoded at the scale that brings its product, after the rescaling to come, to exactly
the working scale, so that additions meet equal scales. Between bootstraps the working scale is that
of the level (`level_scales`).

Source: Dathathri et al., "EVA" (PLDI 2020), waterline rescaling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from math import log2

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler import ckks_ir, tensor_ir
from hec.compiler.bootstrapping import level_scales, result_level
from hec.compiler.ckks_ir import EncryptionParameters, Instruction, Program
from hec.compiler.errors import InvalidProgram
from hec.compiler.laid_out import LaidOutGraph, LinearKernel
from hec.compiler.typing_rules import HEADROOM_BITS, polynomial_depth

_NARROW_BITS = 8
_SLACK_BITS = 0.5  # primes are a little below their power of two


@dataclass(frozen=True)
class ScalePlan:
    """Bits of the working scale (the waterline), of matrix entries, and of the primes."""

    scale: int
    plain: int
    prime: int
    lazy: bool = False  # leave products of ciphertexts to the next matrix's rescaling
    fresh: int = 0  # more bits of an input's scale: its error meets every weight of a wide layer

    @property
    def folds_first(self) -> bool:
        """Tell whether a rescaled product is so small that its sums would add up rounding errors.

        Then they are made before the rescaling, a little dearer, at a scale where errors vanish.
        """
        return self.prime <= self.scale + _NARROW_BITS


@dataclass(frozen=True)
class Lowered:
    """A Program, and the tensor operation that each instruction belongs to."""

    program: Program
    sources: tuple[int, ...]


@dataclass(frozen=True)
class _Value:
    """An emitted value: position, level and scale."""

    position: int
    level: int
    scale: float


def lower(graph: LaidOutGraph, parameters: EncryptionParameters, plan: ScalePlan) -> Lowered:
    """Return the Program under these parameters; inputs enter at the top level.

    Raises `InvalidProgram` where the modulus chain is too short.
    """
    writer = _written(graph, parameters, plan)
    return Lowered(Program(parameters, tuple(writer.instructions)), tuple(writer.sources))


def scales(
    graph: LaidOutGraph, parameters: EncryptionParameters, plan: ScalePlan
) -> list[tuple[int, float]]:
    """Return level and scale of every value of the Program; raise as `lower` does."""
    return [(value.level, value.scale) for value in _written(graph, parameters, plan).made]


def _written(graph: LaidOutGraph, parameters: EncryptionParameters, plan: ScalePlan) -> _Writer:
    writer = _Writer(graph, parameters, plan)
    for position, operation in enumerate(graph.graph.operations):
        writer.source = position
        writer.values.append(writer.operation(position, operation))
    for output in graph.graph.outputs:
        writer.source = output.operand
        writer.output(output)
    return writer


@dataclass
class _Writer:
    graph: LaidOutGraph
    parameters: EncryptionParameters
    plan: ScalePlan
    instructions: list[Instruction] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    made: list[_Value] = field(default_factory=list)  # by instruction
    values: list[_Value] = field(default_factory=list)  # by tensor operation
    source: int = 0

    def __post_init__(self) -> None:
        how, self.entry_level = self.parameters.bootstrapping, self.parameters.top_level
        if how is not None:
            self.entry_level = (
                result_level(self.parameters, how, tensor_ir.longest_series(self.graph.graph)) - 1
            )
        self.modulus_bits = list(accumulate(log2(prime) for prime in self.parameters.primes))

    def emit(self, instruction: Instruction, level: int, scale: float) -> _Value:
        if level < 0 or log2(scale) > self.modulus_bits[level]:
            raise InvalidProgram(f"lower: the modulus chain ends at operation {self.source}")
        self.instructions.append(instruction)
        self.sources.append(self.source)
        self.made.append(_Value(len(self.instructions) - 1, level, scale))
        return self.made[-1]

    def operation(self, position: int, operation: tensor_ir.TensorOperation) -> _Value:
        match operation:
            case tensor_ir.Input():
                level = self.entry_level
                scale = self.working_scale(level) * 2.0**self.plan.fresh
                layout = self.graph.layouts[position]
                entry = ckks_ir.Input(operation.name, layout, level, scale, operation.divisor)
                return self.emit(entry, level, scale)
            case tensor_ir.Linear():
                return self.linear(position, operation)
            case tensor_ir.Multiply():
                return self.multiply(operation)
            case tensor_ir.Polynomial():
                return self.polynomial(position, operation)
            case tensor_ir.Bootstrap():
                return self.bootstrap(operation)
            case tensor_ir.Activation():
                raise InvalidProgram(f"lower: operation {position} is still an activation")
            case _:
                assert_never(operation)

    def working_scale(self, level: int) -> float:
        if self.parameters.bootstrapping is None:
            return float(2.0**self.plan.scale)
        return level_scales(self.parameters.primes)[level]

    def linear(self, position: int, operation: tensor_ir.Linear) -> _Value:
        kernel = self.graph.kernels[position]
        if self.parameters.bootstrapping is not None:  # a matrix reads values of the working scale
            for operand in operation.operands:
                self.rescaled(operand)
        level = min(self.values[operand].level for operand in operation.operands)
        largest = max(self.values[operand].scale for operand in operation.operands)
        scale = self._product_scale(level, log2(largest) + self.plan.plain)
        total: _Value | None = None
        for operand, matrix, split in zip(
            operation.operands, kernel.matrices, kernel.splits, strict=True
        ):
            x = self.at_level(self.values[operand], level)
            transform = ckks_ir.LinearTransform(
                x.position,
                matrix,
                split.baby_step,
                split.baby_start,
                scale / x.scale,
                label(operation),
            )
            term = self.emit(transform, level, scale)
            total = term if total is None else self.add(total, term)
        if total is None:
            raise InvalidProgram(f"lower: operation {position} has no operand")
        if self.plan.folds_first:
            total = self.rescale(self.fold(total, kernel))
        else:
            total = self.fold(self.rescale(total), kernel)
        return self.add_bias(total, position)

    def _product_scale(self, level: int, bits: float) -> float:
        """Return the scale for a product of at least `bits`, exact after its rescalings."""
        if self.parameters.bootstrapping is not None:
            return self.working_scale(level) ** 2
        dropped, remaining = 1.0, bits
        while level > 0 and remaining - self.plan.prime >= self.plan.scale - _SLACK_BITS:
            dropped *= self.parameters.primes[level]
            remaining -= self.plan.prime
            level -= 1
        if dropped == 1.0:
            return float(2.0**bits)
        return float(2.0 ** max(self.plan.scale, remaining) * dropped)

    def fold(self, total: _Value, kernel: LinearKernel) -> _Value:
        if not kernel.folds:
            return total
        instruction = ckks_ir.RotateSum(total.position, kernel.folds)
        return self.emit(instruction, total.level, total.scale)

    def add_bias(self, total: _Value, position: int) -> _Value:
        values = self.graph.packed_bias(position)
        if values is None:
            return total
        return self.emit(ckks_ir.AddPlain(total.position, values), total.level, total.scale)

    def multiply(self, operation: tensor_ir.Multiply) -> _Value:
        x, y = self.rescaled(operation.left), self.rescaled(operation.right)
        level = min(x.level, y.level)
        x, y = self.at_level(x, level), self.at_level(y, level)
        instruction = ckks_ir.Multiply(x.position, y.position, label(operation))
        product = self.emit(instruction, level, x.scale * y.scale)
        return product if self.plan.lazy else self.rescale(product)

    def rescaled(self, operand: int) -> _Value:
        """Return a value that is multiplied next, rescaled for all who read it from now on."""
        self.values[operand] = self.rescale(self.values[operand])
        return self.values[operand]

    def polynomial(self, position: int, operation: tensor_ir.Polynomial) -> _Value:
        x = self.rescaled(operation.operand)
        coefficients: NDArray[np.float64] = operation.coefficients
        if coefficients.ndim > 1:
            coefficients = self.graph.layouts[position].pack(coefficients)
        level = x.level - polynomial_depth(len(coefficients) - 1)
        scale = self.working_scale(max(level, 0))
        series = ckks_ir.Polynomial(x.position, coefficients, scale, label(operation))
        return self.emit(series, level, scale)

    def bootstrap(self, operation: tensor_ir.Bootstrap) -> _Value:
        how, degree = self.parameters.bootstrapping, operation.coefficients.shape[1] - 1
        if how is None:
            raise InvalidProgram("lower: the parameters are not made for bootstraps")
        x = self.rescaled(operation.operand)
        level = result_level(self.parameters, how, degree)
        series = ckks_ir.Bootstrap(x.position, operation.coefficients, label(operation))
        return self.emit(series, level, self.working_scale(level) ** 2)

    def output(self, output: tensor_ir.Output) -> None:
        x = self.rescaled(output.operand)
        if x.level > 0 and log2(x.scale) + HEADROOM_BITS <= self.modulus_bits[0]:
            x = self.at_level(x, 0)
        layout = self.graph.layouts[output.operand]
        self.emit(ckks_ir.Output(x.position, output.name, layout, output.factor), x.level, x.scale)

    def add(self, left: _Value, right: _Value) -> _Value:
        return self.emit(ckks_ir.Add(left.position, right.position), left.level, left.scale)

    def at_level(self, x: _Value, level: int) -> _Value:
        if x.level == level:
            return x
        return self.emit(ckks_ir.ModSwitch(x.position, level), level, x.scale)

    def rescale(self, x: _Value) -> _Value:
        """Rescale while at least the working scale remains."""
        while x.level > 0:
            scale = x.scale / self.parameters.primes[x.level]
            if log2(scale) < self.plan.scale - _SLACK_BITS:
                break
            x = self.emit(ckks_ir.Rescale(x.position), x.level - 1, scale)
        return x


def label(
    operation: tensor_ir.Linear | tensor_ir.Multiply | tensor_ir.Polynomial | tensor_ir.Bootstrap,
) -> str:
    """Return the ONNX nodes of an operation, for reports."""
    names = operation.origin
    return " + ".join(names[:3]) + (f" + {len(names) - 3} more" if len(names) > 3 else "")
