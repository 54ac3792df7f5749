"""Copy SEAL ciphertexts from one process to another, through files in memory.

TenSEAL saves with compression only, which takes as long as a rotation; it loads what is not
compressed in a thirtieth of that. So the sender writes SEAL's format itself, header and then limbs,
if it finds where the limbs are: at the start it loads a ciphertext of known numbers, and looks for
them behind the pointers of the Python object. Memory is read through /proc/self/mem, where a wrong
address is an error and no crash. Where anything is not as expected, ciphertexts are saved.

Source of the format: SEAL 4.1, `Ciphertext::save_members`, `DynArray::save_members`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Final

import numpy as np
from tenseal import sealapi as seal

from hec.compiler.ckks_ir import LIMB_BYTES
from hec.compiler.errors import InvalidProgram
from hec.runtime.memory_file import MemoryFile
from hec.runtime.tenseal_context import SEAL_ERRORS, TensealContext, to_bytes

_POLYNOMIALS: Final = 2
_HEADER: Final = "<HBBBBHQ"  # magic, bytes of the header, version (2), compression, 0, bytes in all
_MEMBERS: Final = "<4Q?QQQdQ"  # parms_id, NTT form, polynomials, ring degree, limbs, scale, 1
_HEADER_BYTES: Final = struct.calcsize(_HEADER)
_MEMBERS_BYTES: Final = struct.calcsize(_MEMBERS) + _HEADER_BYTES + 8  # and those of the limbs
_POINTER: Final = struct.Struct("<Q")
_SEARCHED: Final = 256  # bytes of the C++ object; SEAL 4.1 has the pointer at byte 112
_KNOWN: Final = 64  # bytes at both ends of the limbs that must agree
_OBJECT_HEAD: Final = 16  # bytes of reference count and type


class Copies:
    """Writes ciphertexts to memory files, and reads them."""

    def __init__(self, context: TensealContext, try_raw: bool = True) -> None:
        self._context = context
        self._memory, self._offsets, self._version = -1, (0, 0), (0, 0)
        self._is_raw = False
        if try_raw:
            with suppress(OSError, InvalidProgram, *SEAL_ERRORS):
                self._memory = os.open("/proc/self/mem", os.O_RDONLY)
                self._find()
                self._is_raw = True

    @property
    def is_raw(self) -> bool:
        """Tell whether ciphertexts are copied, which is faster than to save them."""
        return self._is_raw

    @property
    def largest(self) -> int:
        """Return the most bytes that a ciphertext takes."""
        return self._context.ciphertext_bytes(self._context.parameters.top_level)

    def renew(self) -> None:
        """Start anew in a process that was forked, where all descriptors of others are closed."""
        if self.is_raw:
            self._memory = os.open("/proc/self/mem", os.O_RDONLY)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def write(self, x: seal.Ciphertext, file: MemoryFile) -> None:
        """Write a ciphertext of two polynomials."""
        if not self.is_raw:
            x.save(file.path)
            return
        if x.size() != _POLYNOMIALS:
            raise InvalidProgram(f"a ciphertext of {x.size()} polynomials is passed on")
        level = int(x.coeff_modulus_size()) - 1
        head = self._head(level, float(x.scale))
        file.room(0, len(head))[:] = head
        size = self._limb_bytes(level)
        address = self._address(x)
        if os.preadv(self._memory, [file.room(len(head), size)], address) != size:
            raise InvalidProgram("a ciphertext's memory cannot be read")

    def read(self, file: MemoryFile) -> seal.Ciphertext:
        """Read a ciphertext that `write` wrote; SEAL checks that it is one."""
        x = seal.Ciphertext()
        x.load(self._context.seal, file.path)
        return x

    def _limb_bytes(self, level: int) -> int:
        ring = self._context.parameters.ring_degree
        return _POLYNOMIALS * (level + 1) * ring * LIMB_BYTES

    def _head(self, level: int, scale: float) -> bytes:
        ring, size = self._context.parameters.ring_degree, self._limb_bytes(level)
        parms_id, limbs = self._context.parms_ids[level], level + 1
        members = struct.pack(_MEMBERS, *parms_id, True, _POLYNOMIALS, ring, limbs, scale, 1)
        total = _HEADER_BYTES + _MEMBERS_BYTES + size
        array = self._header(_HEADER_BYTES + 8 + size) + _POINTER.pack(size // LIMB_BYTES)
        return self._header(total) + members + array

    def _header(self, size: int) -> bytes:
        return struct.pack(_HEADER, 0xA15E, _HEADER_BYTES, *self._version, 0, 0, size)

    def _address(self, x: seal.Ciphertext) -> int:
        """Return where the limbs of `x` are."""
        in_object, in_ciphertext = self._offsets
        return self._pointer(self._pointer(id(x) + in_object) + in_ciphertext)

    def _pointer(self, address: int) -> int:
        (found,) = _POINTER.unpack(self._read(address, _POINTER.size))
        return int(found)

    def _read(self, address: int, size: int) -> bytes:
        """Return memory; raise `InvalidProgram` where there is none."""
        try:
            found = os.pread(self._memory, size, address)
        except (OSError, OverflowError):
            found = b""
        if len(found) != size:
            raise InvalidProgram("no memory is there")
        return found

    def _find(self) -> None:
        """Find the limbs of a ciphertext of known numbers, and try the way on others."""
        self._version = self._version_of_seal()
        top = self._context.parameters.top_level
        known = self._known(top)
        x = self._loaded(top, known)
        self._offsets = next(self._places(x, known), (0, 0))
        if self._offsets == (0, 0):
            raise InvalidProgram("the limbs of a ciphertext are not where pointers lead")
        for level in {0, top}:
            known = self._known(level)
            x = self._loaded(level, known)
            if self._read(self._address(x), len(known)) != known:
                raise InvalidProgram("the limbs of a ciphertext move")

    def _version_of_seal(self) -> tuple[int, int]:
        """Return the version that SEAL writes into headers, which are not compressed."""
        plain = seal.Plaintext()
        seal.CKKSEncoder(self._context.seal).encode(1.0, self._context.parms_ids[0], 1.0, plain)
        header = to_bytes(plain, self._context.ciphertext_bytes(0))
        _, _, major, minor, *_ = struct.unpack_from(_HEADER, header)
        return int(major), int(minor)

    def _known(self, level: int) -> bytes:
        """Return the limbs of a ciphertext of random numbers."""
        parameters, random = self._context.parameters, np.random.default_rng(level)
        primes = parameters.primes[: level + 1] * _POLYNOMIALS
        limbs = [random.integers(0, p, parameters.ring_degree, np.uint64) for p in primes]
        return np.concatenate(limbs).tobytes()

    def _loaded(self, level: int, limbs: bytes) -> seal.Ciphertext:
        head = self._head(level, 1.0)
        file = MemoryFile(len(head) + len(limbs))
        try:
            file.room(0, file.size)[:] = head + limbs
            return self.read(file)
        finally:
            file.close()

    def _places(self, x: seal.Ciphertext, known: bytes) -> Iterator[tuple[int, int]]:
        """Yield the offsets, in Python's object and in SEAL's, of pointers that lead to `known`."""
        in_objects = range(_OBJECT_HEAD, type(x).__basicsize__ - 7, _POINTER.size)
        for offsets in product(in_objects, range(0, _SEARCHED, _POINTER.size)):
            with suppress(InvalidProgram):
                self._offsets = offsets
                address = self._address(x)
                first = self._read(address, _KNOWN)
                last = self._read(address + len(known) - _KNOWN, _KNOWN)
                if (first, last) == (known[:_KNOWN], known[-_KNOWN:]):
                    yield offsets
