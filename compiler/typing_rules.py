"""The typing rules of a Program: level, scale and ciphertext count of every value.

One rule per instruction. Whatever breaks a rule is a bug of a pass, so it raises `InvalidProgram`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil, isclose, log2

from typing_extensions import assert_never

from hec.compiler.bootstrapping import input_level, level_scales, result_level
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
from hec.compiler.errors import InvalidProgram

SCALE_TOLERANCE = 1e-9  # relative; scales at an addition are equal but for float64 rounding
HEADROOM_BITS = 2.5  # the sign, and values up to 2.8 where calibration saw at most 1


def polynomial_depth(degree: int) -> int:
    """Return the levels that a Chebyshev series of `degree` takes in `kernels.polynomial`."""
    return ceil(log2(degree + 1))


def infer_types(program: Program) -> tuple[ValueType, ...]:
    """Return the type of every value, or raise `InvalidProgram` at the first broken rule."""
    types: list[ValueType] = []
    available = tuple(accumulate(log2(prime) for prime in program.parameters.primes))
    for position, instruction in enumerate(program.instructions):
        place = f"instruction {position} ({type(instruction).__name__})"
        for operand in operands(instruction):
            if not 0 <= operand < position:
                raise InvalidProgram(f"{place} reads value {operand}")
        value = _rule(instruction, types, program.parameters, place)
        _check_range(value, available, place)
        types.append(value)
    _check_twins(program)
    return tuple(types)


def drops_imaginary_parts(program: Program) -> list[bool]:
    """Return, for every value, whether all that reads it are bootstraps, and sums on the way."""
    readers: list[list[int]] = [[] for _ in program.instructions]
    for position, instruction in enumerate(program.instructions):
        for operand in operands(instruction):
            readers[operand].append(position)
    dropped = [False] * len(readers)
    for position in reversed(range(len(readers))):
        dropped[position] = bool(readers[position]) and all(
            _drops(program.instructions[reader], dropped[reader]) for reader in readers[position]
        )
    return dropped


def headroom(parameters: EncryptionParameters, types: Sequence[ValueType]) -> float:
    """Return the bits by which any value may exceed what `HEADROOM_BITS` allows for."""
    available = tuple(accumulate(log2(prime) for prime in parameters.primes))
    return min(available[x.level] - log2(x.scale) - HEADROOM_BITS for x in types)


def operands(instruction: Instruction) -> tuple[int, ...]:
    """Return the positions that `instruction` reads."""
    match instruction:
        case Input():
            return ()
        case Add() | Multiply():
            return (instruction.left, instruction.right)
        case _:
            return (instruction.operand,)


def _rule(
    instruction: Instruction,
    types: list[ValueType],
    parameters: EncryptionParameters,
    place: str,
) -> ValueType:
    match instruction:
        case Input():
            return ValueType(instruction.level, instruction.scale, instruction.layout.blocks)
        case LinearTransform():
            return _linear(instruction, types[instruction.operand], parameters, place)
        case AddPlain():
            x = types[instruction.operand]
            _require(instruction.values.shape == (x.blocks, parameters.slots), place, "shape")
            return x
        case Add():
            return _same(types[instruction.left], types[instruction.right], place)
        case Multiply():
            x, y = types[instruction.left], types[instruction.right]
            _require(x.level == y.level, place, f"levels {x.level} and {y.level} differ")
            _require(x.blocks == y.blocks, place, "numbers of ciphertexts differ")
            return ValueType(x.level, x.scale * y.scale, x.blocks)
        case Polynomial():
            x = types[instruction.operand]
            depth = polynomial_depth(len(instruction.coefficients) - 1)
            return ValueType(x.level - depth, instruction.scale, x.blocks)
        case Bootstrap():
            return _bootstrap(instruction, types[instruction.operand], parameters, place)
        case Rescale():
            x = types[instruction.operand]
            _require(x.level > 0, place, "level 0 has no prime to drop")
            return ValueType(x.level - 1, x.scale / parameters.primes[x.level], x.blocks)
        case ModSwitch():
            x = types[instruction.operand]
            _require(instruction.level <= x.level, place, f"cannot raise level {x.level}")
            return ValueType(instruction.level, x.scale, x.blocks)
        case RotateSum() | Output():
            return types[instruction.operand]
        case _:
            assert_never(instruction)


def _drops(reader: Instruction, later: bool) -> bool:
    match reader:
        case Bootstrap():
            return True
        case Add() | AddPlain() | RotateSum() | Rescale() | ModSwitch():
            return later
        case Input() | Output() | LinearTransform() | Multiply() | Polynomial():
            return False
        case _:
            assert_never(reader)


def _check_twins(program: Program) -> None:
    """A matrix of complex products leaves partial sums in the imaginary part of its result."""
    if not any(isinstance(x, LinearTransform) and x.twin for x in program.instructions):
        return
    for position, dropped in enumerate(drops_imaginary_parts(program)):
        instruction = program.instructions[position]
        complex_result = isinstance(instruction, LinearTransform) and instruction.twin != 0
        place = f"instruction {position} ({type(instruction).__name__})"
        _require(dropped or not complex_result, place, "no bootstrap drops its imaginary part")


def _linear(
    instruction: LinearTransform, x: ValueType, parameters: EncryptionParameters, place: str
) -> ValueType:
    matrix = instruction.matrix
    _require(matrix.in_blocks == x.blocks, place, "the matrix takes another number of ciphertexts")
    _require(matrix.slots == parameters.slots, place, "the matrix is for another ring degree")
    return ValueType(x.level, x.scale * instruction.plain_scale, matrix.out_blocks)


def _bootstrap(
    instruction: Bootstrap, x: ValueType, parameters: EncryptionParameters, place: str
) -> ValueType:
    how, degree = parameters.bootstrapping, instruction.coefficients.shape[1] - 1
    if how is None:
        raise InvalidProgram(f"{place}: the parameters are not made for bootstraps")
    _require(x.level >= input_level(how), place, f"level {x.level} has no room for SlotsToCoeffs")
    scales = level_scales(parameters.primes)
    equal = isclose(x.scale, scales[x.level], rel_tol=SCALE_TOLERANCE)
    _require(equal, place, f"scale {x.scale:.12g} is not that of level {x.level}")
    level = result_level(parameters, how, degree)
    _require(level > input_level(how), place, f"no level is left after a series of degree {degree}")
    return ValueType(level, scales[level] ** 2, x.blocks)


def _same(x: ValueType, y: ValueType, place: str) -> ValueType:
    _require(x.level == y.level, place, f"levels {x.level} and {y.level} differ")
    _require(x.blocks == y.blocks, place, "numbers of ciphertexts differ")
    equal = isclose(x.scale, y.scale, rel_tol=SCALE_TOLERANCE)
    _require(equal, place, f"scales {x.scale:.12g} and {y.scale:.12g} differ")
    return x


def _check_range(value: ValueType, available: Sequence[float], place: str) -> None:
    """`available` holds the bits of the modulus at every level."""
    level = value.level
    if not 0 <= level < len(available):
        raise InvalidProgram(f"{place}: level {level} is impossible")
    used = log2(value.scale) + HEADROOM_BITS
    if used > available[level]:  # the message is not made for nothing: this is asked often
        told = f"scale needs {used:.1f} bits, level {level} has {available[level]:.1f}"
        raise InvalidProgram(f"{place}: {told}")


def _require(condition: bool, place: str, message: str) -> None:
    if not condition:
        raise InvalidProgram(f"{place}: {message}")
