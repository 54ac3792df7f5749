"""The data owner's side on Microsoft SEAL: the one place that holds a secret key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi as seal

from hec.compiler.atomic_file import atomic_file
from hec.compiler.errors import CompileError, fail
from hec.compiler.key_manifest import KEYS_IN_GROUP, KeyManifest
from hec.compiler.plan_parts import ClientPart
from hec.runtime import keys
from hec.runtime.tenseal_context import SEAL_ERRORS, TensealContext, to_bytes

Array = NDArray[np.float64]


class TensealSecret:
    """A secret key, and what can be done only with it; generated anew unless given."""

    def __init__(self, context: TensealContext, secret_key: seal.SecretKey | None = None) -> None:
        self.context = context
        if secret_key is None:
            secret_key = seal.KeyGenerator(context.seal).secret_key()
        self._secret_key = secret_key
        self._encryptor = seal.Encryptor(context.seal, secret_key)
        self._decryptor = seal.Decryptor(context.seal, secret_key)
        self._encoder = seal.CKKSEncoder(context.seal)

    @classmethod
    def from_bytes(cls, context: TensealContext, data: bytes, place: str) -> TensealSecret:
        """Read the secret key that `to_bytes` wrote; raise `CompileError` for anything else."""
        return cls(context, context.load(seal.SecretKey(), data, "secret key", place))

    def to_bytes(self) -> bytes:
        """Return the secret key: whoever has it reads everything."""
        return to_bytes(self._secret_key, self.context.key_bytes(1))

    def evaluation_keys(self, manifest: KeyManifest) -> tuple[bytes, tuple[bytes, ...]]:
        """Return new relinearization and Galois keys, exactly those of `manifest`; b"" for none.

        Half of every key is random, and saved as the seed that it grows from. Galois keys come in
        groups, so that no more than one group is in memory twice.
        """
        generator = seal.KeyGenerator(self.context.seal, self._secret_key)
        relin = b""
        if manifest.relinearization:
            relin = to_bytes(generator.create_relin_keys(), self.context.key_bytes(1))
        elements = [self.context.galois_element(steps) for steps in manifest.rotations]
        galois = tuple(
            to_bytes(generator.create_galois_keys(group), self.context.key_bytes(len(group)))
            for group in (
                elements[start : start + KEYS_IN_GROUP]
                for start in range(0, len(elements), KEYS_IN_GROUP)
            )
        )
        return relin, galois

    def write_evaluation_keys(self, part: ClientPart, path: Path) -> None:
        """Write new evaluation keys, exactly those that `part` names."""
        relin, galois = self.evaluation_keys(part.keys)
        with atomic_file(path) as file:
            file.write(keys.pack_evaluation_keys(part, relin, galois))

    def encrypt(self, values: Array, level: int, scale: float, place: str) -> bytes:
        """Return the ciphertext of (ring_slots,) values; raise `CompileError` if they do not fit.

        With the secret key a fresh ciphertext has about 7 bits less noise than with a public one,
        and half of it travels as a seed.
        """
        plain = seal.Plaintext()
        try:
            self._encoder.encode(values.tolist(), self.context.parms_ids[level], scale, plain)
        except SEAL_ERRORS as error:
            raise _too_large(values, error, place) from None
        fresh = self._encryptor.encrypt_symmetric(plain)
        return to_bytes(fresh, self.context.ciphertext_bytes(level))

    def decrypt(self, data: bytes | memoryview, level: int, scale: float, place: str) -> Array:
        """Return the (ring_slots,) values of a ciphertext at (level, scale)."""
        ciphertext = self.context.load_ciphertext(data, level, scale, place)
        plain = seal.Plaintext()
        self._decryptor.decrypt(ciphertext, plain)
        return np.array(self._encoder.decode_double(plain))


def _too_large(values: Array, error: Exception, place: str) -> CompileError:
    largest = float(np.abs(values).max())
    return fail(
        f"The values cannot be encrypted ({error}): up to {largest:.3g} times the expected range",
        place,
        "scale the input as in calibration",
    )
