"""Ciphertexts between OpenFHE and the bytes that client and server exchange.

Only residues travel. Level and scale are those of the plan, and the key's tag is local.
"""

from __future__ import annotations

from math import isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.runtime.openfhe_context import SCALE_TOLERANCE, OpenfheContext
from hec.runtime.openfhe_library import OPENFHE_ERRORS, fhe, reason
from hec.runtime.openfhe_wire import Bytes, Frame

POLYNOMIALS = 2
UNRELINEARIZED = 3  # polynomials of a product


class OpenfheCiphertexts:
    """Loads and saves ciphertexts of one key, known to this process by `tag`."""

    def __init__(self, context: OpenfheContext, tag: str) -> None:
        self.context, self._tag = context, tag
        self._kinds: dict[tuple[int, int], tuple[Frame, Any]] = {}  # by level and polynomials

    def save(self, x: Any) -> bytes:
        """Return the residues of a ciphertext."""
        if x.NumberCiphertextElements() != POLYNOMIALS:
            raise InvalidProgram("a ciphertext of OpenFHE is not relinearized")
        frame, _ = self._kind(self.context.level(x))
        return frame.pack(fhe.Serialize(x, fhe.BINARY))

    def save_at(self, x: Any, level: int, scale: float) -> bytes:
        """Return the residues of a ciphertext that must be at (level, scale)."""
        found = (self.context.level(x), float(x.GetScalingFactor()))
        if found[0] != level or not isclose(found[1], scale, rel_tol=SCALE_TOLERANCE):
            raise InvalidProgram(f"expected an output at {level}, {scale}, found {found}")
        return self.save(x)

    def load(self, data: Bytes, level: int, scale: float, place: str) -> Any:
        """Read an untrusted ciphertext; raise `CompileError` unless it is one at `level`.

        What OpenFHE's extension for Python reads runs that extension's slow code ever after, and
        so does all that is computed from it. A sum belongs to the library, like its left operand.
        """
        frame, zero = self._kind(level)
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
        return self._own(zero, x, scale)

    def residues(self, x: Any) -> NDArray[np.uint64]:
        """Return the (limbs, ring_degree) residues of a ciphertext, polynomial by polynomial."""
        frame, _ = self._kind(self.context.level(x), x.NumberCiphertextElements())
        return frame.residues(fhe.Serialize(x, fhe.BINARY))

    def of_residues(self, residues: NDArray[np.uint64], level: int, scale: float) -> Any:
        """Return the ciphertext at `level` that has these residues."""
        frame, zero = self._kind(level, len(residues) // (level + 1))
        x = fhe.DeserializeCiphertextString(frame.archive(residues), fhe.BINARY)
        return self._own(zero, x, scale)

    def _own(self, zero: Any, x: Any, scale: float) -> Any:
        x = self.context.fhe.EvalAdd(zero, x)
        x.SetKeyTag(self._tag)
        return self.context.typed(x, scale)

    def _kind(self, level: int, polynomials: int = POLYNOMIALS) -> tuple[Frame, Any]:
        """Return the frame of ciphertexts at `level`, and one whose residues are all zero.

        Both are under a key that protects nothing.
        """
        if (level, polynomials) not in self._kinds:
            context, parameters = self.context, self.context.parameters
            plain = context.encode(np.zeros(parameters.ring_slots), level, 1.0)
            x = context.fhe.Encrypt(context.fhe.KeyGen().secretKey, plain)
            x.SetSlots(parameters.ring_slots)
            if polynomials == UNRELINEARIZED:
                x = context.typed(context.fhe.EvalMultNoRelin(x, x), 1.0)
            archive = bytes(fhe.Serialize(x, fhe.BINARY))
            primes = parameters.primes[: level + 1]
            frame = Frame(archive, parameters.ring_degree, primes, polynomials)
            self._kinds[level, polynomials] = frame, context.fhe.EvalSub(x, x)
        return self._kinds[level, polynomials]


def unreadable(what: str, why: str, place: str) -> CompileError:
    """Return the error for bytes that are no `what` of the plan."""
    return fail(
        f"The {what} cannot be used: {why}", place, "send it again, made with the same plan"
    )
