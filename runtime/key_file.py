"""The file of OpenFHE's evaluation keys, gigabytes that are never in memory as bytes.

    archive of rotation keys, by OpenFHE, which ignores what follows
    archive of the relinearization key
    trailer    JSON: what every container says, the key tag, the automorphisms, the sizes above
    4 bytes    length of the trailer, little-endian
    32 bytes   SHA-256 of all before it
    8 bytes    magic

Everything is checked before OpenFHE reads a byte. The checksum finds damage, not forgery.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

from hec.compiler.atomic_file import PUBLIC_MODE, cannot_read
from hec.compiler.checked_json import Json, Node, damaged, dump, parse
from hec.compiler.ckks_ir import LIMB_BYTES, EncryptionParameters
from hec.compiler.errors import fail
from hec.compiler.plan_parts import ClientPart
from hec.runtime import container, keys, openfhe_keys
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_keys import EvaluationKeys
from hec.runtime.openfhe_library import OPENFHE_ERRORS, reason

MAGIC: Final = b"hec\x1a\r\n\x00\x02"
DIGEST_BYTES: Final = 32
LENGTH_BYTES: Final = 4
_END_BYTES: Final = LENGTH_BYTES + DIGEST_BYTES + len(MAGIC)
_CHUNK_BYTES: Final = 2**24
_SLACK_BYTES: Final = 2**18  # of OpenFHE's archive, for each key: lengths and pointers


@dataclass(frozen=True)
class _Trailer:
    tag: str
    automorphisms: list[int]
    rotation_bytes: int
    product_bytes: int


def write(path: Path, part: ClientPart, tag: str) -> None:
    """Write the keys that OpenFHE's tables hold for `tag`; raise `CompileError` if that fails."""
    with _whole_file(path) as draft:
        rotation_bytes = openfhe_keys.write_rotations(draft, tag)
        with draft.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            product_bytes = file.write(openfhe_keys.product_key(tag))
            trailer = _Trailer(tag, openfhe_keys.automorphisms(tag), rotation_bytes, product_bytes)
            header = _header(part, trailer)
            file.write(header + len(header).to_bytes(LENGTH_BYTES, "little"))
            file.write(_digest(file, file.tell()) + MAGIC)
            file.flush()
            os.fsync(file.fileno())


def read(path: Path, part: ClientPart, context: OpenfheContext, place: str) -> EvaluationKeys:
    """Load the keys in a file, those of the plan of `part`, into OpenFHE's tables.

    Raise `CompileError` at `place` for anything else: before OpenFHE reads it, where it can be
    told.
    """
    try:
        with path.open("rb") as file:
            trailer = _checked(file, part, place)
            file.seek(trailer.rotation_bytes)
            product = file.read(trailer.product_bytes)
    except OSError as error:
        raise cannot_read(error, path, "evaluation keys") from None
    if not openfhe_keys.is_held(trailer.tag):  # by another user of the same file
        _load(path, trailer, product, place)
    if openfhe_keys.automorphisms(trailer.tag) != trailer.automorphisms:
        raise keys.wrong_keys(place)
    return openfhe_keys.held(context, trailer.tag)


def _load(path: Path, trailer: _Trailer, product: bytes, place: str) -> None:
    """Load exactly these keys, under their own tag, into OpenFHE's tables, or nothing."""
    before, complete = openfhe_keys.contexts(), False
    try:
        openfhe_keys.read(path, product, trailer.rotation_bytes > 0)
        same = openfhe_keys.automorphisms(trailer.tag) == trailer.automorphisms
        complete = same and openfhe_keys.contexts() == before
    except OPENFHE_ERRORS as error:
        raise damaged(f"OpenFHE cannot read it: {reason(error)}", place) from None
    finally:
        if not complete:
            openfhe_keys.forget(trailer.tag)
    if not complete:
        raise keys.wrong_keys(place)


def _header(part: ClientPart, trailer: _Trailer) -> bytes:
    automorphisms: list[Json] = [*trailer.automorphisms]
    sizes: list[Json] = [trailer.rotation_bytes, trailer.product_bytes]
    return dump(
        {
            **container.identity("evaluation keys", part),
            "tag": trailer.tag,
            "automorphisms": automorphisms,
            "sizes": sizes,
        }
    )


