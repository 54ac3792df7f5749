"""What the command line says when something is wrong, and the exit code for it.

0  done                       2  the user's model, data, options or files are at fault
1  a check has failed         3  a bug in hec                  130  interrupted
"""

from __future__ import annotations

import platform
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from os import environ
from typing import Final

import typer
from typer.core import TyperGroup

from hec.compiler.errors import CompileError, HecWarning, Problem

CHECK_FAILED: Final = 1
USER_ERROR: Final = 2
BUG: Final = 3
INTERRUPTED: Final = 130
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class ReportingGroup(TyperGroup):
    """Commands whose failures are told in three parts: problem, place, help."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the options before the command."""
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        with told_to_the_user(ctx):
            return super().parse_args(ctx, args)
        raise AssertionError  # told_to_the_user leaves with an exit code

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run a command; leave with the exit code that fits its outcome."""
        with told_to_the_user(ctx):
            return super().invoke(ctx)


@contextmanager
def told_to_the_user(ctx: typer.Context) -> Iterator[None]:
    """Print warnings and errors to stderr, and turn errors into exit codes."""
    try:
        with _warnings_told():
            yield
    except CompileError as error:
        _leave(str(error), USER_ERROR)
    except UsageError as error:
        _leave(str(_usage_problem(error, ctx)), USER_ERROR)
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED)
    except MemoryError:
        _leave(str(Problem("there is not enough memory", "", "use a larger machine")), USER_ERROR)
    except Exception as error:
        if environ.get("HEC_TRACEBACK"):
            traceback.print_exc()
        _leave(_bug_report(error, ctx), BUG)


def printable(text: str) -> str:
    """Return `text` without what could steer a terminal: names come from files of others."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _leave(message: str, code: int) -> None:
    typer.echo(printable(message), err=True)
    raise typer.Exit(code)


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Print each `HecWarning` once, as 'warning: ...'; leave other warnings to Python."""
    told: set[str] = set()

    def tell(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, HecWarning):
            typer.echo(warnings.formatwarning(message, category, filename, lineno), err=True)
        elif str(message) not in told:
            told.add(str(message))
            typer.echo(printable(f"warning: {message}"), err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", HecWarning)
        warnings.showwarning = tell
        yield


def _usage_problem(error: Exception, ctx: typer.Context) -> Problem:
    command = f"hec {ctx.invoked_subcommand or ''}".rstrip()
    if not any(command == f"hec {name}" for name in getattr(ctx.command, "commands", {})):
        command = "hec"
    describe = getattr(error, "format_message", error.__str__)
    message = str(describe()).strip().rstrip(".")
    return Problem(message, command, f"'{command} --help' shows what can be given")


def _bug_report(error: Exception, ctx: typer.Context) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
    versions = f"hec {version('hec')}, Python {platform.python_version()}, {sys.platform}"
    return str(
        Problem(
            f"internal error: {type(error).__name__}: {error}",
            f"hec {ctx.invoked_subcommand} ({where}); {versions}",
            "this is a bug in hec, and not your fault: please report it with this text and, if "
            "you can, the model; HEC_TRACEBACK=1 prints more",
        )
    )
