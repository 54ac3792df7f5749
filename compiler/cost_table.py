"""Seconds of the primitive steps of each backend, as data that a file holds.

hec ships the table of one reference machine, which compiling always uses, so that plans do not
depend on where they were made. `hec calibrate-host` measures that of another one, for reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from importlib.resources import files
from math import log2
from pathlib import Path
from typing import Final, TypeVar

from hec.compiler import record
from hec.compiler.atomic_file import atomic_file, read_bounded
from hec.compiler.checked_json import Json, Node, damaged, dump, parse
from hec.compiler.errors import CompileError, Problem, fail

FORMAT: Final = "hec costs"
VERSION: Final = 2
HELP: Final = "make it again on this machine: hec calibrate-host"
_LARGEST_FILE: Final = 2**18  # bytes; a table takes 12,000
_SHARES: Final = frozenset({"conversion", "inner_product", "drop_special", "rotation"})
_SLOWEST: Final = 60.0  # seconds of any one coefficient; none is measured above 0.01
_MOST_TEXTS: Final = 32
_WORDS: Final = {1: "one", 2: "two"}
_LONGEST_TEXT: Final = 200  # characters


@dataclass(frozen=True)
class Line:
    """Seconds of a step on a ciphertext of so many limbs (level + 1)."""

    fixed: float  # of any call: Python, the binding, memory for the result
    per_limb: float
    per_square: float = 0.0  # of limbs

    def __call__(self, limbs: int) -> float:
        """Return the seconds."""
        return self.fixed + limbs * (self.per_limb + limbs * self.per_square)

    def scaled(self, factor: float) -> Line:
        """Return the line of a ring that is `factor` times as much work."""
        return Line(self.fixed, factor * self.per_limb, factor * self.per_square)


@dataclass(frozen=True)
class SealSteps:
    """Seconds of SEAL's steps in a ring, one thread.

    A key switch at level l works on l + 1 digits of l + 2 limbs, so it grows with the square of the
    level; everything else grows linearly.
    """

    ring_degree: int
    key_switch: Line  # one rotation, or one relinearization
    multiply_plain: Line  # one product with an encoded plaintext
    add: Line  # one sum of ciphertexts
    add_plain: Line
    multiply: Line  # one product of ciphertexts, without its relinearization
    rescale: Line
    encode: Line  # one plaintext
    load: Line  # a ciphertext of a request; it comes as a seed and one polynomial
    save: Line  # one of the reply

    def decompose(self, limbs: int) -> float:
        """SEAL's rotations share nothing."""
        return 0.0

    def hoisted_rotation(self, limbs: int) -> float:
        """One rotation."""
        return self.key_switch(limbs)

    def in_ring(self, ring_degree: int) -> SealSteps:
        """Return the steps of another ring degree, by N log N."""
        factor = _work(ring_degree) / _work(self.ring_degree)
        return SealSteps(
            ring_degree,
            self.key_switch.scaled(factor),
            self.multiply_plain.scaled(factor),
            self.add.scaled(factor),
            self.add_plain.scaled(factor),
            self.multiply.scaled(factor),
            self.rescale.scaled(factor),
            self.encode.scaled(factor),
            self.load.scaled(factor),
            self.save.scaled(factor),
        )


@dataclass(frozen=True)
class OpenfheSteps:
    """Seconds of OpenFHE's steps in a ring, two threads; `openfhe_costs` puts them together."""

    ring_degree: int
    raise_digit: float  # per limb of the modulus that a digit is raised to
    conversion: float  # per limb of a digit, or special one, and limb that it is raised or cut to
    inner_product: float  # of a digit with the key, per limb of the extended modulus
    drop_special: float  # per limb of the extended modulus
    extended_product: float  # per limb: a diagonal times a rotation, added, in the bootstrap
    multiply_plain: Line
    add: Line
    multiply: Line
    rescale: Line  # of limbs + 1
    encode: Line
    rotation: float  # of any rotation or relinearization: Python, the binding, threads
    load: Line  # a ciphertext of a request
    save: Line  # one of the reply
    bootstrap: float = 1.0  # measured over what its steps add up to

    def in_ring(self, ring_degree: int) -> OpenfheSteps:
        """Return the steps of another ring degree, by N log N."""
        factor = _work(ring_degree) / _work(self.ring_degree)
        return OpenfheSteps(
            ring_degree,
            factor * self.raise_digit,
            factor * self.conversion,
            factor * self.inner_product,
            factor * self.drop_special,
            factor * self.extended_product,
            self.multiply_plain.scaled(factor),
            self.add.scaled(factor),
            self.multiply.scaled(factor),
            self.rescale.scaled(factor),
            self.encode.scaled(factor),
            self.rotation,
            self.load.scaled(factor),
            self.save.scaled(factor),
            self.bootstrap,
        )


@dataclass(frozen=True)
class Machine:
    """Where and when a table was measured."""

    processor: str
    cores: int
    threads: int  # of OpenFHE; SEAL takes one
    date: str  # ISO 8601
    versions: tuple[str, ...]  # of the libraries: "tenseal 0.3.18"

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.date}"


