"""The bytes that client and server exchange and keep: ciphertexts, evaluation keys, the secret key.

    8 bytes    magic, unlike any text
    4 bytes    length of the header, little-endian
    header     JSON: version, kind, plan, parameters, [{name, sizes of its blobs}, ...], and the
               number of images in a message for a plan that takes more than one
    blobs      in the order of the header
    32 bytes   SHA-256 of all before it

Every container names its plan and the fingerprint of its encryption parameters, so that a mix-up is
an error instead of a wrong prediction. The checksum finds damage, not forgery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from hec.compiler.checked_json import Json, Node, damaged, dump, parse
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.errors import fail
from hec.compiler.plan_parts import ClientPart
from hec.compiler.record import encode

Blob: TypeAlias = "bytes | memoryview"
Kind = Literal["secret key", "evaluation keys", "encrypted input", "encrypted output"]

MAGIC: Final = b"hec\x1a\r\n\x00\x01"
VERSION: Final = 1
LENGTH_BYTES: Final = 4
MAX_HEADER: Final = 2**20  # bytes
DIGEST_BYTES: Final = 32
WITH_ARTICLE: Final[dict[Kind, str]] = {
    "secret key": "a secret key",
    "evaluation keys": "evaluation keys",
    "encrypted input": "an encrypted input",
    "encrypted output": "an encrypted output",
}


def pack(
    kind: Kind, part: ClientPart, blobs: Mapping[str, tuple[bytes, ...]], images: int = 1
) -> bytes:
    """Return a container for the plan of `part` as bytes; in a batch a message tells `images`."""
    contents: list[Json] = [
        {"name": name, "sizes": [len(piece) for piece in pieces]} for name, pieces in blobs.items()
    ]
    told: dict[str, Json] = {"images": images} if is_message(kind, part) else {}
    header = dump({**identity(kind, part), **told, "contents": contents})
    length = len(header).to_bytes(LENGTH_BYTES, "little")
    pieces = [MAGIC, length, header, *(blob for named in blobs.values() for blob in named)]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return b"".join([*pieces, digest.digest()])


def unpack(
    data: bytes, kind: Kind, part: ClientPart, place: str = ""
) -> Mapping[str, tuple[Blob, ...]]:
    """Return the blobs of a container of `kind` for the plan of `part`.

    Raise `CompileError` at `place` if it is of another kind, plan or version, or damaged.
    """
    place = place or kind
    header, content = _opened(data, kind, place)
    fields = check_identity(header, kind, part, place, "contents")
    return _blobs(fields["contents"], content)


def unpack_message(
    data: bytes, kind: Kind, part: ClientPart, place: str = ""
) -> tuple[Mapping[str, tuple[Blob, ...]], int]:
    """Return the blobs of a message, as `unpack` does, and how many images it carries."""
    most = part.parameters.batch
    if most == 1:
        return unpack(data, kind, part, place), 1
    place = place or kind
    header, content = _opened(data, kind, place)
    fields = check_identity(header, kind, part, place, "contents", "images")
    images = fields["images"].integer()
    if not 1 <= images <= most:
        raise fields["images"].wrong(f"1 to {most} images")
    return _blobs(fields["contents"], content), images


def is_message(kind: Kind, part: ClientPart) -> bool:
    """Tell whether a container of `kind` says how many images it carries."""
    return part.parameters.batch > 1 and kind in ("encrypted input", "encrypted output")


def identity(kind: Kind, part: ClientPart) -> dict[str, Json]:
    """Return what every header says about what it is of."""
    return {
        "version": VERSION,
        "kind": kind,
        "plan": part.plan_id,
        "parameters": fingerprint(part.parameters),
    }


def check_identity(
    header: Node, kind: Kind, part: ClientPart, place: str, *others: str
) -> dict[str, Node]:
    """Return the fields of `header`: those of `identity`, and the `others`.

    Raise `CompileError` unless it is of that kind and for the plan of `part`.
    """
    version = header.mapping().get("version", header)
    if version.value != VERSION:
        raise fail(
            f"Expected format version {VERSION}, found version {version.value}",
            header.place.removesuffix(": "),
            "use the same version of hec on both sides",
        )
    fields = header.fields("version", "kind", "plan", "parameters", *others)
    found = next((name for name in WITH_ARTICLE if name == fields["kind"].value), None)
    if found is None:
        raise fields["kind"].wrong(f"one of {', '.join(WITH_ARTICLE)}")
    if found != kind:
        raise _other_kind(kind, found, place)
    plan_id = fields["plan"].text()
    if plan_id != part.plan_id:
        raise fail(
            f"Expected {WITH_ARTICLE[kind]} for plan {part.plan_id[:12]}; "
            f"this is for {plan_id[:12]}",
            place,
            "client and server must use the same plan; make it again with this one",
        )
    if fields["parameters"].text() != fingerprint(part.parameters):
        raise damaged("its encryption parameters are not those of its plan", place)
    return fields


def other_data(kind: Kind, place: str) -> Exception:
    """Return the error for a file that is nothing of hec's."""
    expected = WITH_ARTICLE[kind]
    return fail(f"Expected {expected}, found other data", place, f"give {expected} made by hec")


def fingerprint(parameters: EncryptionParameters) -> str:
    """Return a hash that only equal parameters share."""
    return hashlib.sha256(dump(encode(parameters, []))).hexdigest()


def _other_kind(expected: Kind, found: Kind, place: str) -> Exception:
    help = f"give {WITH_ARTICLE[expected]}"
    if found == "secret key":
        help = f"{help}; the secret key must never leave the data owner"
    message = f"Expected {WITH_ARTICLE[expected]}, found {WITH_ARTICLE[found]}"
    return fail(message, place, help)


def _opened(data: bytes, kind: Kind, place: str) -> tuple[Node, memoryview]:
    """Return the header, and what follows it."""
    if not data.startswith(MAGIC):
        raise other_data(kind, place)
    body = memoryview(data)[:-DIGEST_BYTES]
    if hashlib.sha256(body).digest() != data[-DIGEST_BYTES:]:
        raise damaged("its content does not match its checksum", place)
    start = len(MAGIC) + LENGTH_BYTES
    stop = start + int.from_bytes(data[len(MAGIC) : start], "little")
    if stop > min(len(body), start + MAX_HEADER):
        raise damaged("its header is too long", place)
    return parse(data[start:stop], place), body[stop:]


def _blobs(contents: Node, content: memoryview) -> dict[str, tuple[Blob, ...]]:
    """Return views of the content, not copies: evaluation keys are gigabytes."""
    blobs: dict[str, tuple[Blob, ...]] = {}
    start = 0
    for item in contents.items():
        fields = item.fields("name", "sizes")
        pieces: list[Blob] = []
        for size in fields["sizes"].items():
            stop = start + size.integer()
            if not start <= stop <= len(content):
                raise size.wrong("the size of a piece of this file")
            pieces.append(content[start:stop])
            start = stop
        blobs[fields["name"].text()] = tuple(pieces)
    if start != len(content) or len(blobs) != len(contents.elements()):
        raise contents.wrong("names, and sizes that add up")
    return blobs
