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
from hec.compiler.series_tree import known_polynomials, split

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


def diagonal_bytes(instruction: LinearTransform, level: int, batch: int = 1) -> int:
    """Return the memory of the transform's encoded diagonals, for an operand at `level`.

    Weights that are one number for all slots are encoded as they are used, and never kept.
    """
    matrix = instruction.matrix
    if is_weighted_sum(instruction):
        return 0
    count = len(products(matrix, instruction.twin).first)
    return count * 2 * matrix.slots * batch * (level + 1) * LIMB_BYTES


def is_weighted_sum(instruction: LinearTransform) -> bool:
    """Tell whether every ciphertext is one element, of as many images as it has slots.

    Then there is nothing to rotate, and every diagonal is one number.
    """
    return instruction.matrix.slots == 1


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
    """Evaluation of one Chebyshev series of x; polynomials T_n are made once they are needed."""

    backend: Backend[Ciphertext, Plaintext]
    primes: tuple[int, ...]
    x: Ciphertext
    known: frozenset[int]  # n of the T_n that may be made
    constants: ConstantCache[Plaintext]
    made: dict[int, Ciphertext] = field(default_factory=dict)

    def at(self, coefficients: Array, level: int, scale: float) -> Ciphertext:
        """Return the series at exactly this level and scale.

        Terms are summed up one level above, before the rescaling that they share. The target scale
        is pushed down the tree: each quotient gets the one at which its product with T_n, and each
        scaled T_n, has the scale of the sum.
        """
        backend, full = self.backend, scale * self.primes[level + 1]
        depth = backend.level(self.x) - level
        parts, constant = _parts(coefficients, depth, self.known)
        total = _sum((self._term(n, part, level, full) for n, part in parts), backend)
        plain = self._encode(constant, level, scale)
        return backend.add_plain(backend.rescale(total), plain)

    def _term(self, n: int, part: Array, level: int, full: float) -> Ciphertext:
        """Return part * T_n, not rescaled, for an operand at `level` + 1; of the scale `full`."""
        backend = self.backend
        power = backend.mod_switch(self.polynomial(n), level + 1)
        scale = full / backend.scale(power)
        if len(part) == 1:
            return backend.multiply_plain(power, self._encode(part[0], level + 1, scale))
        return backend.multiply(power, self.at(part, level + 1, scale))

    def polynomial(self, n: int) -> Ciphertext:
        """Return T_n = 2 T_a T_b - T_(a - b), for a + b = n and a - b = 0 or 1."""
        if n == 1:
            return self.x
        if n not in self.made:
            half = self.polynomial(n - n // 2)
            self.made[n] = self._doubled(half) if n % 2 == 0 else self._odd(half, n // 2)
        return self.made[n]

    def _doubled(self, half: Ciphertext) -> Ciphertext:
        backend = self.backend
        square = backend.rescale(backend.multiply(half, half))
        minus_one = self._encode(np.asarray(-1.0), backend.level(square), backend.scale(square))
        return backend.add_plain(backend.add(square, square), minus_one)

    def _odd(self, larger: Ciphertext, smaller: int) -> Ciphertext:
        """Return 2 T_a T_b - T_1; all is one sum before the rescaling."""
        backend, level = self.backend, self.backend.level(larger)
        other = backend.mod_switch(self.polynomial(smaller), level)
        product = backend.multiply(larger, other)
        x = backend.mod_switch(self.x, level)
        minus = self._encode(np.asarray(-1.0), level, backend.scale(product) / backend.scale(x))
        twice = backend.add(product, product)
        return backend.rescale(backend.add(twice, backend.multiply_plain(x, minus)))

    def _encode(self, values: Array, level: int, scale: float) -> Plaintext:
        return self.constants.next(lambda: self.backend.encode(np.asarray(values), level, scale))


def _parts(
    coefficients: Array, depth: int, known: frozenset[int]
) -> tuple[list[tuple[int, Array]], Array]:
    """Return (n, part) that add up to the series as part * T_n, one at least, and the constant.

    A part of one coefficient is a number for each slot; zeros at its end are left out.
    """
    parts, rest = list[tuple[int, Array]](), coefficients
    while len(rest) > 1:
        degree = len(rest) - 1
        n = split(degree, depth, known)
        part, rest = (rest[n:], rest[:n]) if n == degree else _divide(rest, n)
        used = np.flatnonzero(part.reshape(len(part), -1).any(axis=1))
        if used.size:
            parts.append((n, part[: used[-1] + 1]))
    return parts or [(1, np.zeros_like(coefficients[:1]))], rest[0]


def _divide(coefficients: Array, n: int) -> tuple[Array, Array]:
    """Split a Chebyshev series of degree at most 2n into quotient * T_n + remainder.

    Uses T_(n+i) = 2 T_n T_i - T_(n-i).
    """
    high = coefficients[n:]
    quotient = np.concatenate([high[:1], 2 * high[1:]])
    remainder = coefficients[:n].copy()
    for i in range(1, len(high)):
        remainder[n - i] = remainder[n - i] - high[i]
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
    degree = len(coefficients) - 1
    series = _Series(backend, primes, x, known_polynomials(degree), constants)
    return series.at(coefficients, backend.level(x) - degree.bit_length(), instruction.scale)


def _sum(terms: Iterable[Ciphertext], backend: Backend[Ciphertext, Plaintext]) -> Ciphertext:
    """Add up new values, of which nobody else reads the first."""
    return reduce(backend.accumulate if isinstance(backend, Accumulates) else backend.add, terms)
