"""Frozen dataclasses as JSON plus a list of arrays, and back, checked against the type hints.

One encoder and one decoder serve every instruction and every part of a plan: the dataclass is the
schema. The forms are

    dataclass  {"is": class name, field: value, ...}      tuple      [value, ...]
    array      {"array": position in the list}            csr_array  {"csr": [data, indices,
    None, bool, int, float, str as in JSON                            indptr], "shape": [m, n]}

A field with `metadata=NOT_STORED` is left out, and takes its default when read. One with
`metadata=DEFAULTED` is left out where it has its default: files from before it was there have none.
"""

from __future__ import annotations

import dataclasses
import operator
import types
import typing
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.checked_json import Json, Node, damaged
from hec.compiler.errors import InvalidProgram

NOT_STORED: Final = {"stored": False}
DEFAULTED: Final = {"defaulted": True}

AnyArray = NDArray[np.generic]
Record = TypeVar("Record")
_Fields = dict[str, object]  # type hint of every stored field


def encode(value: object, arrays: list[AnyArray]) -> Json:
    """Return the JSON form of `value`; append the arrays it refers to."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return operator.index(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, tuple):
        return [encode(item, arrays) for item in value]
    if isinstance(value, np.ndarray):
        return {"array": _append(value, arrays)}
    if isinstance(value, sp.csr_array):
        parts: list[Json] = [_append(x, arrays) for x in (value.data, value.indices, value.indptr)]
        return {"csr": parts, "shape": [int(n) for n in value.shape]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__, **_encode_fields(value, arrays)}
    raise InvalidProgram(f"a plan cannot hold a value of type {type(value).__name__}")


def decode(kind: type[Record], node: Node, arrays: Sequence[AnyArray]) -> Record:
    """Return the `kind` that `node` stands for; raise `CompileError` at the first misfit."""
    value = _decode(kind, node, arrays)
    if not isinstance(value, kind):
        raise InvalidProgram(f"decoded {type(value).__name__} instead of {kind.__name__}")
    return value


def _encode_fields(record: object, arrays: list[AnyArray]) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    defaults = _defaults(type(record))
    for name, kind in _stored_fields(type(record)).items():
        value = getattr(record, name)
        if name in defaults and value == defaults[name]:
            continue
        fields[name] = encode(float(value) if kind is float else value, arrays)
    return fields


def _append(array: AnyArray, arrays: list[AnyArray]) -> int:
    arrays.append(array)
    return len(arrays) - 1


def _stored_fields(kind: type) -> _Fields:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {f.name: hints[f.name] for f in fields if f.metadata.get("stored", True)}


def _defaults(kind: type) -> _Fields:
    """Return the default of every field that is left out where it has it."""
    return {f.name: f.default for f in dataclasses.fields(kind) if f.metadata.get("defaulted")}


def _decode(kind: object, node: Node, arrays: Sequence[AnyArray]) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _decode_tuple(arguments, node, arrays)
    if origin in (np.ndarray, NDArray):  # numpy's alias stays unexpanded from Python 3.12 on
        element = arguments[0] if origin is NDArray else typing.get_args(arguments[1])[0]
        return _decode_array(np.dtype(element), node, arrays)
    if origin is typing.Literal:
        return _decode_literal(arguments, node)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, node, arrays)
    if kind is sp.csr_array:
        return _decode_csr(node, arrays)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, node, arrays)
    return _decode_plain(kind, node)


def _decode_plain(kind: object, node: Node) -> object:
    if kind is bool:
        return node.boolean()
    if kind is int:
        return node.integer()
    if kind is float:
        return node.number()
    if kind is str:
        return node.text()
    raise InvalidProgram(f"a plan cannot hold a value of type {kind}")


def _decode_dataclass(kind: type, node: Node, arrays: Sequence[AnyArray]) -> object:
    hints = _stored_fields(kind)
    absent = _defaults(kind).keys() - node.mapping().keys()
    hints = {name: hint for name, hint in hints.items() if name not in absent}
    values = node.fields("is", *hints)
    if values["is"].value != kind.__name__:
        raise values["is"].wrong(kind.__name__)
    return kind(**{name: _decode(hint, values[name], arrays) for name, hint in hints.items()})


def _decode_union(kinds: tuple[object, ...], node: Node, arrays: Sequence[AnyArray]) -> object:
    if node.value is None and type(None) in kinds:
        return None
    candidates = [kind for kind in kinds if kind is not type(None)]
    if len(candidates) == 1:
        return _decode(candidates[0], node, arrays)
    by_name = {kind.__name__: kind for kind in candidates if isinstance(kind, type)}
    tag = node.mapping().get("is", Node(None, node.place))
    name = tag.text()
    if name not in by_name:
        raise tag.wrong(f"one of {', '.join(sorted(by_name))}")
    return _decode(by_name[name], node, arrays)


def _decode_literal(choices: tuple[object, ...], node: Node) -> object:
    for choice in choices:
        if node.value == choice and type(node.value) is type(choice):
            return choice
    raise node.wrong(f"one of {', '.join(map(str, choices))}")


def _decode_tuple(kinds: tuple[object, ...], node: Node, arrays: Sequence[AnyArray]) -> object:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return _decode_list(kinds[0], node, arrays)
    if len(node.elements()) != len(kinds):
        raise node.wrong(f"a list of {len(kinds)}")
    items = zip(kinds, node.items(), strict=True)
    return tuple(_decode(kind, item, arrays) for kind, item in items)


def _decode_list(kind: object, node: Node, arrays: Sequence[AnyArray]) -> object:
    if kind is int:
        return node.integers()
    if kind is float:
        return node.numbers()
    if kind is str:
        return node.texts()
    return tuple(_decode(kind, item, arrays) for item in node.items())


def _decode_array(dtype: np.dtype[np.generic], node: Node, arrays: Sequence[AnyArray]) -> AnyArray:
    array = _array(node.fields("array")["array"], arrays)
    if array.dtype != dtype:
        raise damaged(f"expected an array of {dtype}, found {array.dtype}", node.place)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise damaged("an array holds values that are not finite", node.place)
    return array


def _array(node: Node, arrays: Sequence[AnyArray]) -> AnyArray:
    position = node.integer()
    if not 0 <= position < len(arrays):
        raise node.wrong(f"the number of one of {len(arrays)} arrays")
    return arrays[position]


def _decode_csr(node: Node, arrays: Sequence[AnyArray]) -> sp.csr_array:
    values = node.fields("csr", "shape")
    parts, sizes = values["csr"], values["shape"]
    if len(parts.elements()) != 3 or len(sizes.elements()) != 2:
        raise node.wrong("three arrays and a shape of two")
    data, indices, indptr = (_array(part, arrays) for part in parts.items())
    rows, columns = sizes.integers()
    if not _is_csr(data, indices, indptr, rows, columns):
        raise damaged("a sparse matrix has rows or columns out of range", node.place)
    return sp.csr_array((data, indices, indptr), shape=(rows, columns))


def _is_csr(data: AnyArray, indices: AnyArray, indptr: AnyArray, rows: int, columns: int) -> bool:
    flat = data.ndim == indices.ndim == indptr.ndim == 1
    whole = indices.dtype in (np.int32, np.int64) and indptr.dtype == indices.dtype
    if not (flat and whole and data.dtype in (np.float32, np.float64)):
        return False
    if len(indptr) != rows + 1 or len(indices) != len(data) or not 1 <= columns < 2**31:
        return False
    starts = indptr.astype(np.int64)
    if starts[0] != 0 or starts[-1] != len(data) or (np.diff(starts) < 0).any():
        return False
    if len(data) == 0:
        return True
    columns_fit = 0 <= int(indices.astype(np.int64).min()) and int(indices.max()) < columns
    return columns_fit and bool(np.isfinite(data).all())
