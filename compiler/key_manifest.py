"""Which evaluation keys a Program uses: the client makes these, no more and no fewer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hec.compiler.ckks_ir import (
    Bootstrap,
    Instruction,
    LinearTransform,
    Multiply,
    Polynomial,
    Program,
    RotateSum,
)
from hec.compiler.kernels import rotation_steps

KEYS_IN_GROUP: Final = 8  # rotation keys of SEAL that travel, and are unpacked, together


@dataclass(frozen=True)
class KeyManifest:
    """Rotation keys by left step, and whether products are relinearized.

    With bootstrapping no rotation is named: the keys of a bootstrap compose to all of them.
    """

    rotations: tuple[int, ...]  # in [1, slots), sorted, each once
    relinearization: bool
    bootstrapping: bool = False  # and those of the bootstrap, which the library names


def needed_keys(program: Program) -> KeyManifest:
    """Return exactly the keys that the kernels ask a backend for when they run `program`."""
    if any(isinstance(x, Bootstrap) for x in program.instructions):
        return KeyManifest((), relinearization=True, bootstrapping=True)
    slots = program.parameters.slots
    steps = {step % slots for x in program.instructions for step in rotations_of(x)}
    relinearization = any(_has_product(x) for x in program.instructions)
    return KeyManifest(tuple(sorted(steps - {0})), relinearization)


def rotations_of(instruction: Instruction) -> Iterable[int]:
    """Return the rotation steps that the kernel of `instruction` asks for."""
    match instruction:
        case LinearTransform():
            return rotation_steps(instruction)
        case RotateSum():
            return instruction.steps
        case _:
            return ()


def _has_product(instruction: Instruction) -> bool:
    match instruction:
        case Multiply():
            return True
        case Polynomial():
            return len(instruction.coefficients) > 2  # a line needs no product of ciphertexts
        case _:
            return False
