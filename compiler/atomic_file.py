"""Write a file whole or not at all: into a new file beside it, then rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hec.compiler.errors import fail

PUBLIC_MODE = 0o644
SECRET_MODE = 0o600  # the owner only


@contextmanager
def atomic_file(path: Path, mode: int = PUBLIC_MODE) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` when the block ends, and vanishes if it raises.

    An `OSError`, such as a full disk or a missing folder, becomes `CompileError`.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        message = f"Cannot write the file: {error.strerror or error}"
        raise fail(message, str(path), "check the folder, its permissions, and the disk") from None


def read_bounded(path: Path, limit: int, what: str) -> bytes:
    """Return the bytes of `path`, or raise `CompileError` if missing or over `limit` bytes."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                message = f"The {what} is too large: {size} bytes, at most {limit} are expected"
                raise fail(message, str(path), "check that this is the right file")
            return file.read(limit)
    except OSError as error:
        raise cannot_read(error, path, what) from None


def cannot_read(error: OSError, path: Path, what: str) -> Exception:
    """Return the error for a `what` that the system does not let us read."""
    return fail(f"Cannot read the {what}: {error.strerror or error}", str(path), "check the path")
