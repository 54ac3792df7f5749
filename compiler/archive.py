"""A zip of JSON documents and numpy arrays in named parts, that trusts nothing it reads.

    header.json         {"format", "version", "id", "parts": {part: sha256 of its members.json}}
    PART/members.json   {member: sha256}
    PART/part.json      the document
    PART/0.npy ...      the arrays that the document refers to by position

The id is the hash of the parts' hashes, so an archive that holds only some of the parts still
proves that they belong to that id. Declared sizes are checked against a cap before anything is
unpacked; a member that nobody refers to is refused. The same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from hec.compiler.atomic_file import atomic_file, cannot_read
from hec.compiler.checked_json import Json, Node, damaged, dump, parse
from hec.compiler.errors import CompileError, fail
from hec.compiler.record import AnyArray

HEADER: Final = "header.json"
HEADER_CAP: Final = 2**16  # bytes
JSON_CAP: Final = 2**26  # bytes of one JSON document
NPY_HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>\|u1|<[iuf][248])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>[0-9, ]{0,99})\), \} {0,99}\n",
    re.DOTALL,
)
FIXED_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the zip epoch: no clock in the content
FAST: Final = 1  # zlib level; float32 weights hardly compress, index arrays always do
ZIP_ERRORS: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    OverflowError, IndexError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Part:
    """A JSON document and the arrays it refers to by position."""

    document: Json
    arrays: Sequence[AnyArray]

    def members(self) -> dict[str, bytes]:
        """Return the content of the part's files by name."""
        arrays = {f"{i}.npy": _npy(array) for i, array in enumerate(self.arrays)}
        return {"part.json": dump(self.document), **arrays}


@dataclass(frozen=True)
class Format:
    """What an archive is called, its version, and its caps in bytes, unpacked, part by part."""

    name: str
    version: int
    caps: Mapping[str, int]


def content_id(parts: Mapping[str, Part]) -> str:
    """Return the id that an archive of exactly these parts has."""
    digests = {name: _digest(dump(_hashes(part.members()))) for name, part in parts.items()}
    return _combine(digests)


def write(path: Path, kind: Format, parts: Mapping[str, Part], keep: Sequence[str]) -> None:
    """Write the parts named in `keep`, under the id of all `parts`, whole or not at all."""
    digests: dict[str, str] = {}
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            members = part.members()
            listing = dump(_hashes(members))
            digests[name] = _digest(listing)
            kept = {"members.json": listing, **members} if name in keep else {}
            for member, data in kept.items():
                _add(archive, f"{name}/{member}", data)
        _add(archive, HEADER, dump(_header(kind, digests)))


def _header(kind: Format, digests: Mapping[str, str]) -> dict[str, Json]:
    return {
        "format": kind.name,
        "version": kind.version,
        "id": _combine(digests),
        "parts": dict(digests),
    }


def read(path: Path, kind: Format, wanted: Sequence[str]) -> tuple[str, dict[str, Part]]:
    """Return the id, and the parts named in `wanted`; nothing else is unpacked.

    Raise `CompileError` for whatever is not an archive that `write` made.
    """
    try:
        with path.open("rb") as file, _open(file, path, kind) as archive:
            header = _read_header(archive, path, kind)
            digests = header.mapping()["parts"].mapping()
            parts = {}
            for name in wanted:
                digest = digests[name].text()
                parts[name] = _Reader(archive, name, f"{path}").part(digest, kind.caps[name])
            return header.mapping()["id"].text(), parts
    except ZIP_ERRORS as error:
        raise damaged(f"it is not a readable zip archive ({error})", str(path)) from None
    except OSError as error:
        raise cannot_read(error, path, kind.name) from None


def _open(file: IO[bytes], path: Path, kind: Format) -> zipfile.ZipFile:
    if file.read(4) != b"PK\x03\x04":
        raise fail(
            f"This is not a {kind.name}", str(path), f"give a file made by hec as {kind.name}"
        )
    file.seek(0)
    return zipfile.ZipFile(file)


def _read_header(archive: zipfile.ZipFile, path: Path, kind: Format) -> Node:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if HEADER not in names:
        raise fail(
            f"This is not a {kind.name}", str(path), f"give a file made by hec as {kind.name}"
        )
    if len(set(names)) != len(names):
        raise damaged("a member occurs twice", str(path))
    for info in infos:
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise damaged("a member is encrypted or packed in a foreign way", str(path))
    place = f"{path}: {HEADER}"
    return _check_header(parse(_read(archive, HEADER, HEADER_CAP, place), place), kind)


