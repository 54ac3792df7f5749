"""Predict the seconds of each instruction of a Program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from typing_extensions import assert_never

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
from hec.compiler.cost import CostCounter, Costs, Counted, costs_of, openfhe_costs
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.kernel_sizes import KernelSize, KernelSizes
from hec.compiler.kernels import ConstantCache, apply_polynomial, is_weighted_sum
from hec.compiler.memory import (
    DEFAULT_MAX_RAM,
    encoded_bytes,
    kept_diagonals,
    server_memory,
)
from hec.compiler.pairing import products
from hec.compiler.rotation_costs import hops, rotation_seconds
from hec.compiler.weighted_sums import deferring_sums

# What takes the same steps for every ciphertext.
Steps: TypeAlias = RotateSum | AddPlain | Add | Multiply | Rescale | Bootstrap | Polynomial
_SURELY_KEPT: Final = 10**9  # bytes of weights on SEAL, whose keys are rarely beyond 9 GB
_NUMBER: Final = 9e-6  # seconds of encoding one number for all slots; SEAL, measured


def seconds_of(
    program: Program,
    types: Sequence[ValueType],
    sizes: KernelSizes,
    table: CostTable = REFERENCE,
) -> tuple[float, ...]:
    """Return the seconds of every instruction; one thread on SEAL, two on OpenFHE."""
    deferred = deferring_sums(program) if program.parameters.digits else {}
    prices = _Prices(program.parameters, table, deferred)
    anew = _encoded_anew(program, types, prices)
    return tuple(
        anew.get(position, 0.0) + _seconds(position, instruction, types, prices, sizes)
        for position, instruction in enumerate(program.instructions)
    )


@dataclass(frozen=True)
class _Prices:
    parameters: EncryptionParameters
    table: CostTable
    deferred: Mapping[int, int] = field(default_factory=dict)  # products: where they relinearize

    @property
    def costs(self) -> Costs:
        return costs_of(self.parameters, self.table)


def _encoded_anew(
    program: Program, types: Sequence[ValueType], prices: _Prices
) -> dict[int, float]:
    """Return the seconds of encoding the diagonals that a server of the default size cannot keep.

    On OpenFHE they are encoded while the other thread computes.
    """
    if not program.parameters.digits and encoded_bytes(program, types) <= _SURELY_KEPT:
        return {}
    kept = kept_diagonals(program, DEFAULT_MAX_RAM - server_memory(program).least)
    return {
        position: (products(x.matrix, x.twin).first.size - kept[position])
        * prices.costs.encode(types[x.operand].level + 1)
        for position, x in enumerate(program.instructions)
        if isinstance(x, LinearTransform) and not is_weighted_sum(x)
    }


def _seconds(
    position: int,
    instruction: Instruction,
    types: Sequence[ValueType],
    prices: _Prices,
    sizes: KernelSizes,
) -> float:
    match instruction:
        case Input() | Output():
            return _message_seconds(instruction, types, prices)
        case ModSwitch():
            return 0.0
        case LinearTransform():
            limbs, waits = types[instruction.operand].level + 1, prices.deferred.values()
            if is_weighted_sum(instruction):
                return _sums_seconds(instruction, limbs, prices, position in waits)
            return _linear_seconds(instruction, limbs, prices, sizes(instruction))
        case _:
            is_deferred = position in prices.deferred
            return _steps_seconds(instruction, types, prices, is_deferred)


def _steps_seconds(
    instruction: Steps, types: Sequence[ValueType], prices: _Prices, is_deferred: bool
) -> float:
    """The steps of one ciphertext, for each; without its relinearization where that waits."""
    parameters = prices.parameters
    counter = CostCounter.of(parameters, prices.table)
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
        case Multiply() if is_deferred:
            counter.seconds += prices.costs.multiply(value.level + 1)
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


def _message_seconds(
    instruction: Input | Output, types: Sequence[ValueType], prices: _Prices
) -> float:
    """Reading a request, or writing a reply."""
    if isinstance(instruction, Input):
        return instruction.layout.blocks * prices.costs.load(instruction.level + 1)
    value = types[instruction.operand]
    return value.blocks * prices.costs.save(value.level + 1)


def _linear_seconds(
    instruction: LinearTransform, limbs: int, prices: _Prices, size: KernelSize
) -> float:
    """Rotations as `Hoists` makes them, and products with encoded diagonals."""
    parameters, table = prices.parameters, prices.table
    rotations = rotation_seconds(size.babies, size.giants, parameters, limbs, table)
    return rotations + product_seconds(instruction, limbs, parameters, table)


def _sums_seconds(
    instruction: LinearTransform, limbs: int, prices: _Prices, relinearizes: bool
) -> float:
    """Sums of ciphertexts times numbers, relinearized where the operand is not."""
    parameters, table = prices.parameters, prices.table
    if not relinearizes:
        return product_seconds(instruction, limbs, parameters, table)
    switched = instruction.matrix.out_blocks * prices.costs.key_switch(limbs)
    return switched + _number_seconds(instruction.matrix, limbs, parameters, table, 3)


def _number_seconds(
    matrix: DiagonalMatrix,
    limbs: int,
    parameters: EncryptionParameters,
    table: CostTable,
    polynomials: int = 2,
) -> float:
    """Ciphertexts of so many polynomials times numbers, and sums of them."""
    terms = len(matrix.index)
    if parameters.digits:
        costs, shape = openfhe_costs(parameters, table), (matrix.out_blocks, matrix.in_blocks)
        return costs.weighted_sums(shape, terms, polynomials * limbs)
    steps = table.seal_steps(parameters.ring_degree)
    return terms * (_NUMBER + steps.multiply_plain(limbs) + steps.add(limbs))


def product_seconds(
    instruction: LinearTransform, limbs: int, parameters: EncryptionParameters, table: CostTable
) -> float:
    """Return the seconds of products with encoded diagonals, and of their sums.

    With pairs, those of the complex numbers that they need as well.
    """
    if is_weighted_sum(instruction):
        return _number_seconds(instruction.matrix, limbs, parameters, table)
    costs = costs_of(parameters, table)
    each = costs.multiply_plain(limbs) + costs.add(limbs)
    count = len(products(instruction.matrix, instruction.twin).first)
    if not instruction.twin:
        return count * each
    turned = hops((instruction.twin,), parameters) * costs.key_switch(limbs) + each
    return count * each + instruction.matrix.in_blocks * turned
