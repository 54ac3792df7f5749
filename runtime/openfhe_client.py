"""The data owner's side on OpenFHE: the one place that holds a secret key."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import cached_property
from math import log2
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.compiler.plan_parts import ClientPart
from hec.runtime import key_file, openfhe_keys
from hec.runtime.openfhe_ciphertexts import OpenfheCiphertexts, unreadable
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_library import OPENFHE_ERRORS, fhe, reason
from hec.runtime.openfhe_primes import chain
from hec.runtime.openfhe_wire import Frame, packed_bytes

Array = NDArray[np.float64]
_TAG_BYTES: Final = 16


class OpenfheSecret:
    """A secret key, and what can be done only with it; generated anew unless given."""

    def __init__(self, context: OpenfheContext, secret_key: Any = None) -> None:
        self.context = context
        self._secret_key = secret_key or new_secret_key(context)
        self._ciphertexts = OpenfheCiphertexts(context, self._secret_key.GetKeyTag())

    @classmethod
    def from_bytes(cls, context: OpenfheContext, data: bytes, place: str) -> OpenfheSecret:
        """Read the secret key that `to_bytes` wrote; raise `CompileError` for anything else."""
        archive = _frame(context).unpack(data)
        if archive is None:
            raise unreadable("secret key", "it is not one for these parameters", place)
        key = fhe.DeserializePrivateKeyString(archive, fhe.BINARY)
        key.SetKeyTag(secrets.token_hex(_TAG_BYTES))
        return cls(context, key)

    def to_bytes(self) -> bytes:
        """Return the secret key: whoever has it reads everything."""
        return _frame(self.context).pack(fhe.Serialize(self._secret_key, fhe.BINARY))

    def write_evaluation_keys(self, part: ClientPart, path: Path) -> None:
        """Make new evaluation keys, write them to a file, and forget them.

        OpenFHE holds all of them in memory while it writes. Raise `CompileError` if the file cannot
        be written.
        """
        tag = secrets.token_hex(_TAG_BYTES)  # keys of their own, whoever else uses this process
        own = self._secret_key.GetKeyTag()
        self._secret_key.SetKeyTag(tag)
        try:
            self._generate(part)
            key_file.write(path, part, tag)
        finally:
            self._secret_key.SetKeyTag(own)
            openfhe_keys.forget(tag)

    def _generate(self, part: ClientPart) -> None:
        context, manifest, how = self.context.fhe, part.keys, part.parameters.bootstrapping
        try:
            if manifest.relinearization or manifest.bootstrapping:
                context.EvalMultKeyGen(self._secret_key)
            if manifest.bootstrapping and how is not None:
                self.context.prepare_bootstrap()
                context.EvalBootstrapKeyGen(self._secret_key, how.slots)
            if manifest.rotations:
                turns = [step * part.parameters.batch for step in manifest.rotations]
                context.EvalRotateKeyGen(self._secret_key, turns)
        except OPENFHE_ERRORS as error:
            raise InvalidProgram(f"OpenFHE cannot make evaluation keys: {reason(error)}") from error

    def encrypt(self, values: Array, level: int, scale: float, place: str) -> bytes:
        """Return the ciphertext of (ring_slots,) values; raise `CompileError` if they do not fit.

        With the secret key a fresh ciphertext has less noise than with a public one.
        """
        largest = float(np.abs(values).max())
        if not self.context.fits(largest, level, scale):
            raise _too_large(largest, place)
        plain = self.context.encode(np.ascontiguousarray(values), level, scale)
        fresh = self.context.typed(self.context.fhe.Encrypt(self._secret_key, plain), scale)
        return self._ciphertexts.save(fresh)

    def decrypt(self, data: bytes | memoryview, level: int, scale: float, place: str) -> Array:
        """Return the (ring_slots,) values of a ciphertext at (level, scale)."""
        if level == 0 and self._at_level_0 is not None:
            return self._at_level_0.decrypt(data, level, scale, place)
        x = self._ciphertexts.load(data, level, scale, place)
        try:
            plain = self.context.fhe.Decrypt(self._secret_key, x)
            plain.SetLength(self.context.parameters.ring_slots)
            values = np.array(plain.GetRealPackedValue())
        except OPENFHE_ERRORS as error:
            raise unreadable("ciphertext", reason(error), place) from None
        if self.context.parameters.bootstrapping is None:
            values *= self.context.nominal(level) / scale  # OpenFHE took its own for the true one
        return values

    @cached_property
    def _at_level_0(self) -> OpenfheSecret | None:
        """The same key modulo the first prime alone, in a context that expects a scale of its size.

        OpenFHE refuses to decode errors of the size of a scaling prime, as those of a product are
        that is not rescaled. None where it need not, or has no such context.
        """
        parameters = self.context.parameters
        if parameters.bootstrapping or parameters.top_level == 0:
            return None
        first = parameters.primes[:1]
        primes, special = chain(parameters.ring_degree, [round(log2(first[0]))])
        if primes != first:
            return None
        lowest = replace(parameters, primes=first, special_primes=special, digits=1)
        key = self.to_bytes()[: packed_bytes(parameters.ring_degree, first, 1)]
        return OpenfheSecret.from_bytes(OpenfheContext(lowest), key, "secret key")


def new_secret_key(context: OpenfheContext) -> Any:
    """Return a new secret key, with a tag of its own."""
    key = context.fhe.KeyGen().secretKey
    key.SetKeyTag(secrets.token_hex(_TAG_BYTES))
    return key


def _frame(context: OpenfheContext) -> Frame:
    archive = bytes(fhe.Serialize(context.fhe.KeyGen().secretKey, fhe.BINARY))
    parameters = context.parameters
    return Frame(archive, parameters.ring_degree, parameters.primes, 1)


def _too_large(largest: float, place: str) -> CompileError:
    return fail(
        f"The values cannot be encrypted (the modulus is too small): up to {largest:.3g} times the"
        " expected range",
        place,
        "scale the input as in calibration",
    )
