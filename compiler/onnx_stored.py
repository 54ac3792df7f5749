"""The tensors that a model stores, in its file or in others beside it.

Nothing outside the model's folder is ever read, and no more than its tensors hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path, PurePosixPath
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from hec.compiler.errors import fail
from hec.compiler.onnx_values import MAX_CONSTANT, MAX_RANK, TOO_LARGE

MAX_STORED: Final = 2**28  # elements of all tensors in other files: 1 GiB of float32
_MAX_DEPTH: Final = 25  # of graphs within graphs; protobuf itself reads no more than 33
_WIDEST: Final = 16  # bytes of an element
_SAVE_AGAIN: Final = "save the model again with onnx.save_model"


def refuse_external_data(name: str, proto: ModelProto) -> None:
    """Raise `CompileError` if weights are in other files, which only a path could lead to."""
    for tensor in _tensors(name, proto):
        if _is_external(tensor):
            raise fail(
                f"the weights '{tensor.name}' are in another file",
                name,
                "give the path of the .onnx file instead of its contents",
            )


def read_external_data(path: Path, proto: ModelProto) -> None:
    """Read the weights that are in other files; raise `CompileError` if that is not possible."""
    stored = 0
    external = [tensor for tensor in _tensors(path.name, proto) if _is_external(tensor)]
    for tensor in external:
        place = f"{path.name}: tensor '{tensor.name}'"
        check_size(place, tensor)
        stored += prod(tensor.dims)
        if stored > MAX_STORED:
            raise fail(
                f"the weights up to here have {stored:,} elements; the limit is {MAX_STORED:,}",
                place,
                TOO_LARGE,
            )
    for tensor in external:
        _read(path.parent, tensor, f"{path.name}: tensor '{tensor.name}'")


def _read(folder: Path, tensor: TensorProto, place: str) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not isinstance(location, str):
        raise fail("the name of the file with the weights is not UTF-8", place, _SAVE_AGAIN)
    target = _checked_location(place, folder, location)
    try:
        size = target.stat().st_size
        length = min(int(entries.get("length", size)), size)
        if length > _WIDEST * prod(tensor.dims):
            raise fail(
                f"{length:,} bytes of '{location}' are more than the weights of shape "
                f"{tuple(tensor.dims)} have",
                place,
                _SAVE_AGAIN,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # onnx warns of keys that it does not know
            load_external_data_for_tensor(tensor, str(folder))
        tensor.data_location = TensorProto.DEFAULT
    except (OSError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        message = f"the weights in '{location}' cannot be read: {error}"
        raise fail(message, place, _SAVE_AGAIN) from error


def _checked_location(place: str, folder: Path, location: str) -> Path:
    """Return the file; refuse one outside the model's folder, also through a symbolic link."""
    relative = PurePosixPath(location)
    try:
        target = (folder / location).resolve()
        inside = target.is_relative_to(folder.resolve())
        exists = target.is_file()
    except (OSError, ValueError) as error:  # too long, or with a null
        message = f"no file can have the name of the one with the weights: {error}"
        raise fail(message, place, _SAVE_AGAIN) from error
    if not location or relative.is_absolute() or ".." in relative.parts or not inside:
        raise fail(
            f"the weights are stored outside the model's folder: '{location}'",
            place,
            "put the file beside the model, and save the model with its relative name",
        )
    if not exists:
        raise fail(
            f"the file with the weights is missing: '{location}'",
            place,
            "copy it beside the model",
        )
    return target


def check_size(place: str, tensor: TensorProto) -> None:
    """Raise `CompileError` if no array could have the shape of the tensor, or none may."""
    shape = tuple(tensor.dims)
    if len(shape) > MAX_RANK:
        message = f"the weights have {len(shape)} axes; the limit is {MAX_RANK}"
        raise fail(message, place, TOO_LARGE)
    if min(shape, default=1) < 0 or prod(shape) > MAX_CONSTANT:
        raise fail(
            f"the weights of shape {shape} cannot be held: the limit is {MAX_CONSTANT:,} elements",
            place,
            TOO_LARGE,
        )


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _tensors(name: str, proto: ModelProto) -> Iterator[TensorProto]:
    """Yield every stored tensor, wherever in the model it hides."""
    try:
        yield from _graph_tensors(proto.graph, _MAX_DEPTH)
        for function in proto.functions:
            yield from _node_tensors(function.node, _MAX_DEPTH)
    except RecursionError:
        raise fail(
            f"graphs are nested more than {_MAX_DEPTH} deep in each other",
            name,
            "a program on encrypted data has no branches; export with fixed shapes, loops unrolled",
        ) from None


def _graph_tensors(graph: GraphProto, depth: int) -> Iterator[TensorProto]:
    if not depth:
        raise RecursionError
    yield from graph.initializer
    yield from _node_tensors(graph.node, depth)


def _node_tensors(nodes: Iterable[NodeProto], depth: int) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute, depth)


def _attribute_tensors(attribute: AttributeProto, depth: int) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
        yield sparse.values
        yield sparse.indices
    graphs = [attribute.g] if attribute.HasField("g") else []
    for graph in [*graphs, *attribute.graphs]:
        yield from _graph_tensors(graph, depth - 1)
