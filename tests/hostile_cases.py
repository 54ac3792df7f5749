"""What the tests of hostile models ask: which message the import of one ends with."""

from __future__ import annotations

from typing import Any

import pytest

from hec.compiler.errors import CompileError
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target

SHAPES: dict[str, tuple[int | str, ...]] = {"x": (2, 3)}
AGAIN = "export the model again, and check it with onnx.checker.check_model"
LARGE = "use a smaller network, or smaller inputs"
SAVE = "save the model again with onnx.save_model"


def refusal(source: Any) -> str:
    """Return the error that importing `source` ends with."""
    with pytest.raises(CompileError) as caught:
        import_onnx(source, Target())
    return str(caught.value)


def text(message: str, place: str, help: str) -> str:
    """Return the error of these parts."""
    return f"{message}\n  --> {place}\n  help: {help}"
