"""hec: compile trained neural networks into homomorphic-encryption programs."""

from importlib import import_module
from typing import Any

_HOME = {
    "compile": "hec.compiler.pipeline",
    "lint": "hec.compiler.lint",
    "report": "hec.compiler.report",
    "Target": "hec.compiler.target",
    "Plan": "hec.compiler.plan",
    "CompileError": "hec.compiler.errors",
    "Client": "hec.runtime.client",
    "Server": "hec.runtime.server",
    "simulate": "hec.runtime.simulate",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:  # the facade is lazy, so that importing hec is fast
    if name not in _HOME:
        raise AttributeError(f"module 'hec' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
