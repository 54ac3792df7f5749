"""Expand the big operations of a Program into primitive steps over any backend.

The same expansion runs on ciphertexts, in the clear, and on the counters of the cost model, so that
what is priced, simulated and executed is one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import Generic, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hec.compiler.backend import Accumulates, Backend, Ciphertext, Hoists, Pairs, Plaintext
from hec.compiler.ckks_ir import LIMB_BYTES, LinearTransform, Polynomial
from hec.compiler.pairing import NONE, products
from hec.compiler.schedule import Split, steps

Array = NDArray[np.float64]


# From how a plaintext is encoded to how it is had: at once and kept, or when it is needed.
Maker: TypeAlias = Callable[[Callable[[], Plaintext]], Callable[[], Plaintext]]


def at_once(encode: Callable[[], Plaintext]) -> Callable[[], Plaintext]:
    """Encode now, and keep the plaintext."""
    plain = encode()
    return lambda: plain


@dataclass(frozen=True)
class Step(Generic[Plaintext]):
    """One diagonal: multiply input block `block`, rotated by `baby`, by `diagonal()`."""

    block: int
    baby: int
    diagonal: Callable[[], Plaintext]


@dataclass(frozen=True)
class EncodedLinear(Generic[Plaintext]):
    """A LinearTransform ready to run."""

    giants: tuple[dict[int, list[Step[Plaintext]]], ...]  # per output block: giant -> its steps
    twin: int = 0  # the operand becomes x + i rotate(x, twin) first; 0: it stays

    def in_order(self) -> list[Callable[[], Plaintext]]:
        """Return the diagonals in the order of their use."""
        return [
            step.diagonal for giants in self.giants for terms in giants.values() for step in terms
        ]


@runtime_checkable
class FusesLinear(Protocol[Ciphertext]):
    """A backend with a path of its own for whole matrices."""

    def linear_kernel(
        self, instruction: LinearTransform, level: int
    ) -> Callable[[list[Ciphertext]], list[Ciphertext]]:
        """Return the function from the operand's blocks to the result's."""
        ...


def diagonal_bytes(instruction: LinearTransform, level: int) -> int:
    """Return the memory of the transform's encoded diagonals, for an operand at `level`."""
    matrix = instruction.matrix
    count = len(products(matrix, instruction.twin).first)
    return count * 2 * matrix.slots * (level + 1) * LIMB_BYTES


def rotation_steps(instruction: LinearTransform) -> frozenset[int]:
    """Return the rotations (in [1, slots)) that the transform makes."""
    split = Split(instruction.baby_step, instruction.baby_start)
    index = products(instruction.matrix, instruction.twin).index
    return steps(index, split, instruction.matrix.slots) | ({instruction.twin} - {0})


def encode_linear(
    instruction: LinearTransform,
    backend: Backend[Ciphertext, Plaintext],
    level: int,
    make: Maker[Plaintext] = at_once,
) -> EncodedLinear[Plaintext]:
    """Return the transform of an operand at `level`; `make` decides when a diagonal is encoded.

    A backend that is not `Pairs` multiplies with one diagonal at a time.
    """
    matrix, scale = instruction.matrix, instruction.plain_scale
    split = Split(instruction.baby_step, instruction.baby_start)
    pairs: Pairs[Ciphertext, Plaintext] | None = backend if isinstance(backend, Pairs) else None
    twin = instruction.twin if pairs is not None else 0
    terms = products(matrix, twin)
    giant, baby = split.apply(terms.index[:, 2].astype(np.int64))

    def encoded(term: int, turn: int) -> Callable[[], Plaintext]:
        def encode() -> Plaintext:
            first, second = int(terms.first[term]), int(terms.second[term])
            real = np.roll(matrix.diagonal(first), turn)
            if second == NONE or pairs is None:
                return backend.encode(real, level, scale)
            imaginary = -np.roll(matrix.diagonal(second), turn)
            return pairs.encode_pair(real, imaginary, level, scale)

        return make(encode)

    giants: tuple[dict[int, list[Step[Plaintext]]], ...]
    giants = tuple({} for _ in range(matrix.out_blocks))
    for term, (out_block, in_block, _) in enumerate(terms.index.tolist()):
        turn = int(giant[term]) % matrix.slots
        step = Step(in_block, int(baby[term]) % matrix.slots, encoded(term, turn))
        giants[out_block].setdefault(turn, []).append(step)
    return EncodedLinear(giants, twin)


def apply_linear(
    blocks: list[Ciphertext],
    encoded: EncodedLinear[Plaintext],
    backend: Backend[Ciphertext, Plaintext],
) -> list[Ciphertext]:
    """Return the blocks of matrix @ operand, not rescaled; with a twin, as their real parts."""
    if encoded.twin and isinstance(backend, Pairs):
        turned_blocks = [backend.rotate(x, encoded.twin) for x in blocks]
        pairs = zip(blocks, turned_blocks, strict=True)
        blocks = [backend.add(x, backend.times_i(turned)) for x, turned in pairs]
    babies = _babies(blocks, encoded, backend)

    def turned(turn: int, steps: list[Step[Plaintext]]) -> Ciphertext:
        total = _sum(
            (backend.multiply_plain(babies[s.block, s.baby], s.diagonal()) for s in steps), backend
        )
        return backend.rotate(total, turn) if turn else total

    return [
        _sum((turned(turn, steps) for turn, steps in giants.items()), backend)
        for giants in encoded.giants
    ]


