"""Which library plays client and server for a plan's backend; imported only when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hec.compiler.backend import Backend
from hec.compiler.errors import fail
from hec.compiler.plan_parts import ClientPart
from hec.runtime.container import Blob
from hec.runtime.exchange import Copies

Array = NDArray[np.float64]


class Secret(Protocol):
    """A secret key, and what can be done only with it."""

    def to_bytes(self) -> bytes:
        """Return the secret key: whoever has it reads everything."""
        ...

    def write_evaluation_keys(self, part: ClientPart, path: Path) -> None:
        """Make new evaluation keys, exactly those that `part` names, and write them to a file."""
        ...

    def encrypt(self, values: Array, level: int, scale: float, place: str) -> bytes:
        """Return a ciphertext of (ring_slots,) values; raise `CompileError` if they do not fit."""
        ...

    def decrypt(self, data: Blob, level: int, scale: float, place: str) -> Array:
        """Return the (ring_slots,) values of a ciphertext at (level, scale)."""
        ...


class Evaluator(Protocol):
    """A backend with one client's evaluation keys, and how its ciphertexts come and go."""

    @property
    def backend(self) -> Backend[Any, Any]:
        """Return what computes."""
        ...

    def load(self, data: Blob, level: int, scale: float, place: str) -> Any:
        """Read an untrusted ciphertext; raise `CompileError` unless it is one at (level, scale)."""
        ...

    def save(self, x: Any, level: int, scale: float) -> bytes:
        """Return the bytes of a ciphertext at (level, scale)."""
        ...

    def copies(self) -> Copies[Any] | None:
        """Return how ciphertexts get to worker processes; None if there are none."""
        ...


def secret(part: ClientPart, data: bytes | None = None, place: str = "") -> Secret:
    """Return the secret key in `data`, or a new one, for the plan of `part`.

    Raise `CompileError` at `place` unless `data` holds one.
    """
    match part.backend:
        case "tenseal":
            from hec.runtime.tenseal_client import TensealSecret
            from hec.runtime.tenseal_context import TensealContext

            seal = TensealContext(part.parameters)
            return TensealSecret.from_bytes(seal, data, place) if data else TensealSecret(seal)
        case "openfhe":
            from hec.runtime.openfhe_client import OpenfheSecret
            from hec.runtime.openfhe_context import OpenfheContext

            fhe = OpenfheContext(part.parameters)
            return OpenfheSecret.from_bytes(fhe, data, place) if data else OpenfheSecret(fhe)
    raise _unknown(part.backend)


def evaluator(part: ClientPart, evaluation_keys: bytes | Path, place: str) -> Evaluator:
    """Return what computes with these keys, bytes or a file of them.

    Raise `CompileError` at `place` unless they are exactly those of the plan of `part`.
    """
    match part.backend:
        case "tenseal":
            from hec.runtime.tenseal_server import TensealEvaluator

            return TensealEvaluator(part, evaluation_keys, place)
        case "openfhe":
            from hec.runtime.openfhe_server import OpenfheEvaluator

            return OpenfheEvaluator(part, evaluation_keys, place)
    raise _unknown(part.backend)


def _unknown(backend: str) -> Exception:
    return fail(
        f"The plan is for the backend '{backend}', which this version of hec does not have",
        "plan",
        "compile the model again with this version of hec",
    )
