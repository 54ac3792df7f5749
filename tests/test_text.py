"""A Program prints as text and parses back; what the text shows is checked."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from conftest import Golden
from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import Program
from hec.compiler.errors import InvalidProgram
from hec.compiler.text import parse_program, payloads, print_program
from sample_plans import SMALL, TINY, deep_program, first_slots, linear_program

TEXT = """\
parameters: ring degree 32, primes 274877562881 268189697 268238849 268271617 268369921, \
special primes 1152921504606830593, security 128, digits 0
%0 = input {layout: #0 12 elements 32381e, level: 1, scale: #1 2^28.00, divisor: #2 2} "image" : \
level 1, scale 2^28.00, 2 ciphertexts
"""


def assert_equal(one: Program, other: Program) -> None:
    """Programs are equal: the same instructions on the same payloads."""
    assert one.parameters == other.parameters
    for left, right in zip(one.instructions, other.instructions, strict=True):
        assert type(left) is type(right)
        for item in fields(left):
            ours, theirs = getattr(left, item.name), getattr(right, item.name)
            assert ours is theirs or ours == theirs


@pytest.mark.parametrize(
    "program", [linear_program(SMALL), linear_program(TINY), deep_program(TINY)]
)
def test_parse_undoes_print(program: Program) -> None:
    assert_equal(parse_program(print_program(program), payloads(program)), program)


def test_a_program_without_instructions() -> None:
    program = Program(TINY, ())
    assert_equal(parse_program(print_program(program), ()), program)


def test_the_text_of_every_operation(golden: Golden) -> None:
    golden.check("every_operation.txt", print_program(deep_program(TINY)))


def test_strings_may_hold_anything() -> None:
    label = 'a "b" : {c} %1 \\ é\n, x: #1'
    entry, linear, *rest = linear_program(TINY).instructions
    assert isinstance(entry, ckks_ir.Input) and isinstance(linear, ckks_ir.LinearTransform)
    named = (replace(entry, name=label), replace(linear, label=label), *rest)
    program = Program(TINY, named)
    assert print_program(program).count("\n") == 1 + len(named)
    assert_equal(parse_program(print_program(program), payloads(program)), program)


def test_numbers_of_the_model_do_not_show() -> None:
    """So a golden file is the same on every processor."""
    program = linear_program(TINY)
    text = print_program(program)
    entry, linear, rescale, bias, output = program.instructions
    assert isinstance(linear, ckks_ir.LinearTransform) and isinstance(bias, ckks_ir.AddPlain)
    values = linear.matrix.values * 1.001
    matrix = replace(linear.matrix, values=values)
    other = (entry, replace(linear, matrix=matrix), rescale, replace(bias, values=-bias.values))
    assert print_program(replace(program, instructions=(*other, output))) == text


def changed_index(linear: ckks_ir.LinearTransform) -> ckks_ir.LinearTransform:
    index = linear.matrix.index.copy()
    index[0, 2] += 1
    return replace(linear, matrix=replace(linear.matrix, index=index))


def changed_places(linear: ckks_ir.LinearTransform) -> ckks_ir.LinearTransform:
    values = linear.matrix.values.copy()
    values[0, 0] = 0
    values.eliminate_zeros()
    return replace(linear, matrix=replace(linear.matrix, values=values))


@pytest.mark.parametrize("change", [changed_index, changed_places])
def test_the_structure_of_a_matrix_shows(change) -> None:  # type: ignore[no-untyped-def]
    program = linear_program(TINY)
    entry, linear, *rest = program.instructions
    other = replace(program, instructions=(entry, change(linear), *rest))
    ours, theirs = print_program(program).splitlines(), print_program(other).splitlines()
    assert [a == b for a, b in zip(ours, theirs, strict=True)].count(False) == 1


def test_the_places_of_a_layout_show() -> None:
    program = linear_program(TINY)
    entry = program.instructions[0]
    assert isinstance(entry, ckks_ir.Input)
    moved = replace(entry, layout=first_slots(TINY.slots, 6, blocks=2, start=1))
    other = replace(program, instructions=(moved, *program.instructions[1:]))
    assert print_program(other) != print_program(program)


def test_a_program_that_breaks_a_rule_does_not_print() -> None:
    with pytest.raises(InvalidProgram, match=r"^instruction 0 \(Rescale\) reads value 3$"):
        print_program(Program(TINY, (ckks_ir.Rescale(3),)))


def damaged(old: str, new: str) -> str:
    text = print_program(linear_program(TINY))
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "level 0, scale 2^28.00",
            "level 0, scale 2^28.01",
            "line 4 should be: %2 = rescale %1 : ",
        ),
        (" : level 1", " : level 0", "line 2 should be: %0 = input {layout: #0 12 elements "),
        ("12 elements", "11 elements", "line 2 should be: %0 = input {layout: #0 12 elements "),
        ("%2 = rescale", "%5 = rescale", "line 4 should be: %2 = rescale %1 : "),
        ("= rescale %1", "= rescale", "line 4: pop from empty list"),
        ("= rescale %1", "= rescale %1 %0", "line 4 should be: %2 = rescale %1 : "),
        ("= rescale", "= raise", "line 4 is no instruction: %2 = raise %1 : level 0"),
        ("= rescale %1", "= rescale %x", "line 4 is no instruction: %2 = rescale %x : level 0"),
        (
            "baby_step: 4",
            "baby_step: four",
            "line 3: invalid literal for int() with base 10: 'four'",
        ),
        ("#3 ", "#99 ", "line 3: tuple index out of range"),
        (
            "parameters: ring",
            "parameters: Ring",
            "line 1 is no list of parameters: parameters: Ring",
        ),
    ],
)
def test_a_wrong_text_is_refused_where_it_is_wrong(old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidProgram) as caught:
        parse_program(damaged(old, new), payloads(linear_program(TINY)))
    assert str(caught.value).startswith(message)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(InvalidProgram, match=r"^line 1 is no list of parameters: $"):
        parse_program("", ())


def test_a_missing_line_is_refused() -> None:
    program = linear_program(TINY)
    lines = print_program(program).splitlines()
    with pytest.raises(InvalidProgram, match=r"^instruction 2 \(AddPlain\) reads value 2$"):
        parse_program("\n".join([*lines[:3], *lines[4:]]), payloads(program))


def test_the_first_lines_read_well() -> None:
    assert print_program(linear_program(TINY)).startswith(TEXT)


def test_golden_files_are_written_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import conftest

    monkeypatch.setattr(conftest, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    with pytest.raises(AssertionError, match="is missing: pytest --update-golden writes it"):
        conftest.Golden(False).check("new.txt", "text")
    conftest.Golden(True).check("new.txt", "text")
    conftest.Golden(False).check("new.txt", "text")
    with pytest.raises(AssertionError):
        conftest.Golden(False).check("new.txt", "other")
