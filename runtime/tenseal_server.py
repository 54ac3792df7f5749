"""The service owner's side on Microsoft SEAL: evaluation keys, and ciphertexts as bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tenseal import sealapi as seal

from hec.compiler.atomic_file import read_bounded
from hec.compiler.plan_parts import ClientPart
from hec.runtime import keys
from hec.runtime.allocator import give_back_freed_memory
from hec.runtime.container import Blob
from hec.runtime.tenseal_backend import TensealBackend
from hec.runtime.tenseal_context import TensealContext, to_bytes
from hec.runtime.tenseal_copies import Copies

_HEADER_BYTES: Final = 2**20  # at most


class TensealEvaluator:
    """A backend with one client's evaluation keys."""

    def __init__(self, part: ClientPart, evaluation_keys: bytes | Path, place: str) -> None:
        self._context = TensealContext(part.parameters)
        if isinstance(evaluation_keys, bytes):
            self.backend = _backend(part, self._context, evaluation_keys, place)
        else:  # read where nothing keeps it longer than it takes
            self.backend = _backend(part, self._context, self._read(part, evaluation_keys), place)
        give_back_freed_memory()

    def _read(self, part: ClientPart, path: Path) -> bytes:
        limit = self._context.key_bytes(len(part.keys.rotations) + 1) + _HEADER_BYTES
        return read_bounded(path, limit, "evaluation keys")

    def load(self, data: Blob, level: int, scale: float, place: str) -> seal.Ciphertext:
        """Read an untrusted ciphertext; raise `CompileError` unless it is one at (level, scale)."""
        return self._context.load_ciphertext(data, level, scale, place)

    def save(self, x: seal.Ciphertext, level: int, scale: float) -> bytes:
        """Return the bytes of a ciphertext at (level, scale)."""
        return to_bytes(x, self._context.ciphertext_bytes(level))

    def copies(self) -> Copies:
        """Return how ciphertexts get to worker processes."""
        return Copies(self._context)


def _backend(part: ClientPart, context: TensealContext, data: bytes, place: str) -> TensealBackend:
    relin_bytes, galois_bytes = keys.unpack_evaluation_keys(part, data, place)
    relin = None
    if part.keys.relinearization:
        relin = context.load(seal.RelinKeys(), relin_bytes, "relinearization key", place)
    galois = tuple(
        context.load(seal.GaloisKeys(), group, "rotation keys", place) for group in galois_bytes
    )
    backend = TensealBackend(context, relin, galois)
    if not backend.has_exactly(part.keys):
        raise keys.wrong_keys(place)
    return backend
