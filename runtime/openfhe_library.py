"""The module `openfhe`, or an error that says where it would work.

Others import `fhe` from here, inside functions: a plan for another backend needs no OpenFHE.
"""

from __future__ import annotations

import platform
from typing import Final

from hec.compiler.errors import CompileError, fail


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

__all__ = ["OPENFHE_ERRORS", "fhe", "reason"]


def reason(error: Exception) -> str:
    """Return what OpenFHE says, without the source position that it puts before."""
    return " ".join(str(error).split("():", 1)[-1].split())
