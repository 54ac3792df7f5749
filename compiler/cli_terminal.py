"""What the commands share: progress on a terminal, tables, numbers with units, JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

from hec.compiler.cli_errors import printable
from hec.compiler.quantities import duration, interval, share, size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.table import Table

Progress = Callable[[str, int, int], None]  # phase, done, of how many (0: not known)
__all__ = (
    "STORY_WIDTH", "Progress", "duration", "interval", "progress", "share", "show_facts",
    "show_json", "show_story", "show_table", "size",
)  # fmt: skip
STORY_WIDTH: Final = 100  # columns of running text
TABLE_WIDTH: Final = 160  # columns of a table


@contextmanager
def progress(moves: bool = True) -> Iterator[Progress]:
    """Yield a function that shows what goes on: on stderr, if that is a terminal.

    What `moves` does so on a thread of its own, so that no worker process can be forked.
    """
    if not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=moves) as bars:
        task = bars.add_task("", total=None)

        def show(phase: str, done: int, total: int) -> None:
            bars.update(task, description=phase, completed=done, total=total or None)
            bars.refresh()

        yield show


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> None:
    """Print a table: the first column of text, the others numbers.

    Given a `width` in characters, its columns stand close together, in no more than that.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        box=box.SIMPLE,
        title_justify="left",
        pad_edge=False,
        collapse_padding=width is not None,
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    _show(table, rows, width or TABLE_WIDTH)


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print lines of a name and what is to say about it."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        typer.echo(printable(f"{name:<{width}}  {text}"))


def show_story(lines: Sequence[tuple[str, str]]) -> None:
    """Print lines of a name and what is to say about it, wrapped to at most `STORY_WIDTH`."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    _show(table, lines, STORY_WIDTH)


def _show(table: Table, rows: Sequence[Sequence[str]], width: int) -> None:
    """Fill the table, and print it in at most `width` columns, with no blanks at ends of lines."""
    from rich.console import Console
    from rich.text import Text

    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if sys.stdout.isatty():
        width = min(Console(file=sys.stdout).width, width)
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as shown:
        console.print(table)
    for line in shown.get().splitlines():
        typer.echo(line.rstrip())


def show_json(value: DataclassInstance | dict[str, object]) -> None:
    """Print a dataclass, or a dictionary, as JSON."""
    plain = value if isinstance(value, dict) else dataclasses.asdict(value)
    typer.echo(json.dumps(plain, indent=2, allow_nan=False))
