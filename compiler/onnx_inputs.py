"""Shapes: of the network's inputs, with dynamic axes fixed, and of the tensors in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from hec.compiler.errors import CompileError, Problem
from hec.compiler.onnx_model import EXPORT_AGAIN, LoadedModel
from hec.compiler.onnx_node import node_name, read_by
from hec.compiler.onnx_unsupported import KEEP_SHAPE
from hec.compiler.onnx_values import MAX_ELEMENTS, MAX_RANK, TOO_LARGE, Encrypted, Value
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Shape

REAL_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_INFERENCE_LIMIT = 2**29  # bytes of a model that shape inference may copy
_SMALL = 4096  # elements; larger constants never hold a shape


def input_shapes(model: LoadedModel, target: Target) -> dict[str, Shape]:
    """Return the shape of each input; raise `CompileError` listing those that cannot be used."""
    infos = [i for i in model.proto.graph.input if i.name not in model.constants]
    problems: list[Problem] = []
    shapes: dict[str, Shape] = {}
    for name in target.input_shapes:
        if name not in [info.name for info in infos]:
            listed = ", ".join(f"'{info.name}'" for info in infos)
            problems.append(
                Problem(f"the network has no input '{name}'", model.name, f"its inputs: {listed}")
            )
    for info in infos:
        where = f"{model.name}: input '{info.name}'{read_by(model.proto.graph.node, info.name)}"
        shape = _input_shape(where, info, target.input_shapes.get(info.name))
        if isinstance(shape, Problem):
            problems.append(shape)
        else:
            shapes[info.name] = shape
    if problems:
        raise CompileError(*problems)
    return shapes


def _input_shape(where: str, info: ValueInfoProto, given: Shape | None) -> Shape | Problem:
    kind = info.type.tensor_type
    if kind.elem_type not in REAL_TYPES:
        return Problem(
            f"the input holds {_element_kind(info)}; only real numbers can be encrypted",
            where,
            "export with a float input, and move lookups and conversions to the client",
        )
    declared = [_dimension(dim) for dim in kind.shape.dim] if kind.HasField("shape") else None
    shape = _fixed(declared, given)
    if shape is None:
        text = "no shape" if declared is None else f"the shape {_written(declared)}"
        if given is not None:
            return Problem(
                f"the input has {text}, which {given} does not fit",
                where,
                f"give all axes, in this order, with --input {info.name}=SHAPE",
            )
        return Problem(
            f"the input has {text}: its size is not known",
            where,
            f"give its shape with --input {info.name}=SHAPE, for example "
            f"--input {info.name}={_example(declared)}",
        )
    if len(shape) > MAX_RANK:
        message = f"the input has {len(shape)} axes; the limit is {MAX_RANK}"
        return Problem(message, where, TOO_LARGE)
    if min(shape, default=1) < 1:
        return Problem(f"the input of shape {shape} has no elements", where, EXPORT_AGAIN)
    if prod(shape) > MAX_ELEMENTS:
        return Problem(
            f"the input of shape {shape} has {prod(shape):,} elements; "
            f"the limit is {MAX_ELEMENTS:,}",
            where,
            TOO_LARGE,
        )
    return shape


def _element_kind(info: ValueInfoProto) -> str:
    if info.type.WhichOneof("value") != "tensor_type":
        return "no tensor"
    kind = info.type.tensor_type.elem_type
    known = kind in TensorProto.DataType.values() and kind != TensorProto.UNDEFINED
    return str(TensorProto.DataType.Name(kind)).lower() if known else "elements of no known type"


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _fixed(declared: list[int | None] | None, given: Shape | None) -> Shape | None:
    """Return the shape with all axes known, None if one is not or `given` contradicts it."""
    if given is not None:
        if declared is None:
            return tuple(given)
        fits = len(given) == len(declared) and all(
            size in (None, wanted) for size, wanted in zip(declared, given, strict=True)
        )
        return tuple(given) if fits else None
    if declared is None:
        return None
    sizes = [1 if not axis and size is None else size for axis, size in enumerate(declared)]
    return tuple(size for size in sizes if size is not None) if None not in sizes else None


def _written(declared: list[int | None]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in declared) + ")"


def _example(declared: list[int | None] | None) -> str:
    sizes = [None, None] if declared is None else declared
    return ",".join(
        str(size) if size is not None else ("32" if axis else "1")
        for axis, size in enumerate(sizes)
    )


def place(model: LoadedModel, values: Mapping[str, Value], nodes: Sequence[NodeProto]) -> list[str]:
    """Return where each node is, in ONNX words: its name, first output, and that one's shape.

    `values` are the inputs and whatever else is known.
    """
    inferred = _inferred_shapes(model.proto, values)
    places = []
    for node in nodes:
        output = next(iter(node.output), "")
        shape = f" of shape {inferred[output]}" if output in inferred else ""
        places.append(f"{model.name}: node '{node_name(node)}' -> tensor '{output}'{shape}")
    return places


def _inferred_shapes(proto: ModelProto, values: Mapping[str, Value]) -> dict[str, Shape]:
    """Return the shapes that inference finds once the known `values` replace their nodes."""
    if proto.ByteSize() > _INFERENCE_LIMIT:
        return {}
    fixed = ModelProto()
    fixed.CopyFrom(proto)
    for info in fixed.graph.input:
        value = values.get(info.name)
        if isinstance(value, Encrypted):
            kind = info.type.tensor_type.elem_type
            info.CopyFrom(helper.make_tensor_value_info(info.name, kind, value.shape))
    _simplify(fixed.graph, values)
    for info in fixed.graph.output:
        info.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}  # a message without shapes is better than none
    return dict(_known_shapes([*graph.value_info, *graph.output]))


def _simplify(graph: GraphProto, values: Mapping[str, Value]) -> None:
    """Replace small constants by their values, and drop operators that are not ONNX's own.

    Normalizations become Identity, because onnx does not know the shape of all their results.
    """
    nodes = []
    for node in graph.node:
        value = values.get(node.output[0]) if len(node.output) == 1 else None
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            continue
        if _breaks_inference(node):
            continue
        if isinstance(value, np.ndarray) and value.size <= _SMALL:
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        elif node.op_type in KEEP_SHAPE and node.input and node.output:
            nodes.append(helper.make_node("Identity", node.input[:1], node.output[:1]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _breaks_inference(node: NodeProto) -> bool:
    """Return whether onnx 1.23 would read outside its memory, or never end, to infer its shape."""
    return any(
        (attribute.name == "batch_dims" and attribute.i < 0)
        or (attribute.name == "equation" and not attribute.s.isascii())
        for attribute in node.attribute
    )


def _known_shapes(infos: list[ValueInfoProto]) -> list[tuple[str, Shape]]:
    known = []
    for info in infos:
        sizes = [_dimension(dim) for dim in info.type.tensor_type.shape.dim]
        if info.type.tensor_type.HasField("shape") and None not in sizes:
            known.append((info.name, tuple(size for size in sizes if size is not None)))
    return known
