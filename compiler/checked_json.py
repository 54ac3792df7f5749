"""JSON from an untrusted file: every value is asked for by type, every complaint names its place.

A `Node` is a JSON value together with the path that leads to it, so that a wrong value deep inside
a plan is reported as `model.hec: client/part.json: inputs[0].scale`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import NoReturn, TypeAlias, TypeGuard

from hec.compiler.errors import CompileError, fail

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

DAMAGED_HELP = "copy the file again from where it was made, or make it again"


def damaged(message: str, place: str) -> CompileError:
    """Return the error for content that no version of hec would have written."""
    return fail(f"The file is damaged: {message}", place, DAMAGED_HELP)


@dataclass(frozen=True)
class Node:
    """A JSON value and the path to it; every getter raises `CompileError` on another type."""

    value: Json
    place: str

    def integer(self) -> int:
        """Return a whole number of at most 64 bits."""
        if not _is_whole(self.value):
            raise self.wrong("a whole number")
        return self.value

    def number(self) -> float:
        """Return a finite number."""
        if type(self.value) is int:
            return float(self.integer())
        if not _is_finite(self.value):
            raise self.wrong("a finite number")
        return self.value

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def items(self) -> Iterator[Node]:
        """Return the elements of a list; each becomes a `Node` when it is asked for."""
        return (self._item(i, value) for i, value in enumerate(self.elements()))

    def integers(self) -> tuple[int, ...]:
        """Return a list of whole numbers, of which there may be millions: without a `Node` each."""
        return tuple(
            value if _is_whole(value) else self._item(i, value).integer()
            for i, value in enumerate(self.elements())
        )

    def numbers(self) -> tuple[float, ...]:
        """Return a list of finite numbers, as quickly."""
        return tuple(
            float(value) if _is_finite(value) or _is_whole(value) else self._item(i, value).number()
            for i, value in enumerate(self.elements())
        )

    def texts(self) -> tuple[str, ...]:
        """Return a list of strings, as quickly."""
        return tuple(
            value if isinstance(value, str) else self._item(i, value).text()
            for i, value in enumerate(self.elements())
        )

    def elements(self) -> list[Json]:
        """Return a list, whatever it holds."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return self.value

    def mapping(self) -> dict[str, Node]:
        """Return the values of an object, whatever its keys."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return {key: Node(item, self._below(key)) for key, item in self.value.items()}

    def fields(self, *names: str) -> dict[str, Node]:
        """Return the values of an object that has exactly the keys `names`."""
        values = self.mapping()
        if values.keys() != set(names):
            raise self.wrong(f"an object with {', '.join(sorted(names))}")
        return values

    def wrong(self, expected: str) -> CompileError:
        """Return the error that says what was expected here, and what there is."""
        return damaged(f"expected {expected}, found {_shown(self.value)}", self.place)

    def _item(self, position: int, value: Json) -> Node:
        return Node(value, f"{self.place}[{position}]")

    def _below(self, key: str) -> str:
        return f"{self.place}{'' if self.place.endswith(': ') else '.'}{key[:80]}"


def parse(data: bytes, place: str) -> Node:
    """Return the root of a JSON document; `place` names the document in errors."""
    try:
        value = json.loads(
            data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise damaged(f"invalid JSON ({error})", place) from None
    return Node(value, f"{place}: ")


def dump(value: Json) -> bytes:
    """Return the one canonical JSON text of a value: the same value gives the same bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _is_whole(value: Json) -> TypeGuard[int]:
    return type(value) is int and -(2**63) <= value < 2**64


def _is_finite(value: Json) -> TypeGuard[float]:
    return isinstance(value, float) and isfinite(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
