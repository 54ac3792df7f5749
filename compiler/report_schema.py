"""The report as a JSON document, and the JSON Schema that it follows.

Both come from the dataclasses of the report: types from their annotations, meanings from the texts
beside them. Within a version fields are only added; one that changes or goes makes a new version.

Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Final, Literal, Union, get_args, get_origin, get_type_hints

from hec.compiler.checked_json import Json
from hec.compiler.errors import InvalidProgram
from hec.compiler.report import Report

SCHEMA: Final = "hec report"
VERSION: Final = 1
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_WORDS: Final[dict[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    NoneType: "null",
}


def document(report: Report) -> dict[str, object]:
    """Return the report as JSON has it: the schema's name and version, then the fields."""
    return {"schema": SCHEMA, "version": VERSION, **asdict(report)}


def schema() -> dict[str, Json]:
    """Return the JSON Schema of `document`."""
    found = _record(Report)
    properties: dict[str, Json] = {
        "schema": {"const": SCHEMA, "description": "what this document is"},
        "version": {"const": VERSION, "description": "of the schema"},
        **_mapping(found["properties"]),
    }
    return {
        "$schema": DRAFT,
        "title": f"{SCHEMA}, version {VERSION}",
        **found,
        "properties": properties,
        "required": list(properties),
        "$defs": {record.__name__: _record(record) for record in records() if record is not Report},
    }


def records() -> tuple[type, ...]:
    """Return the dataclasses that a report is made of, itself first, each after what holds it."""
    found: dict[type, None] = {Report: None}
    waiting: list[type] = [Report]
    while waiting:
        new = [kind for _, hint, _ in described(waiting.pop(0)) for kind in _inside(hint)]
        waiting += [kind for kind in dict.fromkeys(new) if kind not in found]
        found |= dict.fromkeys(new)
    return tuple(found)


def described(record: type) -> Iterator[tuple[str, object, str]]:
    """Yield name, type and meaning of every field of a dataclass."""
    hints = get_type_hints(record, include_extras=True)
    for name in (field.name for field in fields(record)):
        hint = hints[name]
        if get_origin(hint) is not Annotated:
            raise InvalidProgram(f"{record.__name__}.{name} has no description")
        kind, text = get_args(hint)
        yield name, kind, str(text)


def _record(record: type) -> dict[str, Json]:
    properties: dict[str, Json] = {
        name: {**_type(hint), "description": text} for name, hint, text in described(record)
    }
    return {
        "type": "object",
        "description": (record.__doc__ or "").splitlines()[0],
        "properties": properties,
        "required": list(properties),
    }


def _type(hint: object) -> dict[str, Json]:
    """Return the schema of one type: of numbers, texts, records, tuples, and unions of those."""
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if isinstance(hint, type) and hint in _WORDS:
        return {"type": _WORDS[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        return {"anyOf": [_type(each) for each in inner]}
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return {"type": "array", "items": _type(inner[0])}
    if origin is tuple:
        length = len(inner)
        items: list[Json] = [_type(each) for each in inner]
        return {"type": "array", "prefixItems": items, "minItems": length, "maxItems": length}
    raise InvalidProgram(f"the schema of reports has no word for {hint}")


def _inside(hint: object) -> list[type]:
    """Return the dataclasses in a type."""
    if isinstance(hint, type) and is_dataclass(hint):
        return [hint]
    return [kind for each in get_args(hint) for kind in _inside(each)]


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