def _check_header(header: Node, kind: Format) -> Node:
    fields = header.mapping()
    place = header.place.removesuffix(": ")
    if "format" not in fields or fields["format"].value != kind.name:
        raise fail(f"This is not a {kind.name}", place, f"give a file made by hec as {kind.name}")
    version = fields["version"].integer() if "version" in fields else 0
    if version != kind.version:
        raise fail(
            f"The {kind.name} has format version {version}; this hec reads {kind.version}",
            place,
            "make it again with this version of hec, or install the version that made it",
        )
    fields = header.fields("format", "version", "id", "parts")
    digests = {name: node.text() for name, node in fields["parts"].fields(*kind.caps).items()}
    if fields["id"].text() != _combine(digests):
        raise damaged("its id does not follow from its content", place)
    return header


@dataclass(frozen=True)
class _Reader:
    """Reads one part, and checks every member against its hash."""

    archive: zipfile.ZipFile
    name: str
    path: str

    def part(self, digest: str, cap: int) -> Part:
        prefix = f"{self.name}/"
        infos = [info for info in self.archive.infolist() if info.filename.startswith(prefix)]
        if not infos:
            raise fail(
                f"The file holds no {self.name} part",
                self.path,
                "give the whole plan, not the part made for the other side",
            )
        size = sum(info.file_size for info in infos)
        if size > cap:
            message = f"The {self.name} part unpacks to {size} bytes; at most {cap} are allowed"
            raise fail(message, self.path, "check that the file comes from someone you trust")
        hashes = self._hashes(digest)
        if {info.filename for info in infos} != {prefix + n for n in (*hashes, "members.json")}:
            raise damaged("members are missing or foreign", f"{self.path}: {self.name}")
        document = parse(self._member("part.json", hashes), f"{self.path}: {prefix}part.json")
        arrays = [self._array(f"{i}.npy", hashes) for i in range(len(hashes) - 1)]
        return Part(document.value, arrays)

    def _hashes(self, digest: str) -> dict[str, str]:
        listing = self._member("members.json", {"members.json": digest})
        nodes = parse(listing, f"{self.path}: {self.name}/members.json").mapping()
        return {name: node.text() for name, node in nodes.items()}

    def _member(self, name: str, hashes: Mapping[str, str]) -> bytes:
        place = f"{self.path}: {self.name}/{name}"
        if name not in hashes:
            raise damaged("the member is missing", place)
        cap = JSON_CAP if name.endswith(".json") else 2**63
        data = _read(self.archive, f"{self.name}/{name}", cap, place)
        if _digest(data) != hashes[name]:
            raise damaged("its content does not match its checksum", place)
        return data

    def _array(self, name: str, hashes: Mapping[str, str]) -> AnyArray:
        place = f"{self.path}: {self.name}/{name}"
        try:
            return _from_npy(self._member(name, hashes))
        except (ValueError, TypeError) as error:
            raise damaged(f"not an array of numbers ({error})", place) from None


def _read(archive: zipfile.ZipFile, name: str, cap: int, place: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise damaged("the member is missing", place) from None
    if info.file_size > cap:
        raise _too_large(info.file_size, cap, place)
    try:
        return archive.read(info)
    except ZIP_ERRORS as error:
        raise damaged(f"it cannot be unpacked ({error})", place) from None


def _too_large(size: int, cap: int, place: str) -> CompileError:
    message = f"A member unpacks to {size} bytes; at most {cap} are allowed"
    return fail(message, place, "check that the file comes from someone you trust")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data, zipfile.ZIP_DEFLATED, FAST)


def _hashes(members: Mapping[str, bytes]) -> dict[str, Json]:
    return {name: _digest(data) for name, data in members.items()}


def _combine(digests: Mapping[str, str]) -> str:
    return _digest(dump(dict(digests)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _npy(array: AnyArray) -> bytes:
    buffer = io.BytesIO()
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    np.lib.format.write_array(buffer, little, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _from_npy(data: bytes) -> AnyArray:
    """Return a read-only view. Unlike `np.load`, evaluate no header and allocate nothing for it."""
    header = NPY_HEADER.match(data)
    if header is None:
        raise ValueError("its header is not one that hec writes")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(size) for size in header["shape"].decode().split(",") if size.strip())
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape)
