"""How much memory the ciphertexts of a run on SEAL take at most.

SEAL keeps what it frees, for the next object of just the same size; so every level has its own
peak, and they add up. They are found by running the kernels on objects that know when they die.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from numpy import float64
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler import kernels
from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    Add,
    AddPlain,
    Bootstrap,
    Input,
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
from hec.compiler.liveness import last_uses
from hec.compiler.typing_rules import infer_types

_PAIR, _PRODUCT = 2, 3  # polynomials of a ciphertext; a product keeps the room of its third


def live_bytes(program: Program) -> int:
    """Return the bytes of ciphertexts, and of what SEAL needs besides, at every level's peak."""
    pool = _Pool()
    _walk(program, infer_types(program), pool)
    limb = program.parameters.ring_degree * LIMB_BYTES
    held = sum(count * limbs * limb for limbs, count in pool.most.items())
    # Source: SEAL 4.1, `switch_key_inplace` and `apply_galois_inplace`.
    return held + sum((4 * limbs + 2) * limb for limbs in pool.switched)


class _Pool:
    """Polynomials alive, and the most that were alive at once, by limbs."""

    def __init__(self) -> None:
        self.alive: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.switched: set[int] = set()  # limbs of ciphertexts that were rotated or multiplied

    def take(self, limbs: int, polynomials: int) -> None:
        self.alive[limbs] += polynomials
        self.most[limbs] = max(self.most[limbs], self.alive[limbs])


class _Held:
    """A ciphertext that takes memory as long as somebody refers to it."""

    __slots__ = ("level", "polynomials", "pool", "scale")

    def __init__(self, pool: _Pool, level: int, scale: float, polynomials: int = _PAIR) -> None:
        self.pool, self.level, self.scale, self.polynomials = pool, level, scale, polynomials
        pool.take(level + 1, polynomials)

    def __del__(self) -> None:
        self.pool.alive[self.level + 1] -= self.polynomials


class _Holding:
    """A backend that only takes and frees memory; a plaintext is its scale."""

    def __init__(self, pool: _Pool, primes: Sequence[int]) -> None:
        self._pool, self._primes = pool, primes

    def encode(self, values: NDArray[float64], level: int, scale: float) -> float:
        return scale

    def rotate(self, x: _Held, steps: int) -> _Held:
        self._pool.switched.add(x.level + 1)
        return _Held(self._pool, x.level, x.scale)

    def multiply_plain(self, x: _Held, y: float) -> _Held:
        return _Held(self._pool, x.level, x.scale * y)

    def add_plain(self, x: _Held, y: float) -> _Held:
        return _Held(self._pool, x.level, x.scale)

    def add(self, x: _Held, y: _Held) -> _Held:
        return _Held(self._pool, x.level, x.scale)

    def multiply(self, x: _Held, y: _Held) -> _Held:
        self._pool.switched.add(x.level + 1)
        return _Held(self._pool, x.level, x.scale * y.scale, _PRODUCT)

    def rescale(self, x: _Held) -> _Held:
        return _Held(self._pool, x.level - 1, x.scale / self._primes[x.level])

    def mod_switch(self, x: _Held, level: int) -> _Held:
        return x if level == x.level else _Held(self._pool, level, x.scale)

    def level(self, x: _Held) -> int:
        return x.level

    def scale(self, x: _Held) -> float:
        return x.scale


def _walk(program: Program, types: Sequence[ValueType], pool: _Pool) -> None:
    """Run as `runtime.executor` does: inputs first, every value until its last use."""
    backend, values = _Holding(pool, program.parameters.primes), dict[int, list[_Held]]()
    outputs: list[list[_Held]] = []
    for position, instruction in enumerate(program.instructions):
        if isinstance(instruction, Input):
            kind = types[position]
            values[position] = [_Held(pool, kind.level, kind.scale) for _ in range(kind.blocks)]
    pairs = zip(program.instructions, last_uses(program), strict=True)
    for position, (instruction, released) in enumerate(pairs):
        if isinstance(instruction, Output):
            outputs.append(values[instruction.operand])
        elif not isinstance(instruction, Input):
            values[position] = _step(program, position, values, backend)
        for value in released:
            values.pop(value, None)


def _step(
    program: Program, position: int, values: Mapping[int, list[_Held]], backend: _Holding
) -> list[_Held]:
    instruction = program.instructions[position]
    match instruction:
        case LinearTransform():
            x = values[instruction.operand]
            encoded = kernels.encode_linear(
                instruction, backend, x[0].level, _scale_of(instruction)
            )
            return kernels.apply_linear(x, encoded, backend)
        case RotateSum():
            x, steps = values[instruction.operand], instruction.steps
            return [kernels.apply_rotate_sum(block, steps, backend) for block in x]
        case AddPlain():
            return [backend.add_plain(block, 1.0) for block in values[instruction.operand]]
        case Add() | Multiply():
            combine = backend.add if isinstance(instruction, Add) else backend.multiply
            pairs = zip(values[instruction.left], values[instruction.right], strict=True)
            return [combine(left, right) for left, right in pairs]
        case Polynomial():
            return _polynomial(program, instruction, values[instruction.operand], backend)
        case Rescale():
            return [backend.rescale(block) for block in values[instruction.operand]]
        case ModSwitch():
            x = values[instruction.operand]
            return [backend.mod_switch(block, instruction.level) for block in x]
        case Bootstrap() | Input() | Output():
            return []  # SEAL has none of the first; `_walk` deals with the others
        case _:
            assert_never(instruction)


def _polynomial(
    program: Program, instruction: Polynomial, x: Sequence[_Held], backend: _Holding
) -> list[_Held]:
    primes = program.parameters.primes
    return [
        kernels.apply_polynomial(
            block, instruction, number, backend, primes, kernels.ConstantCache()
        )
        for number, block in enumerate(x)
    ]


def _scale_of(instruction: LinearTransform) -> kernels.Maker[float]:
    """Return what makes plaintexts without encoding: only their scale is asked for."""
    return lambda encode: lambda: instruction.plain_scale
