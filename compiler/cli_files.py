"""Paths that the commands write to and read from, checked before the work begins."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hec.compiler.errors import fail

if TYPE_CHECKING:
    from hec.compiler.plan import Plan
    from hec.compiler.plan_parts import ClientPart


def check_output(path: Path, inputs: Sequence[Path | None] = (), option: str = "-o") -> None:
    """Raise `CompileError` if `path` cannot become a file, or is one of the `inputs`."""
    if path.is_dir():
        raise fail("the output is a folder", str(path), f"give the path of a file after {option}")
    if not path.parent.is_dir():
        raise fail("the folder of the output does not exist", str(path), f"mkdir -p {path.parent}")
    if path.exists() and any(x is not None and x.exists() and path.samefile(x) for x in inputs):
        raise fail(
            "the output would replace the input", str(path), f"give another path after {option}"
        )


def check_distinct(outputs: Sequence[Path | None]) -> None:
    """Raise `CompileError` if two of the `outputs` are one file."""
    known = [path.resolve() for path in outputs if path is not None]
    for path in known:
        if known.count(path) > 1:
            raise fail("two outputs have one path", str(path), "give each a path of its own")


def load_plan_or_part(path: Path) -> Plan | ClientPart:
    """Return the plan in a file, or the client's part where the file holds no more."""
    from hec.compiler.plan import Plan

    part = Plan.load_client(path)
    with zipfile.ZipFile(path) as archive:  # which `load_client` found to be sound
        is_whole = any(name.startswith("server/") for name in archive.namelist())
    return Plan.load(path) if is_whole else part


def load_whole_plan(
    path: Path,
    problem: str = "the file holds only the client's part of a plan, which knows no layers",
    help: str = "give the plan that hec compile wrote with -o",
) -> Plan:
    """Return the plan in a file; raise `CompileError` where it holds only the client's part."""
    from hec.compiler.plan import Plan

    found = load_plan_or_part(path)
    if isinstance(found, Plan):
        return found
    raise fail(problem, str(path), help)