def _babies(
    blocks: list[Ciphertext],
    encoded: EncodedLinear[Plaintext],
    backend: Backend[Ciphertext, Plaintext],
) -> dict[tuple[int, int], Ciphertext]:
    """Return every rotation of a block that a diagonal is multiplied with."""
    wanted: dict[int, set[int]] = {}
    for giants in encoded.giants:
        for terms in giants.values():
            for step in terms:
                wanted.setdefault(step.block, set()).add(step.baby)
    babies: dict[tuple[int, int], Ciphertext] = {}
    for block, turns in wanted.items():
        x, order = blocks[block], sorted(turns - {0})
        if isinstance(backend, Hoists):
            made = backend.rotate_each(x, order)
        else:
            made = [backend.rotate(x, turn) for turn in order]
        babies.update(((block, turn), y) for turn, y in zip(order, made, strict=True))
        babies[block, 0] = x
    return babies


def apply_rotate_sum(
    x: Ciphertext, steps: Iterable[int], backend: Backend[Ciphertext, Plaintext]
) -> Ciphertext:
    """Return x + rotate(x, step), for each step in turn."""
    for step in steps:
        x = backend.add(x, backend.rotate(x, step))
    return x


@dataclass
class ConstantCache(Generic[Plaintext]):
    """The encoded constants of one polynomial, in the order in which its evaluation asks."""

    plains: list[Plaintext] = field(default_factory=list)
    position: int = 0

    def next(self, make: Callable[[], Plaintext]) -> Plaintext:
        """Return the next constant; `make` is called only the first time round."""
        if self.position == len(self.plains):
            self.plains.append(make())
        self.position += 1
        return self.plains[self.position - 1]


@dataclass
class _Series(Generic[Ciphertext, Plaintext]):
    """Evaluation of one Chebyshev series; powers[j] is T of degree 2**j."""

    backend: Backend[Ciphertext, Plaintext]
    primes: tuple[int, ...]
    powers: list[Ciphertext]
    constants: ConstantCache[Plaintext]

    def at(self, coefficients: Array, level: int, scale: float) -> Ciphertext:
        """Return the series at exactly this level and scale.

        A series of degree 2n - 1 is quotient * T_n + remainder, both of degree n - 1. The target
        scale is pushed down the tree, so that every addition meets equal scales.
        """
        backend, degree = self.backend, len(coefficients) - 1
        if degree <= 1:
            return self._line(coefficients, level, scale)
        half = (degree).bit_length() - 1
        power = backend.mod_switch(self.powers[half], level + 1)
        quotient, remainder = _divide(coefficients, 1 << half)
        above = scale * self.primes[level + 1] / backend.scale(power)
        product = backend.multiply(power, self.at(quotient, level + 1, above))
        return backend.add(backend.rescale(product), self.at(remainder, level, scale))

    def _line(self, coefficients: Array, level: int, scale: float) -> Ciphertext:
        backend, x = self.backend, self.powers[0]
        slope, constant = coefficients[1], coefficients[0]
        x = backend.mod_switch(x, level + 1)
        full = scale * self.primes[level + 1]
        plain_scale = full / backend.scale(x)
        plain = self._encode(slope, level + 1, plain_scale)
        product = backend.rescale(backend.multiply_plain(x, plain))
        return backend.add_plain(product, self._encode(constant, level, scale))

    def _encode(self, values: Array, level: int, scale: float) -> Plaintext:
        return self.constants.next(lambda: self.backend.encode(np.asarray(values), level, scale))


def _divide(coefficients: Array, n: int) -> tuple[Array, Array]:
    """Split a Chebyshev series of degree < 2n into quotient * T_n + remainder.

    Uses T_(n+i) = 2 T_n T_i - T_(n-i).
    """
    high = coefficients[n:]
    quotient = np.concatenate([high[:1], 2 * high[1:]])
    remainder = coefficients[:n].copy()
    for i in range(1, len(high)):
        remainder[n - i] = remainder[n - i] - high[i]
    if len(quotient) == 1:
        quotient = np.concatenate([quotient, np.zeros_like(quotient)])
    return quotient, remainder


def apply_polynomial(
    x: Ciphertext,
    instruction: Polynomial,
    block: int,
    backend: Backend[Ciphertext, Plaintext],
    primes: tuple[int, ...],
    constants: ConstantCache[Plaintext],
) -> Ciphertext:
    """Return the Chebyshev series at one ciphertext, at the instruction's scale.

    Takes ceil(log2(degree + 1)) levels. `constants` serves one instruction, level and block only.
    """
    coefficients = instruction.coefficients
    if coefficients.ndim > 1:
        coefficients = coefficients[:, block]
    constants.position = 0
    depth = (len(coefficients) - 1).bit_length()
    powers = [x]
    for _ in range(depth - 1):
        powers.append(_doubled(powers[-1], backend, constants))
    series = _Series(backend, primes, powers, constants)
    return series.at(coefficients, backend.level(x) - depth, instruction.scale)


def _doubled(
    x: Ciphertext, backend: Backend[Ciphertext, Plaintext], constants: ConstantCache[Plaintext]
) -> Ciphertext:
    """Return T_2n = 2 T_n^2 - 1."""
    square = backend.rescale(backend.multiply(x, x))
    level, scale = backend.level(square), backend.scale(square)
    minus_one = constants.next(lambda: backend.encode(np.asarray(-1.0), level, scale))
    return backend.add_plain(backend.add(square, square), minus_one)


def _sum(terms: Iterable[Ciphertext], backend: Backend[Ciphertext, Plaintext]) -> Ciphertext:
    """Add up new values, of which nobody else reads the first."""
    return reduce(backend.accumulate if isinstance(backend, Accumulates) else backend.add, terms)
