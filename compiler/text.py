"""A Program as text, one instruction a line, and back: what golden files and debugging show.

    %4 = linear_transform %3 {matrix: #1 32 diagonals 1 x 1 blocks 5e8f01, ...} "fc" : level 3, ...

A line is short and stable: what is large or exact (layouts, matrices, vectors, scales) is a payload
`#n`, shown by a summary that no change of library or processor touches: digests cover integers
only, numbers are rounded. Level, scale and ciphertexts of every value come from `infer_types`. The
parser reads positions, integers, strings and payload numbers, then prints what it has read and
compares, so that nothing shown can be wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from math import log2
from typing import Final, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler.ckks_ir import (
    Bootstrapping,
    DiagonalMatrix,
    EncryptionParameters,
    Instruction,
    Program,
    ValueType,
)
from hec.compiler.errors import InvalidProgram
from hec.compiler.layout import UNUSED, Layout
from hec.compiler.typing_rules import infer_types

Payload: TypeAlias = Layout | DiagonalMatrix | NDArray[np.float64] | float
_Value: TypeAlias = Payload | int | str | tuple[int, ...]

_OPERANDS: Final = ("operand", "left", "right")
_LOG2: Final = ("scale", "plain_scale")  # shown as powers of two
_DIGEST: Final = 6  # hexadecimal digits
_KINDS: Final = {kind.__name__: kind for kind in get_args(Instruction)}
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_LINE: Final = re.compile(rf"%\d+ = (\w+)((?: %\d+)*)(?: {{(.*?)}})?(?: ({_STRING}))? : .*")
_HEADER: Final = re.compile(
    r"parameters: ring degree (\d+), primes ([\d ]+), special primes ([\d ]+),"
    r" security (\d+), digits (\d+)"
    r"(?:, batch (\d+))?"
    r"(?:, bootstraps (\d+) slots, levels (\d+) (\d+), baby steps (\d+) (\d+))?"
)


def print_program(program: Program) -> str:
    """Return the text of `program`; raise `InvalidProgram` if it breaks a typing rule."""
    lines = [_header(program.parameters)]
    first = 0
    types = infer_types(program)
    for position, (instruction, value) in enumerate(zip(program.instructions, types, strict=True)):
        lines.append(f"%{position} = {_instruction(instruction, first)} : {_type(value)}")
        first += len(list(_payloads(instruction)))
    return "\n".join(lines) + "\n"


def payloads(program: Program) -> tuple[Payload, ...]:
    """Return what the text of `program` refers to as #0, #1, ..."""
    return tuple(p for instruction in program.instructions for p in _payloads(instruction))


def parse_program(text: str, payloads: Sequence[Payload]) -> Program:
    """Return the Program that `text` shows, made with these payloads.

    Raise `InvalidProgram` at the first line that does not say what the Program is.
    """
    lines = text.splitlines()
    parameters = _parse_header(lines[0] if lines else "")
    numbered = enumerate(lines[1:], start=2)
    instructions = tuple(_parse_line(number, line, payloads) for number, line in numbered)
    program = Program(parameters, instructions)
    for number, printed in enumerate(print_program(program).splitlines(), start=1):
        if printed != lines[number - 1]:
            raise InvalidProgram(f"line {number} should be: {printed}")
    return program


def _header(parameters: EncryptionParameters) -> str:
    primes = " ".join(str(prime) for prime in parameters.primes)
    special = " ".join(str(prime) for prime in parameters.special_primes)
    line = (
        f"parameters: ring degree {parameters.ring_degree}, primes {primes},"
        f" special primes {special}, security {parameters.security}, digits {parameters.digits}"
    )
    if parameters.batch > 1:
        line = f"{line}, batch {parameters.batch}"
    how = parameters.bootstrapping
    if how is None:
        return line
    levels, steps = (" ".join(map(str, pair)) for pair in (how.levels, how.baby_steps))
    return f"{line}, bootstraps {how.slots} slots, levels {levels}, baby steps {steps}"


def _type(value: ValueType) -> str:
    plural = "" if value.blocks == 1 else "s"
    scale = _power_of_two(value.scale)
    return f"level {value.level}, scale {scale}, {value.blocks} ciphertext{plural}"


