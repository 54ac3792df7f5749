"""Write the tables of docs/report.md: every field of the report, from where it is defined.

python tests/report_page.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Final, Literal, Union, get_args, get_origin

from hec.compiler.report_schema import described, records

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "report.md"
MARK: Final = "<!-- The tables below are written by tests/report_page.py. -->\n"
_WORDS: Final[dict[object, str]] = {
    int: "whole number",
    float: "number",
    str: "text",
    NoneType: "null",
}


def main() -> None:
    """Rewrite the page below its mark."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the whole page: what a person wrote, then the tables."""
    written = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    return written + MARK + "\n" + "\n".join(_tables())


def _tables() -> Iterator[str]:
    for record in records():
        yield f"### {record.__name__}\n"
        yield f"{(record.__doc__ or '').splitlines()[0]}\n"
        yield "| field | type | meaning |\n| --- | --- | --- |"
        for name, kind, meaning in described(record):
            yield f"| `{name}` | {_type(kind)} | {meaning} |"
        yield ""


def _type(kind: object) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in inner)
    if origin is tuple and inner[1] is Ellipsis:
        return f"list of {_type(inner[0])}"
    if origin is tuple:
        return f"{len(inner)} of {_type(inner[0])}"
    return _WORDS[kind]


if __name__ == "__main__":
    main()
