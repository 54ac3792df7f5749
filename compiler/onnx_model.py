"""Read an ONNX model and check it before anything is converted.

A model file is input from outside: nothing in it may crash the compiler, exhaust the memory, or
make it read a file outside the model's folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from hec.compiler.errors import CompileError, Problem, fail
from hec.compiler.onnx_functions import inline_functions
from hec.compiler.onnx_node import node_name, read_by
from hec.compiler.onnx_stored import (
    check_size,
    read_external_data,
    refuse_external_data,
)
from hec.compiler.onnx_values import DIVERGED, TOO_LARGE, Constant
from hec.compiler.onnx_wire import MAX_MESSAGES, has_too_many_messages

OLDEST_OPSET = 7
STANDARD = frozenset({"", "ai.onnx"})  # names of the domain of the standard operators
_MAX_FILE_BYTES = 2**31  # protobuf reads no larger message
_MAX_LISTED = 5  # operators in a message about all of them
EXPORT_AGAIN = "export the model again, and check it with onnx.checker.check_model"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A well-formed model: its nodes are in order, and every tensor they read exists."""

    name: str  # for messages
    proto: ModelProto
    opset: int
    constants: Mapping[str, Constant]
    nodes: tuple[NodeProto, ...]  # those that an output depends on


def load_model(source: str | os.PathLike[str] | bytes | ModelProto) -> LoadedModel:
    """Read and check a model; raise `CompileError` if it cannot be used."""
    name, proto = _read(source)
    if not proto.HasField("graph") or not proto.graph.output:
        raise fail("the file holds no ONNX network", name, EXPORT_AGAIN)
    _check_texts(name, proto)
    opset = _opset(name, proto)
    proto = inline_functions(name, proto)
    constants = _constants(name, proto.graph)
    _check_names(name, proto.graph)
    nodes = _live_nodes(proto.graph)
    return LoadedModel(name, proto, opset, constants, nodes)


def _read(source: str | os.PathLike[str] | bytes | ModelProto) -> tuple[str, ModelProto]:
    if isinstance(source, ModelProto):
        name = _name(source)
        refuse_external_data(name, source)
        return name, source
    if isinstance(source, bytes):
        proto = _parse(source, "model")
        refuse_external_data("model", proto)
        return _name(proto), proto
    path = Path(source)
    proto = _parse(_file_contents(path), path.name)
    read_external_data(path, proto)
    return path.name, proto


def _name(proto: ModelProto) -> str:
    name: object = proto.graph.name  # bytes, if it is not UTF-8
    return name if isinstance(name, str) and name else "model"