def _instruction(instruction: Instruction, payload: int) -> str:
    """Return the right-hand side; payloads count from `payload`."""
    operands, attributes, strings = "", list[str](), ""
    for name, value in _fields(instruction):
        if name in _OPERANDS:
            operands += f" %{value}"
        elif isinstance(value, str):
            strings += f" {json.dumps(value)}" if value else ""
        elif isinstance(value, int):
            attributes.append(f"{name}: {value}")
        elif isinstance(value, tuple):
            attributes.append(f"{name}: {' '.join(map(str, value))}")
        else:
            attributes.append(f"{name}: #{payload} {_summary(name, value)}")
            payload += 1
    body = f" {{{', '.join(attributes)}}}" if attributes else ""
    return _printed_name(type(instruction)) + operands + body + strings


def _printed_name(kind: type[Instruction]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _fields(instruction: Instruction) -> Iterator[tuple[str, _Value]]:
    for item in fields(instruction):
        yield item.name, getattr(instruction, item.name)


def _payloads(instruction: Instruction) -> Iterator[Payload]:
    for _, value in _fields(instruction):
        if not isinstance(value, int | str | tuple):
            yield value


def _summary(name: str, value: Payload) -> str:
    match value:
        case Layout():
            count = np.unique(value.elements[value.elements != UNUSED]).size
            return f"{count} elements {_digest(value.elements)}"
        case DiagonalMatrix():
            structure = (value.index, value.values.indptr, value.values.indices)
            blocks = f"{value.out_blocks} x {value.in_blocks} blocks"
            period = f"period {value.period} of {value.slots}"
            return f"{len(value.index)} diagonals {blocks} {period} {_digest(*structure)}"
        case float():
            return _power_of_two(value) if name in _LOG2 else f"{value:.3g}"
        case np.ndarray():
            return " x ".join(map(str, value.shape))
        case _:
            assert_never(value)


def _power_of_two(scale: float) -> str:
    return f"2^{log2(scale):.2f}"


def _digest(*arrays: NDArray[np.integer]) -> str:
    """Return a few digits that change when any integer or length changes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}".encode())
        total.update(np.ascontiguousarray(array, "<i8").tobytes())
    return total.hexdigest()[:_DIGEST]


def _parse_header(line: str) -> EncryptionParameters:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise InvalidProgram(f"line 1 is no list of parameters: {line}")
    degree, primes, special, security, digits, batch, *refresh = found.groups()
    bootstrapping = None
    if refresh[0]:
        slots, *pairs = map(int, refresh)
        bootstrapping = Bootstrapping((pairs[0], pairs[1]), (pairs[2], pairs[3]), slots)
    chain = tuple(int(prime) for prime in primes.split())
    keys = tuple(int(prime) for prime in special.split())
    numbers = int(security), int(digits)
    return EncryptionParameters(int(degree), chain, keys, *numbers, bootstrapping, int(batch or 1))


def _parse_line(number: int, line: str, table: Sequence[Payload]) -> Instruction:
    found = _LINE.fullmatch(line)
    kind = _KINDS.get("".join(part.capitalize() for part in found[1].split("_"))) if found else None
    if found is None or kind is None:
        raise InvalidProgram(f"line {number} is no instruction: {line}")
    operands = [int(position) for position in found[2].replace("%", "").split()]
    attributes = dict(item.split(": ", 1) for item in found[3].split(", ")) if found[3] else {}
    values: dict[str, object] = {}
    try:
        for item in fields(kind):
            if item.name in _OPERANDS:
                values[item.name] = operands.pop(0)
            elif item.name in attributes:
                values[item.name] = _parse_value(str(item.type), attributes[item.name], table)
            else:
                values[item.name] = json.loads(found[4] or '""')
    except (IndexError, ValueError) as error:
        raise InvalidProgram(f"line {number}: {error}") from None
    made: Instruction = kind(**values)
    return made


def _parse_value(kind: str, text: str, table: Sequence[Payload]) -> Payload | int | tuple[int, ...]:
    if text.startswith("#"):
        return table[int(text[1:].split(maxsplit=1)[0])]
    if kind.startswith("tuple"):
        return tuple(int(step) for step in text.split())
    return int(text)
