"""The options of `hec compile` as a `Target`: all that is wrong with them, told at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, get_args

from hec.compiler.errors import CompileError, Problem
from hec.compiler.goals import agreement_problems
from hec.compiler.target import BackendName, MaxPoolChoice, SecurityBits, Target

LARGEST_DEGREE: Final = 31
_SIZE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(M|G|T|)B?", re.IGNORECASE)
_UNITS: Final = {"M": 1e6, "G": 1e9, "T": 1e12, "": 1.0}
LARGEST_PRECISION: Final = 60.0  # bits, either sign
LARGEST_BATCH: Final = 10**9  # images


@dataclass(frozen=True)
class CompileOptions:
    """What the user typed."""

    backend: str
    security: int
    precision: float | None
    max_error: float | None
    degree: int | None
    inputs: Sequence[str]
    input_range: str | None
    has_calibration: bool
    max_ram: str | None = None
    maxpool: str | None = None
    min_agreement: float | None = None
    batch: int = 1


def target_of(options: CompileOptions) -> Target:
    """Return the `Target`; raise `CompileError` with every option that makes no sense."""
    problems = _number_problems(options)
    problems += agreement_problems(
        options.min_agreement, options.max_error, options.degree, options.has_calibration
    )
    backend, security = _backend(options, problems), _security(options, problems)
    shapes: dict[str, tuple[int, ...]] = {}
    for text in options.inputs:
        _add_shape(text, shapes, problems)
    input_range = _range(options, problems)
    max_ram = _bytes(options.max_ram, problems)
    maxpool = _maxpool(options, problems)
    if problems:
        raise CompileError(*problems)
    return Target(
        backend=backend,
        security=security,
        precision=options.precision,
        max_error=options.max_error,
        min_agreement=options.min_agreement,
        degree=options.degree,
        input_shapes=shapes,
        input_range=input_range,
        max_ram=max_ram,
        maxpool=maxpool,
        batch=options.batch,
    )


def memory_limit(text: str | None) -> float | None:
    """Return the bytes of `--max-ram`, None without it; raise `CompileError` for nonsense."""
    problems: list[Problem] = []
    found = _bytes(text, problems)
    if problems:
        raise CompileError(*problems)
    return found


def _bytes(text: str | None, problems: list[Problem]) -> float | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is not None and (size := float(match[1]) * _UNITS[match[2].upper()]) > 0:
        return size
    hint = "give gigabytes, for example --max-ram 16G"
    problems.append(Problem(f"'{text}' is not an amount of memory", f"--max-ram {text}", hint))
    return None


def _number_problems(options: CompileOptions) -> list[Problem]:
    problems = []
    precision, degree, error = options.precision, options.degree, options.max_error
    if precision is not None and not abs(precision) <= LARGEST_PRECISION:
        what = f"a precision of {precision:g} bits is not possible"
        hint = f"give -log2 of the error that the outputs may have, up to {LARGEST_PRECISION:g}"
        problems.append(Problem(what, f"--precision {precision:g}", hint))
    if degree is not None and not 2 <= degree <= LARGEST_DEGREE:
        what = f"polynomials of degree {degree} are not fitted"
        hint = (
            f"give a degree from 2 to {LARGEST_DEGREE}, or leave it out: hec chooses one per layer"
        )
        problems.append(Problem(what, f"--degree {degree}", hint))
    if error is not None and not (isfinite(error) and error > 0):
        what = f"an error of {error:g} is not a limit that can be kept"
        hint = "give a positive share of the outputs' root mean square, such as 0.05"
        problems.append(Problem(what, f"--max-error {error:g}", hint))
    if not 1 <= options.batch <= LARGEST_BATCH:
        what = f"{options.batch} images cannot be predicted together"
        hint = "give how many images you have at a time, 1 or more, such as --batch 4096"
        problems.append(Problem(what, f"--batch {options.batch}", hint))
    return problems


def _backend(options: CompileOptions, problems: list[Problem]) -> BackendName:
    backends: tuple[BackendName, ...] = get_args(BackendName)
    for name in backends:
        if options.backend == name:
            return name
    names = ", ".join(backends)
    place = f"--backend {options.backend}"
    problems.append(
        Problem(f"there is no backend '{options.backend}'", place, f"give one of {names}")
    )
    return "auto"


def _security(options: CompileOptions, problems: list[Problem]) -> SecurityBits:
    known: tuple[SecurityBits, ...] = get_args(SecurityBits)
    for bits in known:
        if options.security == bits:
            return bits
    what = f"no parameters are standardised for {options.security} bits of security"
    place = f"--security {options.security}"
    problems.append(Problem(what, place, "give 128, 192 or 256"))
    return 128


def _maxpool(options: CompileOptions, problems: list[Problem]) -> MaxPoolChoice | None:
    choices: tuple[MaxPoolChoice, ...] = get_args(MaxPoolChoice)
    for choice in choices:
        if options.maxpool == choice:
            return choice
    if options.maxpool is not None:
        what = f"'{options.maxpool}' is nothing that could stand for MaxPool"
        hint = f"give {' or '.join(choices)}"
        problems.append(Problem(what, f"--maxpool {options.maxpool}", hint))
    return None


def _add_shape(text: str, shapes: dict[str, tuple[int, ...]], problems: list[Problem]) -> None:
    name, equals, sizes = text.rpartition("=")
    parts = sizes.split(",")
    whole = all(part.strip().isdecimal() and int(part) > 0 for part in parts)
    if not (name and equals and whole):
        hint = "give NAME=SHAPE with sizes from 1 upwards, for example --input image=1,1,28,28"
        problems.append(Problem(f"'{text}' is not a name and a shape", f"--input {text}", hint))
    elif name in shapes:
        what = f"input '{name}' has two shapes"
        problems.append(Problem(what, f"--input {text}", "give --input once for each input"))
    else:
        shapes[name] = tuple(int(part) for part in parts)


def _range(options: CompileOptions, problems: list[Problem]) -> tuple[float, float]:
    text = options.input_range
    if text is None:
        return Target().input_range
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        hint = "give LO,HI with LO below HI, for example --input-range 0,1"
        problems.append(Problem(f"'{text}' is not an interval", f"--input-range {text}", hint))
    elif options.has_calibration:
        what = "the samples of --calibration tell the input range; another one has no meaning"
        problems.append(Problem(what, f"--input-range {text}", "leave out one of the two options"))
    return low, high