def _checked(file: IO[bytes], part: ClientPart, place: str) -> _Trailer:
    """Return the trailer of a file whose every byte is as it was written."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(len(container.MAGIC))
    file.seek(max(0, size - _END_BYTES))
    end = file.read()
    if not end.endswith(MAGIC) or len(end) != _END_BYTES:
        raise _not_keys(file, start, size, part, place)
    length = int.from_bytes(end[:LENGTH_BYTES], "little")
    if length > min(container.MAX_HEADER, size - _END_BYTES):
        raise damaged("its header is too long", place)
    file.seek(size - _END_BYTES - length)
    header = parse(file.read(length), place)
    names = ("tag", "automorphisms", "sizes")
    fields = container.check_identity(header, "evaluation keys", part, place, *names)
    trailer = _trailer(fields, size - _END_BYTES - length, part, place)
    if _digest(file, size - _END_BYTES + LENGTH_BYTES) != end[LENGTH_BYTES : -len(MAGIC)]:
        raise damaged("its content does not match its checksum", place)
    _check_tags(file, trailer, place)
    return trailer


def _check_tags(file: IO[bytes], trailer: _Trailer, place: str) -> None:
    """Refuse archives of other keys than those of the tag: they would get into OpenFHE's tables."""
    expected = openfhe_keys.archive_start(trailer.tag)
    for start, size in (
        (0, trailer.rotation_bytes),
        (trailer.rotation_bytes, trailer.product_bytes),
    ):
        file.seek(start)
        if size and file.read(len(expected)) != expected:
            raise keys.wrong_keys(place)


def _trailer(fields: dict[str, Node], size: int, part: ClientPart, place: str) -> _Trailer:
    """Return a trailer that fits the file's size, and the keys that the plan needs."""
    sizes = fields["sizes"].integers()
    if len(sizes) != 2 or min(sizes) < 0 or sum(sizes) != size:
        raise fields["sizes"].wrong("two sizes that add up")
    automorphisms = list(fields["automorphisms"].integers())
    trailer = _Trailer(fields["tag"].text(), automorphisms, *sizes)
    has_product = part.keys.relinearization or part.keys.bootstrapping
    most = _key_bytes(part.parameters)
    fits = sizes[0] <= len(automorphisms) * most and sizes[1] <= has_product * most
    expected = automorphisms == openfhe_keys.needed(part.parameters, part.keys)
    if not (expected and fits and (sizes[1] > 0) == has_product):
        raise keys.wrong_keys(place)
    return trailer


def _key_bytes(parameters: EncryptionParameters) -> int:
    """Return the most bytes of one key: two polynomials for every digit, special primes too."""
    limbs = len(parameters.primes) + len(parameters.special_primes)
    digits = parameters.digits or len(parameters.primes)
    return 2 * digits * limbs * parameters.ring_degree * LIMB_BYTES + _SLACK_BYTES


def _not_keys(file: IO[bytes], start: bytes, size: int, part: ClientPart, place: str) -> Exception:
    """Return the error for a file that is none of OpenFHE's keys; of hec's, it may be another."""
    if start == container.MAGIC and size <= keys.MAX_SECRET_BYTES:
        file.seek(0)
        container.unpack(file.read(), "evaluation keys", part, place)
    elif size > _END_BYTES and start != container.MAGIC:
        return damaged("its end is missing, or it is no file of evaluation keys", place)
    return container.other_data("evaluation keys", place)


def _digest(file: IO[bytes], size: int) -> bytes:
    """Return the SHA-256 of the first `size` bytes; the file is at their end then."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0:
        chunk = file.read(min(_CHUNK_BYTES, size))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a draft in a private folder beside `path`, which it becomes at the end."""
    try:
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            yield draft
            draft.chmod(PUBLIC_MODE)
            os.replace(draft, path)
    except OSError as error:
        message = f"Cannot write the file: {error.strerror or error}"
        help = "check the folder, its permissions, and the disk"
        raise fail(message, str(path), help) from None
