"""Arrays from and to .npy and .npz files; what is read may come from anyone.

No pickle is ever read. A header that promises more than the file holds, or a zip that would unpack
to more than a cap, is refused before memory is taken for it.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Final, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hec.compiler.atomic_file import atomic_file, cannot_read
from hec.compiler.errors import fail

AnyArray = NDArray[np.generic]
Arrays: TypeAlias = "AnyArray | dict[str, AnyArray]"
MAX_UNPACKED: Final = 2**34  # bytes of all arrays of a file
DAMAGED: Final = (
    ValueError, EOFError, TypeError, KeyError, SyntaxError, RecursionError, OverflowError,
    AttributeError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error,
    struct.error, tokenize.TokenError,
)  # fmt: skip
FORMS: Final = "give a .npy or .npz file, as numpy.save and numpy.savez write them"


def load_arrays(path: Path) -> Arrays:
    """Return the array of a .npy file or of an .npz file that holds one, else arrays by name."""
    try:
        with path.open("rb") as file:
            start = file.read(len(npy.MAGIC_PREFIX))
            file.seek(0)
            if start == npy.MAGIC_PREFIX:
                return _read_npy(file, path.stat().st_size, str(path))
            if start.startswith(b"PK"):
                return _read_npz(file, path)
    except OSError as error:
        raise cannot_read(error, path, "array file") from None
    except DAMAGED as error:
        raise fail(f"the file is damaged: {error}", str(path), FORMS) from None
    raise fail("the file holds no numpy arrays", str(path), FORMS)


def load_array(path: Path, what: str) -> AnyArray:
    """Return the only array of a file."""
    found = load_arrays(path)
    if isinstance(found, dict):
        names = ", ".join(f"'{name}'" for name in sorted(found)) or "(none)"
        raise fail(
            f"the file holds {len(found)} arrays, {names}: which are the {what}?",
            str(path),
            "give a .npy file, or an .npz file with one array",
        )
    return found


def save_arrays(path: Path, values: AnyArray | Mapping[str, AnyArray]) -> None:
    """Write an array to a .npy file, or arrays by name to an .npz file, whole or not at all."""
    with atomic_file(path) as file:
        if path.suffix != ".npz" and not isinstance(values, Mapping):
            npy.write_array(file, values, allow_pickle=False)
            return
        named = values if isinstance(values, Mapping) else {"output": values}
        with zipfile.ZipFile(file, "w") as archive:  # numpy.savez cannot write every name
            for name, array in named.items():
                archive.writestr(f"{name}.npy", _npy(array))


def _npy(array: AnyArray) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _read_npz(file: IO[bytes], path: Path) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        unpacked = sum(info.file_size for info in infos)
        if unpacked > MAX_UNPACKED:
            raise fail(
                f"the arrays unpack to {unpacked} bytes; at most {MAX_UNPACKED} are read",
                str(path),
                "give fewer samples",
            )
        arrays = {}
        for info in infos:
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                arrays[name] = _read_npy(member, info.file_size, f"{path}: {name}")
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _read_npy(file: IO[bytes], size: int, place: str) -> AnyArray:
    major, _ = npy.read_magic(file)
    if major == 1:
        shape, _, dtype = npy.read_array_header_1_0(file)
    else:
        shape, _, dtype = npy.read_array_header_2_0(file)
    if dtype.hasobject:
        raise fail("the file holds Python objects, which are never read", place, FORMS)
    if prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it promises an array of shape {shape}, and ends before")
    file.seek(0)
    return np.asarray(npy.read_array(file, allow_pickle=False))
