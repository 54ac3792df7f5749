"""What fuzzing does with one model: import it and lint it, with limits that a test can reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from hec.compiler.errors import CompileError
from hec.compiler.lint import inspect
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target

# The limits of the import are made for real networks; lower ones are met within a test's memory.
LIMITS = {
    "hec.compiler.onnx_values.MAX_NONZEROS": 2**22,
    "hec.compiler.onnx_values.MAX_TOTAL_NONZEROS": 2**24,
    "hec.compiler.onnx_import._MAX_FOLDED": 2**22,
}


@contextmanager
def lowered_limits() -> Iterator[None]:
    """Lower the limits of the import for a while."""
    with ExitStack() as stack:
        for name, value in LIMITS.items():
            stack.enter_context(mock.patch(name, value))
        yield


def outcome(data: bytes) -> str:
    """Import and lint a model: return 'imported', or the first problem without names and numbers.

    Whatever can be imported, lint must find nothing against, and the other way round.
    """
    compiles = inspect(data).compiles
    try:
        import_onnx(data, Target())
    except CompileError as error:
        assert not compiles
        message = re.sub(r"'[^']*'", "'…'", error.problems[0].message)
        return re.sub(r"-?\d[\d,]*", "0", message)[:80]
    assert compiles
    return "imported"
