"""The service owner's side on OpenFHE: evaluation keys from a file, and ciphertexts as bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hec.compiler.plan_parts import ClientPart
from hec.runtime import key_file, keys
from hec.runtime.container import Blob
from hec.runtime.openfhe_backend import OpenfheBackend
from hec.runtime.openfhe_ciphertexts import OpenfheCiphertexts
from hec.runtime.openfhe_context import OpenfheContext


class OpenfheEvaluator:
    """A backend with one client's evaluation keys, in the context of the plan's parameters."""

    def __init__(
        self,
        part: ClientPart,
        evaluation_keys: bytes | Path,
        place: str,
        context: OpenfheContext | None = None,
    ) -> None:
        context = context or OpenfheContext(part.parameters)
        context.prepare_bootstrap()
        if isinstance(evaluation_keys, Path):
            held = key_file.read(evaluation_keys, part, context, place)
        else:
            with tempfile.TemporaryDirectory(prefix="hec-") as folder:  # mode 0700
                path = Path(folder) / keys.EVALUATION_FILE
                path.write_bytes(evaluation_keys)
                held = key_file.read(path, part, context, place)
        self.backend = OpenfheBackend(context, held)
        if not self.backend.has_exactly(part.keys):
            raise keys.wrong_keys(place)
        self._ciphertexts = OpenfheCiphertexts(context, held.tag)

    def load(self, data: Blob, level: int, scale: float, place: str) -> Any:
        """Read an untrusted ciphertext; raise `CompileError` unless it is one at `level`."""
        return self._ciphertexts.load(data, level, scale, place)

    def save(self, x: Any, level: int, scale: float) -> bytes:
        """Return the bytes of a ciphertext at (level, scale)."""
        return self._ciphertexts.save_at(x, level, scale)

    def copies(self) -> None:
        """OpenFHE has threads: its programs are not shared out among processes."""
