"""Ciphertexts between OpenFHE and the bytes that client and server exchange.

Only residues travel. Level and scale are those of the plan, and the key's tag is local.
"""

from __future__ import annotations

from math import isclose
from typing import Any

import numpy as np

from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.runtime.openfhe_context import SCALE_TOLERANCE, OpenfheContext
from hec.runtime.openfhe_library import OPENFHE_ERRORS, fhe, reason
from hec.runtime.openfhe_wire import Bytes, Frame

POLYNOMIALS = 2


class OpenfheCiphertexts:
    """Loads and saves ciphertexts of one key, known to this process by `tag`."""

    def __init__(self, context: OpenfheContext, tag: str) -> None:
        self.context, self._tag = context, tag
        self._frames: dict[int, Frame] = {}  # by level

    def save(self, x: Any) -> bytes:
        """Return the residues of a ciphertext."""
        if x.NumberCiphertextElements() != POLYNOMIALS:
            raise InvalidProgram("a ciphertext of OpenFHE is not relinearized")
        return self._frame(self.context.level(x)).pack(fhe.Serialize(x, fhe.BINARY))

    def save_at(self, x: Any, level: int, scale: float) -> bytes:
        """Return the residues of a ciphertext that must be at (level, scale)."""
        found = (self.context.level(x), float(x.GetScalingFactor()))
        if found[0] != level or not isclose(found[1], scale, rel_tol=SCALE_TOLERANCE):
            raise InvalidProgram(f"expected an output at {level}, {scale}, found {found}")
        return self.save(x)

    def load(self, data: Bytes, level: int, scale: float, place: str) -> Any:
        """Read an untrusted ciphertext; raise `CompileError` unless it is one at `level`."""
        frame = self._frame(level)
        if len(data) != frame.size:
            message = f"expected {frame.size} bytes for level {level}, found {len(data)}"
            raise unreadable("ciphertext", message, place)
        archive = frame.unpack(data)
        if archive is None:
            raise unreadable("ciphertext", "its residues exceed the primes of the plan", place)
        if not np.frombuffer(data, np.uint8)[frame.size // POLYNOMIALS :].any():
            raise unreadable("ciphertext", "it is not encrypted", place)
        try:
            x = fhe.DeserializeCiphertextString(archive, fhe.BINARY)
        except OPENFHE_ERRORS as error:
            raise unreadable("ciphertext", reason(error), place) from None
        x.SetKeyTag(self._tag)
        return self.context.typed(x, scale)

    def _frame(self, level: int) -> Frame:
        if level not in self._frames:
            parameters = self.context.parameters
            self._frames[level] = Frame(
                self._archive(level),
                parameters.ring_degree,
                parameters.primes[: level + 1],
                POLYNOMIALS,
            )
        return self._frames[level]

    def _archive(self, level: int) -> bytes:
        """Return the archive of a ciphertext of nothing, under a key that protects nothing."""
        context, slots = self.context, self.context.parameters.slots
        plain = context.encode(np.zeros(slots), level, 1.0)
        x = context.fhe.Encrypt(context.fhe.KeyGen().secretKey, plain)
        x.SetSlots(slots)
        return bytes(fhe.Serialize(x, fhe.BINARY))


def unreadable(what: str, why: str, place: str) -> CompileError:
    """Return the error for bytes that are no `what` of the plan."""
    return fail(
        f"The {what} cannot be used: {why}", place, "send it again, made with the same plan"
    )
