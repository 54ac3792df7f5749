"""The two kinds of failure: one the user can act on, one that is our bug."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

LONGEST_PART: Final = 2000  # characters: names in a model may have megabytes
MOST_TOLD: Final = 100  # problems in one message; a model may have a hundred thousand


def one_line(text: str) -> str:
    """Return `text` on one line, without what could steer a terminal, and not too long.

    Names come from files of others: one with a line break could forge a place or a help.
    """
    if len(text) > LONGEST_PART:
        text = f"{text[: LONGEST_PART - 500]} … {text[-400:]}"
    broken = "".join(" " if c in "\r\n\t" else c for c in text)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in broken)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, where (in the user's words), and what to do about it."""

    message: str
    place: str = ""
    help: str = ""

    def __str__(self) -> str:
        lines = [one_line(self.message)]
        if self.place:
            lines.append(f"  --> {one_line(self.place)}")
        if self.help:
            lines.append(f"  help: {one_line(self.help)}")
        return "\n".join(lines)


class CompileError(Exception):
    """The user's model, data, option, or file is at fault; lists all problems of one kind."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        told = [str(problem) for problem in problems[:MOST_TOLD]]
        if len(problems) > MOST_TOLD:
            told.append(f"and {len(problems) - MOST_TOLD:,} more problems")
        super().__init__("\n".join(told))


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
