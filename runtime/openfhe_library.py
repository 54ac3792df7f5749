"""The module `openfhe`, or an error that says where it would work; and the allocator it likes.

Others import `fhe` from here, inside functions: a plan for another backend needs no OpenFHE.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache
from typing import Final

from hec.compiler.errors import CompileError, fail

_M_TRIM_THRESHOLD: Final = -1  # of glibc's mallopt
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3


def _cannot_import(error: ImportError) -> CompileError:
    library = " ".join(platform.libc_ver()).strip() or "no glibc"
    return fail(
        f"OpenFHE cannot be imported: {error}",
        f"CPython {platform.python_version()} with {library}",
        'pip install "hec[openfhe]", with CPython 3.10 and glibc 2.35 or later (Debian 12,'
        " Ubuntu 22.04), or CPython 3.12 and glibc 2.39 or later (Ubuntu 24.04)",
    )


try:
    import openfhe as fhe
except ImportError as error:
    raise _cannot_import(error) from None

OPENFHE_ERRORS: Final = (RuntimeError, ValueError, IndexError, MemoryError, TypeError)

__all__ = ["OPENFHE_ERRORS", "fhe", "keep_freed_memory", "reason"]


def reason(error: Exception) -> str:
    """Return what OpenFHE says, without the source position that it puts before."""
    return " ".join(str(error).split("():", 1)[-1].split())


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: a bootstrap frees and takes gigabytes again and again.

    Measured at N = 2^15: 0.6 s of page faults less in each bootstrap. Elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TOP_PAD, 2**26)
