"""The two kinds of failure: one the user can act on, one that is our bug."""

from __future__ import annotations

import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, where (in the user's words), and what to do about it."""

    message: str
    place: str = ""
    help: str = ""

    def __str__(self) -> str:
        lines = [self.message]
        if self.place:
            lines.append(f"  --> {self.place}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class CompileError(Exception):
    """The user's model, data, option, or file is at fault; lists all problems of one kind."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def fail(message: str, place: str = "", help: str = "") -> CompileError:
    """Return (to be raised) a `CompileError` with a single problem."""
    return CompileError(Problem(message, place, help))


class InvalidProgram(Exception):
    """A pass or a kernel broke a rule of the IR: a bug in hec, never the user's fault."""


class HecWarning(UserWarning):
    """Something the user should know, and can act on, that does not stop the work."""


def warn(message: str, place: str = "", help: str = "") -> None:
    """Warn the user in the same three parts as an error: problem, place, help."""
    warnings.warn(HecWarning(str(Problem(message, place, help))), stacklevel=3)
