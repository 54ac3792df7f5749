"""One row per network: measured in a process of its own, kept as a JSON line, shown as a table."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

Value: TypeAlias = "str | float | None"
Row: TypeAlias = dict[str, Value]
MINIMUM_WIDTH = 150  # of the printed tables, in characters
MARK = "row: "  # starts the line of a child's output that holds its row


@dataclass(frozen=True)
class Column:
    """A column of the printed tables."""

    title: str
    key: str
    show: Callable[[float], str] = lambda number: f"{number:.3g}"

    def cell(self, row: Row) -> str:
        """Return the text of this column in `row`."""
        value = row.get(self.key)
        if value is None:
            return "-"
        return value if isinstance(value, str) else self.show(value)


def whole(number: float) -> str:
    """Show a count."""
    return f"{number:.0f}"


def tenths(number: float) -> str:
    """Return the number with one decimal."""
    return f"{number:.1f}"


def percent(number: float) -> str:
    """Show a share."""
    return f"{100 * number:.2f}"


def megabytes(number: float) -> str:
    """Show bytes in units of 10^6."""
    return f"{number / 1e6:.1f}"


def measure_each(
    script: Path, names: Sequence[str], arguments: Sequence[str], folder: Path, again: bool
) -> list[Row]:
    """Run `script --child NAME` for every name that has no row yet; return the rows of all.

    Rows are appended to `folder`/<script>.jsonl as they come, so that a run can be resumed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / f"{script.stem}.jsonl"
    rows = {} if again or not store.exists() else _read(store)
    for name in names:
        if "error" in rows.get(name, {"error": ""}):
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows[name] = {"model": name, **_measure(script, name, arguments)}
            lines = [json.dumps(row) for row in rows.values()]
            store.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [rows[name] for name in names]


def _read(store: Path) -> dict[str, Row]:
    rows = [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]
    return {row["model"]: row for row in rows}


def _measure(script: Path, name: str, arguments: Sequence[str]) -> Row:
    command = [sys.executable, str(script), "--child", name, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in run.stdout.splitlines():
        if line.startswith(MARK):
            row: Row = json.loads(line.removeprefix(MARK))
            return row
    sys.stderr.write(run.stderr)
    reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
    return {"error": reason}


def hand_over(row: Row) -> None:
    """Give the parent process the row that this child measured."""
    print(MARK + json.dumps(row))


def show(tables: Mapping[str, Sequence[Column]], rows: Sequence[Row], output: Path) -> None:
    """Print the tables (title: columns), and write them as Markdown with how they were made."""
    console = Console()
    console = Console(width=max(console.width, MINIMUM_WIDTH))
    for title, columns in tables.items():
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column.title, justify="left" if column.key == "model" else "right")
        for row in rows:
            table.add_row(*(column.cell(row) for column in columns))
        console.print(table)
    output.write_text(_markdown(tables, rows), encoding="utf-8")
    print(f"wrote {output}")


def _markdown(tables: Mapping[str, Sequence[Column]], rows: Sequence[Row]) -> str:
    lines = [f"- {line}" for line in _circumstances()]
    for title, columns in tables.items():
        lines += ["", f"## {title}", "", "| " + " | ".join(c.title for c in columns) + " |"]
        lines.append("| --- |" + " ---: |" * (len(columns) - 1))
        lines += ["| " + " | ".join(column.cell(row) for column in columns) + " |" for row in rows]
    failures = [f"- {row['model']}: {row['error']}" for row in rows if "error" in row]
    return "\n".join([*lines, *(["", "Not measured:", "", *failures] if failures else [])]) + "\n"


def _circumstances() -> list[str]:
    command = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *_shareable(sys.argv[1:])])
    packages = ("numpy", "onnxruntime", "tenseal", "openfhe")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages if _version(name))
    return [
        f"command: `{command}`",
        f"machine: {_processor()}, {os.cpu_count()} cores, {_memory() / 1e9:.0f} GB",
        f"software: Python {platform.python_version()}, {versions}",
        f"date: {datetime.date.today().isoformat()}",
    ]


def _version(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _shareable(arguments: list[str]) -> list[str]:
    """Return the arguments without absolute paths, which say nothing on another machine."""
    return ["FOLDER" if os.path.isabs(argument) else argument for argument in arguments]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
