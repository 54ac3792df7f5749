"""One breaking program per typing rule, with the full message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Instruction, Program, ValueType
from hec.compiler.errors import InvalidProgram
from hec.compiler.typing_rules import HEADROOM_BITS, infer_types, operands, polynomial_depth
from sample_plans import TINY, deep_program, diagonals, first_slots

SCALE = 2.0**28
SLOTS = TINY.slots
ONE = first_slots(SLOTS, 4)
TWO = first_slots(SLOTS, 4, blocks=2)


def entry(level: int = 4, scale: float = SCALE, layout: ckks_ir.Layout = ONE) -> ckks_ir.Input:
    return ckks_ir.Input("x", layout, level, scale, 1.0)


def linear(operand: int, inputs: int, slots: int = SLOTS) -> ckks_ir.LinearTransform:
    return ckks_ir.LinearTransform(operand, diagonals(0, slots, (1, inputs), (0,)), 1, 0, SCALE)


BROKEN: list[tuple[str, tuple[Instruction, ...], str]] = [
    ("later operand", (ckks_ir.Rescale(0),), "instruction 0 (Rescale) reads value 0"),
    (
        "negative operand",
        (entry(), ckks_ir.Add(0, -1)),
        "instruction 1 (Add) reads value -1",
    ),
    (
        "input above the chain",
        (entry(5),),
        "instruction 0 (Input): level 5 is impossible",
    ),
    (
        "input blocks of a matrix",
        (entry(layout=TWO), linear(0, 1)),
        "instruction 1 (LinearTransform): the matrix takes another number of ciphertexts",
    ),
    (
        "slots of a matrix",
        (entry(), linear(0, 1, SLOTS * 2)),
        "instruction 1 (LinearTransform): the matrix is for another ring degree",
    ),
    (
        "shape of a vector",
        (entry(), ckks_ir.AddPlain(0, np.zeros((2, SLOTS)))),
        "instruction 1 (AddPlain): shape",
    ),
    (
        "levels of a sum",
        (entry(), entry(3), ckks_ir.Add(0, 1)),
        "instruction 2 (Add): levels 4 and 3 differ",
    ),
    (
        "scales of a sum",
        (entry(), entry(scale=SCALE * (1 + 1e-8)), ckks_ir.Add(0, 1)),
        "instruction 2 (Add): scales 268435456 and 268435458.684 differ",
    ),
    (
        "blocks of a sum",
        (entry(), entry(layout=TWO), ckks_ir.Add(0, 1)),
        "instruction 2 (Add): numbers of ciphertexts differ",
    ),
    (
        "levels of a product",
        (entry(), entry(2), ckks_ir.Multiply(0, 1)),
        "instruction 2 (Multiply): levels 4 and 2 differ",
    ),
    (
        "blocks of a product",
        (entry(), entry(layout=TWO), ckks_ir.Multiply(0, 1)),
        "instruction 2 (Multiply): numbers of ciphertexts differ",
    ),
    (
        "levels of a polynomial",
        (entry(2), ckks_ir.Polynomial(0, np.ones(9), SCALE)),
        "instruction 1 (Polynomial): level -2 is impossible",
    ),
    (
        "rescaling at the end",
        (entry(0), ckks_ir.Rescale(0)),
        "instruction 1 (Rescale): level 0 has no prime to drop",
    ),
    (
        "raising a level",
        (entry(2), ckks_ir.ModSwitch(0, 3)),
        "instruction 1 (ModSwitch): cannot raise level 2",
    ),
    (
        "dropping below the last level",
        (entry(2), ckks_ir.ModSwitch(0, -1)),
        "instruction 1 (ModSwitch): level -1 is impossible",
    ),
    (
        "scale beyond the modulus",
        (entry(1), ckks_ir.Multiply(0, 0), ckks_ir.ModSwitch(1, 0)),
        f"instruction 2 (ModSwitch): scale needs {56 + HEADROOM_BITS:.1f} bits, level 0 has 38.0",
    ),
]


@pytest.mark.parametrize(
    ("instructions", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_rule_is_named(instructions: tuple[Instruction, ...], message: str) -> None:
    with pytest.raises(InvalidProgram) as caught:
        infer_types(Program(TINY, instructions))
    assert str(caught.value) == message


def test_the_type_of_every_value() -> None:
    q = TINY.primes
    full, rescaled = SCALE * float(q[4]), SCALE * float(q[4]) / q[4]
    square = rescaled * rescaled
    assert infer_types(deep_program(TINY)) == (
        ValueType(4, SCALE, 1),
        ValueType(4, SCALE, 2),
        ValueType(4, full, 2),
        ValueType(3, rescaled, 2),
        ValueType(3, SCALE, 2),
        ValueType(3, rescaled, 2),
        ValueType(3, square, 2),
        ValueType(2, square / q[3], 2),
        ValueType(2, square / q[3], 2),
        ValueType(1, SCALE, 2),
        ValueType(2, square / q[3], 2),
        ValueType(1, SCALE, 2),
    )


def test_scales_that_differ_by_rounding_add() -> None:
    other = entry(scale=SCALE * (1 + 1e-12))
    infer_types(Program(TINY, (entry(), other, ckks_ir.Add(0, 1))))


def test_the_modulus_needs_headroom_for_sign_and_outliers() -> None:
    free = np.log2(TINY.primes[0]) - HEADROOM_BITS
    infer_types(Program(TINY, (entry(0, 2.0 ** (free - 0.01)),)))
    with pytest.raises(InvalidProgram, match=r"scale needs 38\.0 bits, level 0 has 38\.0$"):
        infer_types(Program(TINY, (entry(0, 2.0 ** (free + 0.01)),)))


def test_a_vector_needs_one_row_per_ciphertext() -> None:
    program = Program(TINY, (entry(layout=TWO), ckks_ir.AddPlain(0, np.zeros((2, SLOTS)))))
    assert infer_types(program)[1] == ValueType(4, SCALE, 2)


@pytest.mark.parametrize(
    ("degree", "levels"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (15, 4), (31, 5)]
)
def test_polynomial_depth(degree: int, levels: int) -> None:
    assert polynomial_depth(degree) == levels


def test_operands_are_the_values_that_are_read() -> None:
    program = deep_program(TINY)
    assert [operands(x) for x in program.instructions] == [
        (), (), (0,), (2,), (1,), (3, 4), (5, 5), (6,), (7,), (5,), (8,), (9,),
    ]  # fmt: skip
    assert operands(replace(ckks_ir.Add(1, 2), left=7)) == (7, 2)
