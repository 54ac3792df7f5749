"""How many messages a protobuf holds, counted before it is parsed.

An empty message takes two bytes in a file and hundreds in memory, so that a small file could fill
any machine. The wire format tells where messages are without building them.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Protocol

from onnx import ModelProto

MAX_MESSAGES: Final = 1_000_000  # a network of a hundred thousand nodes has half of them
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # wire types


class _Field(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def message_type(self) -> _Descriptor | None: ...


class _Descriptor(Protocol):
    """Protobuf's description of a kind of message."""

    def __hash__(self) -> int: ...
    @property
    def fields(self) -> Sequence[_Field]: ...


def has_too_many_messages(data: bytes) -> bool:
    """Tell whether parsing `data` as a model would build more than `MAX_MESSAGES` messages.

    Where the data are malformed, what comes before is counted: the parser will refuse the rest.
    """
    try:
        return any(number >= MAX_MESSAGES for number, _ in enumerate(_all_messages(data)))
    except IndexError:  # a number is cut off
        return False


def _all_messages(data: bytes) -> Iterator[int]:
    """Yield where each message begins, however deep it lies in others."""
    waiting: list[tuple[int, int, _Descriptor]] = [(0, len(data), ModelProto.DESCRIPTOR)]
    while waiting:
        for found in _messages(data, *waiting.pop()):
            yield found[0]
            waiting.append(found)


def _messages(
    data: bytes, position: int, end: int, descriptor: _Descriptor
) -> Iterator[tuple[int, int, _Descriptor]]:
    """Yield where in a message others begin and end, and what they are."""
    inner = _messages_of(descriptor)
    while position < end:
        key, position = _varint(data, position)
        kind, number = key & 7, key >> 3
        if kind == _VARINT:
            _, position = _varint(data, position)
        elif kind == _LENGTH:
            length, position = _varint(data, position)
            if number in inner:
                yield position, min(position + length, end), inner[number]
            position += length
        else:  # a group has no length, and what is in it is counted as if it were outside
            position += {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, 0)


@lru_cache(maxsize=64)
def _messages_of(descriptor: _Descriptor) -> dict[int, _Descriptor]:
    fields = descriptor.fields
    return {x.number: x.message_type for x in fields if x.message_type is not None}


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position`, and where the next one begins."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise IndexError