def _file_contents(path: Path) -> bytes:
    try:
        if not path.is_file():
            exists = "is not a regular file" if path.exists() else "does not exist"
            kind = "is a folder" if path.is_dir() else exists
            raise fail(f"the model file {kind}", str(path), "give the path of an .onnx file")
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise fail(
                f"the model file is too large: {size:,} bytes, and ONNX allows {_MAX_FILE_BYTES:,}",
                str(path),
                "save the weights as external data beside the model",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise fail(f"the model file cannot be read: {error}", str(path)) from error


def _parse(data: bytes, name: str) -> ModelProto:
    if not data:
        raise fail("the model is empty", name, EXPORT_AGAIN)
    if has_too_many_messages(data):
        raise fail(f"the model holds more than {MAX_MESSAGES:,} parts", name, TOO_LARGE)
    try:
        return onnx.load_model_from_string(data)
    except MemoryError:
        raise
    except Exception as error:  # protobuf has exceptions of its own
        raise fail(
            "the file is no ONNX model, or is cut off", name, "give an .onnx file; " + EXPORT_AGAIN
        ) from error


def _check_texts(name: str, proto: ModelProto) -> None:
    """Raise `CompileError` if a name is not UTF-8: protobuf returns such a text as bytes."""
    texts: list[object] = [entry.domain for entry in proto.opset_import]
    for function in proto.functions:
        texts += [function.domain, function.name, *function.input, *function.output]
        texts += _node_texts(function.node)
    texts += _node_texts(proto.graph.node)
    texts += [tensor.name for tensor in proto.graph.initializer]
    texts += [value.name for value in [*proto.graph.input, *proto.graph.output]]
    if not all(isinstance(text, str) for text in texts):
        raise fail("the model holds names that are not UTF-8", name, EXPORT_AGAIN)


def _node_texts(nodes: Iterable[NodeProto]) -> list[object]:
    texts: list[object] = []
    for node in nodes:
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    return texts


def _opset(name: str, proto: ModelProto) -> int:
    """Return the version of the standard operator set; the newest if no node belongs to it."""
    versions = [entry.version for entry in proto.opset_import if entry.domain in STANDARD]
    newest = int(onnx.defs.onnx_opset_version())
    place = f"{name}{_operators(proto)}"
    if not versions:
        inner = [node for function in proto.functions for node in function.node]
        if any(node.domain in STANDARD for node in [*proto.graph.node, *inner]):
            raise fail("the model does not state its ONNX operator set", place, EXPORT_AGAIN)
        return newest
    opset = int(versions[0])
    if opset < OLDEST_OPSET:
        raise fail(
            f"the model uses ONNX operator set {opset}; the oldest supported is {OLDEST_OPSET}",
            place,
            "export again with a newer opset_version, or convert with onnx.version_converter",
        )
    if opset > newest:
        raise fail(
            f"the model uses ONNX operator set {opset}; the installed onnx package "
            f"knows none after {newest}",
            place,
            "update the onnx package, or export with an older opset_version",
        )
    return opset


def _operators(proto: ModelProto) -> str:
    """Return ": operators ..." with the first few of the model's operators."""
    found = list(dict.fromkeys(node.op_type for node in proto.graph.node))
    if not found:
        return ""
    listed = ", ".join(found[:_MAX_LISTED])
    return f": operator{'s' if len(found) > 1 else ''} {listed}{' …' * (len(found) > _MAX_LISTED)}"


def _constants(name: str, graph: GraphProto) -> dict[str, Constant]:
    if graph.sparse_initializer:
        raise fail("sparse weights are not supported", name, "store the weights densely")
    constants: dict[str, Constant] = {}
    problems: list[Problem] = []
    for tensor in graph.initializer:
        place = f"{name}: tensor '{tensor.name}'"
        check_size(place, tensor)
        try:
            array = np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise fail(f"the weights cannot be read: {error}", place, EXPORT_AGAIN) from error
        if array.dtype.kind == "f" and np.isnan(array).any():
            where = place + read_by(graph.node, tensor.name)
            problems.append(Problem("the weights hold NaN", where, DIVERGED))
        constants[tensor.name] = array
    if problems:
        raise CompileError(*problems)
    return constants


def _check_names(name: str, graph: GraphProto) -> None:
    """Raise `CompileError` unless each tensor is made once, and before it is read."""
    makers = [(tensor.name, "an initializer") for tensor in graph.initializer]
    stored = {maker[0] for maker in makers}
    makers += [(value.name, "an input") for value in graph.input if value.name not in stored]
    known = {maker[0] for maker in makers}
    problems = [_twice(name, tensor) for tensor in _repeated([maker[0] for maker in makers])]
    problems += [_twice(name, tensor) for tensor in _repeated([v.name for v in graph.input])]
    later = {output for node in graph.node for output in node.output}
    for node in graph.node:
        place = f"{name}: node '{node_name(node)}'"
        for tensor in node.input:
            if tensor and tensor not in known:
                problems.append(_unmade(place, tensor, tensor in later))
        for tensor in filter(None, node.output):
            if tensor in known:
                problems.append(_twice(name, tensor))
            known.add(tensor)
    for value in graph.output:
        if value.name not in known:
            problems.append(_unmade(f"{name}: output '{value.name}'", value.name, False))
    problems += [_twice(name, tensor) for tensor in _repeated([v.name for v in graph.output])]
    if problems:
        raise CompileError(*problems)


def _repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _twice(name: str, tensor: str) -> Problem:
    return Problem(f"the name '{tensor}' is given to two tensors", name, EXPORT_AGAIN)


def _unmade(place: str, tensor: str, is_later: bool) -> Problem:
    if is_later:
        message = f"the tensor '{tensor}' is read before it is computed: a cycle, or a wrong order"
    else:
        message = f"the tensor '{tensor}' does not exist"
    return Problem(message, place, EXPORT_AGAIN)


def _live_nodes(graph: GraphProto) -> tuple[NodeProto, ...]:
    needed = {value.name for value in graph.output}
    live = []
    for node in reversed(graph.node):
        if needed.intersection(filter(None, node.output)):
            live.append(node)
            needed.update(node.input)
    return tuple(reversed(live))