@dataclass(frozen=True)
class CostTable:
    """The steps of every ring degree that was measured, rising; none for a backend: not measured.

    Other ring degrees cost as much more or less as their N log N.
    """

    name: str  # in reports
    machine: Machine
    seal: tuple[SealSteps, ...]
    openfhe: tuple[OpenfheSteps, ...] = ()

    def seal_steps(self, ring_degree: int) -> SealSteps:
        """Return the seconds of SEAL's steps."""
        return _of_ring(self.seal, ring_degree)

    def openfhe_steps(self, ring_degree: int) -> OpenfheSteps:
        """Return the seconds of OpenFHE's steps."""
        return _of_ring(self.openfhe, ring_degree)

    def told(self, backend: str) -> str:
        """Return how many threads of which machine the seconds are of, in words."""
        threads = self.machine.threads if backend == "openfhe" else 1
        word = f"{_WORDS.get(threads, threads)} thread{'s' if threads > 1 else ''}"
        return f"{word}, {self.name} ({self.machine})"

    def covers(self, backend: str) -> bool:
        """Tell whether the steps of `backend` were measured."""
        return bool(self.openfhe if backend == "openfhe" else self.seal)


_AnySteps = TypeVar("_AnySteps", SealSteps, OpenfheSteps)


def _of_ring(known: Sequence[_AnySteps], ring_degree: int) -> _AnySteps:
    for steps in known:
        if steps.ring_degree == ring_degree:
            return steps
    nearest = nearest_ring([steps.ring_degree for steps in known], ring_degree)
    return _of_ring(known, nearest).in_ring(ring_degree)


def nearest_ring(rings: Iterable[int], ring_degree: int) -> int:
    """Return the ring whose steps stand for those of a ring that was not measured."""
    return min(rings, key=lambda known: abs(log2(known / ring_degree)))


def _work(ring_degree: int) -> float:
    return ring_degree * log2(ring_degree)


def save(table: CostTable, path: Path) -> None:
    """Write the table to a file, whole or not at all; raise `CompileError` if that fails."""
    root: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "table": record.encode(table, []),
    }
    with atomic_file(path) as file:
        file.write(dump(root))


def load(path: Path) -> CostTable:
    """Read a table from an untrusted file; raise `CompileError` unless it is one."""
    return read(read_bounded(path, _LARGEST_FILE, "cost table"), str(path))


def read(data: bytes, place: str) -> CostTable:
    """Return the table that `data` holds; raise `CompileError` at `place` unless it is one."""
    return _with_help(lambda: _read(data, place))


def _read(data: bytes, place: str) -> CostTable:
    root = parse(data, place)
    known = root.mapping()
    if known.get("format", root).value != FORMAT:
        raise fail("This is not a cost table", place)
    version = known.get("version", root).value
    if version != VERSION:
        found = str(version)[:20] if isinstance(version, int) else "unknown"
        raise fail(f"The cost table has version {found}; this hec reads version {VERSION}", place)
    table = record.decode(CostTable, root.fields("format", "version", "table")["table"], [])
    _check(table, root)
    return table


def _check(table: CostTable, root: Node) -> None:
    for backend, steps in (("seal", table.seal), ("openfhe", table.openfhe)):
        rings = [each.ring_degree for each in steps]
        powers = all(2 <= ring <= 2**17 and ring & (ring - 1) == 0 for ring in rings)
        if not powers or rings != sorted(set(rings)):
            message = "ring degrees must be rising powers of two, 131072 at most"
            raise damaged(message, f"{root.place}table.{backend}")
        for each in steps:
            _check_seconds(each, f"{root.place}table.{backend}, ring degree {each.ring_degree}")
    if not table.seal:
        raise damaged("no step of SEAL was measured", f"{root.place}table.seal")
    told = (table.name, table.machine.processor, table.machine.date, *table.machine.versions)
    if max(map(len, told)) > _LONGEST_TEXT or len(told) > _MOST_TEXTS:
        raise damaged("a text is too long", f"{root.place}table.machine")


def _check_seconds(steps: SealSteps | OpenfheSteps, place: str) -> None:
    for field in fields(steps):
        value = getattr(steps, field.name)
        if field.name == "ring_degree":
            continue
        numbers = [float(value)] if isinstance(value, int | float) else list(astuple(value))
        may_be_none = field.name in _SHARES  # of what is measured together, a fit leaves some out
        if not all(0 <= x <= _SLOWEST for x in numbers) or not (may_be_none or any(numbers)):
            message = f"{field.name} must be seconds from 0 to {_SLOWEST:.0f}, not all 0"
            raise damaged(message, place)


def _with_help(action: Callable[[], CostTable]) -> CostTable:
    """Every complaint has the same remedy."""
    try:
        return action()
    except CompileError as error:
        problems = (Problem(each.message, each.place, HELP) for each in error.problems)
        raise CompileError(*problems) from None


def _reference() -> CostTable:
    file = files("hec") / "costs" / "reference.json"
    return read(file.read_bytes(), "the reference machine's cost table")


REFERENCE: Final = _reference()
