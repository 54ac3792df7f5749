"""The SEAL context of a plan's parameters, and the bytes of the objects that live in it.

SEAL writes and reads through a file path only, so objects pass through a private folder, in memory
where the system offers one. SEAL's own check of the security level stays on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import isclose
from pathlib import Path
from typing import Final, Protocol, TypeVar

from tenseal import sealapi as seal

from hec.compiler.ckks_ir import LIMB_BYTES, EncryptionParameters
from hec.compiler.errors import CompileError, fail

SEAL_ERRORS: Final = (RuntimeError, ValueError, IndexError, MemoryError, TypeError, OverflowError)
SCALE_TOLERANCE: Final = 1e-9  # relative; as in the typing rules
MEMORY_FOLDER: Final = Path("/dev/shm")
SLACK_BYTES: Final = 2**16  # headers, and what compression adds in the worst case

ParmsId = list[int]


class _Saved(Protocol):
    def save(self, path: str, /) -> None: ...


class _Loaded(Protocol):
    def load(self, context: seal.SEALContext, path: str, /) -> None: ...


LoadedObject = TypeVar("LoadedObject", bound=_Loaded)


class TensealContext:
    """A SEAL context with the primes of `parameters`, and the parms_id of every level.

    `insecure_for_tests` switches SEAL's security check off, for rings too small for real data.
    Raise `CompileError` if SEAL refuses the parameters.
    """

    def __init__(
        self, parameters: EncryptionParameters, *, insecure_for_tests: bool = False
    ) -> None:
        self.parameters = parameters
        self.seal = _make_context(parameters, insecure_for_tests)
        self.parms_ids: list[ParmsId] = []  # by level
        data = self.seal.first_context_data()
        while data is not None:
            self.parms_ids.insert(0, data.parms_id())
            data = data.next_context_data()

    def galois_element(self, steps: int) -> int:
        """Return the automorphism that rotates the slots of images left by `steps`, any sign."""
        turn = steps % self.parameters.slots * self.parameters.batch
        return pow(3, turn, 2 * self.parameters.ring_degree)

    def ciphertext_bytes(self, level: int) -> int:
        """Return the most bytes that a saved ciphertext at `level` takes."""
        limbs = 2 * self.parameters.ring_degree * (level + 1)
        return _with_slack(limbs * LIMB_BYTES)

    def key_bytes(self, keys: int) -> int:
        """Return the most bytes that `keys` saved relinearization or rotation keys take."""
        digits = len(self.parameters.primes)
        limbs = 2 * self.parameters.ring_degree * (digits + 1) * digits
        return _with_slack(keys * limbs * LIMB_BYTES)

    def load_ciphertext(
        self, data: bytes | memoryview, level: int, scale: float, place: str
    ) -> seal.Ciphertext:
        """Read an untrusted ciphertext; raise `CompileError` unless it is one at (level, scale)."""
        if len(data) > self.ciphertext_bytes(level):
            raise _unreadable("ciphertext", f"{len(data)} bytes are too many", place)
        ciphertext = self.load(seal.Ciphertext(), data, "ciphertext", place)
        found = (ciphertext.size(), ciphertext.coeff_modulus_size() - 1)
        if found != (2, level) or ciphertext.parms_id() != self.parms_ids[level]:
            message = f"expected 2 polynomials at level {level}, found {found[0]} at {found[1]}"
            raise _unreadable("ciphertext", message, place)
        if not isclose(ciphertext.scale, scale, rel_tol=SCALE_TOLERANCE):
            message = f"expected scale {scale:.6g}, found {ciphertext.scale:.6g}"
            raise _unreadable("ciphertext", message, place)
        if ciphertext.is_transparent() or not ciphertext.is_ntt_form():
            raise _unreadable("ciphertext", "it is not encrypted", place)
        return ciphertext

    def load(
        self, empty: LoadedObject, data: bytes | memoryview, what: str, place: str
    ) -> LoadedObject:
        """Fill a new SEAL object from untrusted bytes; raise `CompileError` if SEAL refuses."""
        with _private_file(len(data)) as path:
            path.write_bytes(data)
            try:
                empty.load(self.seal, str(path))
            except SEAL_ERRORS as error:
                raise _unreadable(what, str(error), place) from None
        return empty


def to_bytes(saved: _Saved, size: int) -> bytes:
    """Return what SEAL saves, at most `size` bytes."""
    with _private_file(size) as path:
        saved.save(str(path))
        return path.read_bytes()


def _make_context(parameters: EncryptionParameters, insecure: bool) -> seal.SEALContext:
    levels = seal.SEC_LEVEL_TYPE
    security = {128: levels.TC128, 192: levels.TC192, 256: levels.TC256}
    try:
        chain = [seal.Modulus(p) for p in (*parameters.primes, *parameters.special_primes)]
        description = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        description.set_poly_modulus_degree(parameters.ring_degree)
        description.set_coeff_modulus(chain)
        level = levels.NONE if insecure else security[parameters.security]
        context = seal.SEALContext(description, True, level)
    except SEAL_ERRORS as error:
        raise _refused(str(error), parameters) from None
    except KeyError:
        raise _refused("no such security level", parameters) from None
    if not context.parameters_set():
        raise _refused(context.parameters_error_message(), parameters)
    if not context.using_keyswitching():
        raise _refused("a special prime is missing", parameters)
    return context


def _refused(reason: str, parameters: EncryptionParameters) -> CompileError:
    return fail(
        f"Microsoft SEAL refuses the encryption parameters: {reason}",
        f"ring degree {parameters.ring_degree}, {len(parameters.primes)} primes and a special one, "
        f"{parameters.modulus_bits:.0f} bits, {parameters.security}-bit security",
        "compile the model again with this version of hec",
    )


def _unreadable(what: str, reason: str, place: str) -> CompileError:
    return fail(
        f"The {what} cannot be used: {reason}", place, "send it again, made with the same plan"
    )


def _with_slack(size: int) -> int:
    return size + size // 64 + SLACK_BYTES


@contextmanager
def _private_file(size: int) -> Iterator[Path]:
    """Yield a path in a folder of mode 0700; in memory if four times `size` bytes are free."""
    with tempfile.TemporaryDirectory(prefix="hec-", dir=_folder(size)) as folder:
        yield Path(folder) / "object"


def _folder(size: int) -> Path | None:
    usable = os.access(MEMORY_FOLDER, os.W_OK | os.X_OK)
    if usable and shutil.disk_usage(MEMORY_FOLDER).free > 4 * size:
        return MEMORY_FOLDER
    return None
