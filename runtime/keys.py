"""The data owner's key folder, and how keys travel.

`secret.key` (mode 0600, in a folder of mode 0700) never leaves the data owner; `evaluation.key` is
for the server. Both name their plan, so a file that is damaged, or of another plan, is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hec.compiler.atomic_file import SECRET_MODE, atomic_file, read_bounded
from hec.compiler.checked_json import damaged
from hec.compiler.errors import fail
from hec.compiler.plan_parts import ClientPart
from hec.runtime import container
from hec.runtime.container import Blob

SECRET_FILE: Final = "secret.key"
EVALUATION_FILE: Final = "evaluation.key"
FOLDER_MODE: Final = 0o700
MAX_SECRET_BYTES: Final = 2**28


def make_folder(folder: Path) -> None:
    """Create `folder` for its owner alone; raise `CompileError` if it already holds a secret."""
    if (folder / SECRET_FILE).exists():
        raise fail(
            "The folder already holds a secret key",
            str(folder / SECRET_FILE),
            "choose another folder; whoever overwrites a secret key loses what it encrypted",
        )
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
    except OSError as error:
        message = f"Cannot make the key folder: {error.strerror or error}"
        raise fail(message, str(folder), "check the path and its permissions") from None


def write_secret(folder: Path, part: ClientPart, secret: bytes) -> None:
    """Write the secret key, readable by its owner only."""
    with atomic_file(folder / SECRET_FILE, SECRET_MODE) as file:
        file.write(container.pack("secret key", part, {"secret": (secret,)}))


def read_secret(folder: Path, part: ClientPart) -> bytes:
    """Return the secret key in `folder`; raise `CompileError` if it is not one of this plan."""
    path = folder / SECRET_FILE
    data = read_bounded(path, MAX_SECRET_BYTES, "secret key")
    blobs = container.unpack(data, "secret key", part, str(path))
    return bytes(_only(blobs, "secret", str(path)))


def pack_evaluation_keys(part: ClientPart, relin: bytes, galois: tuple[bytes, ...]) -> bytes:
    """Return the container that the client sends once; b"" stands for no relinearization key."""
    blobs = {"relinearization": (relin,), "rotations": galois}
    return container.pack("evaluation keys", part, blobs)


def unpack_evaluation_keys(
    part: ClientPart, data: bytes, place: str = ""
) -> tuple[Blob, tuple[Blob, ...]]:
    """Return the relinearization key and the groups of rotation keys in a container."""
    place = place or "evaluation keys"
    blobs = container.unpack(data, "evaluation keys", part, place)
    if blobs.keys() != {"relinearization", "rotations"}:
        raise damaged("expected relinearization and rotation keys", place)
    relin = _only({"relinearization": blobs["relinearization"]}, "relinearization", place)
    galois = blobs["rotations"]
    if (bool(relin), bool(galois)) != (part.keys.relinearization, bool(part.keys.rotations)):
        raise wrong_keys(place)
    return relin, galois


def wrong_keys(place: str) -> Exception:
    """Return the error for keys that the plan's manifest does not list exactly."""
    return fail(
        "The evaluation keys are not those that the plan needs",
        place,
        "make the keys again with this plan",
    )


def _only(blobs: Mapping[str, tuple[Blob, ...]], name: str, place: str) -> Blob:
    if blobs.keys() != {name} or len(blobs[name]) != 1:
        raise damaged(f"expected one {name}", place)
    return blobs[name][0]
