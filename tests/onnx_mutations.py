"""Damage to ONNX models: of their structure, of what is in it, and of the raw bytes.

A model comes from outside, and whatever arrives the import must return a graph or a `CompileError`.
Every mutation takes a model and a source of randomness, and may do nothing where nothing fits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from onnx_oracle import Case, network, node, random
from test_onnx_movement import CASES as MOVEMENTS
from test_onnx_operators import CASES as OPERATORS

ROOT = Path(__file__).resolve().parent.parent
LARGEST_SEED = 100_000  # bytes of a model of the corpus

NUMBERS = (0, 1, -1, 2, 3, 7, 64, 255, 4096, 10**6, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
REALS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
NAMES = ("", "x", "y", "w", "\x1b[2J", "\u202e", "a" * 5000, "with space", "\n  --> forged", "\0")
_ATTRIBUTES = (
    "axis axes perm pads strides dilations kernel_shape group keepdims alpha to auto_pad "
    "blocksize mode value num_outputs ceil_mode count_include_pad transA then_branch"
)
_OPERATORS = (
    "Abs Add ArgMax AveragePool BatchNormalization Cast Clip Compress Concat Constant "
    "ConstantOfShape Conv ConvTranspose CumSum DepthToSpace Div Dropout Einsum Expand EyeLike "
    "Flatten Gather GatherND Gemm GlobalAveragePool Identity If LayerNormalization Loop LSTM "
    "MatMul Max MaxPool Mean Mod Mul NonZero OneHot Pad Pow PRelu QuantizeLinear Range "
    "Reshape ReduceL2 ReduceMean ReduceSum Relu Resize Scan ScatterND SequenceConstruct Shape "
    "Size Slice Softmax SpaceToDepth Split Squeeze Sub Sum Tile TopK Transpose Trilu Unique "
    "Unsqueeze Upsample Where Frobnicate"
)
OPERATORS_TRIED = tuple(_OPERATORS.split())


def corpus() -> list[bytes]:
    """Return the models to start from: small networks of others, and one for every operator."""
    files = sorted((ROOT / "tests" / "data").glob("*.onnx"))
    found = [path.read_bytes() for path in files if path.stat().st_size <= LARGEST_SEED]
    cases = [*OPERATORS.values(), *MOVEMENTS.values()]
    return [*found, *(_small(Case(*case).model()) for case in cases), *map(_small, _written())]


def _small(model: ModelProto) -> bytes:
    return bytes(model.SerializeToString())


def _written() -> list[ModelProto]:
    """Models of what single operators do not have: chains, functions, branches, constants."""
    shapes: dict[str, tuple[int | str, ...]] = {"x": (1, 2, 4, 4)}
    chain = [
        node("Shape", "x", "s"),
        node("Gather", "s,zero", "n", axis=0),
        node("Unsqueeze", "n,axes", "u"),
        node("Concat", "u,minus", "t", axis=0),
        node("Reshape", "x,t", "f"),
        node("MatMul", "f,w", "m"),
        node("Relu", "m", "r"),
        node("Sigmoid", "r", "g"),
        node("Mul", "r,g", "y"),
    ]
    indices = {"zero": 0, "axes": [0], "minus": [-1]}
    made = [network(chain, shapes, {**indices, "w": random(32, 3)})]
    sizes = [
        node("Range", "a,b,c", "r"),
        node("ConstantOfShape", "r", "z"),
        node("Tile", "z,r", "t"),
        node("Expand", "t,r", "e"),
        node("Pad", "e,p", "q"),
        node("ReduceSum", "q", "k", keepdims=0),
        node("Add", "x,k", "y"),
    ]
    made.append(network(sizes, shapes, {"a": 1, "b": 3, "c": 1, "p": [0, 1, 1, 0]}))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [node("Mul", "a,a", "s"), node("Add", "s,a", "b")]
    function = helper.make_function("own", "F", ["a"], ["b"], body, opsets)
    calls = [
        helper.make_node("F", ["x"], ["h"], domain="own"),
        helper.make_node("F", ["h"], ["y"], domain="own"),
    ]
    model = network(calls, shapes)
    model.functions.append(function)
    model.opset_import.append(opsets[1])
    made.append(model)
    branch = helper.make_graph(
        [node("Relu", "x", "q")], "b", [], [helper.make_tensor_value_info("q", 1, None)]
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    made.append(network([choice], shapes, {"c": [1]}))
    return made


def mutated(seed: bytes, others: list[bytes], source: Random) -> bytes:
    """Return `seed` after a few mutations, most of them of its structure."""
    data = seed
    if source.random() < 0.85:
        model = ModelProto.FromString(data)
        for _ in range(source.choice((1, 1, 1, 2, 3, 6))):
            source.choice(STRUCTURAL)(model, source)
        data = bytes(model.SerializeToString())
    if source.random() < 0.25:
        data = source.choice(RAW)(data, source.choice(others), source)
    return data


def _some(items: Any, source: Random) -> Any:
    return source.choice(list(items)) if len(items) else None


def _any_node(model: ModelProto, source: Random) -> NodeProto | None:
    lists = [model.graph.node, *(function.node for function in model.functions)]
    found: NodeProto | None = _some(source.choice(lists), source)
    return found


def _tensor_names(model: ModelProto) -> list[str]:
    graph = model.graph
    names = [name for each in graph.node for name in [*each.input, *each.output]]
    return [*names, *(t.name for t in graph.initializer), *(v.name for v in graph.input), *NAMES]


def _drop_node(model: ModelProto, source: Random) -> None:
    if model.graph.node:
        del model.graph.node[source.randrange(len(model.graph.node))]


def _repeat_node(model: ModelProto, source: Random) -> None:
    if picked := _some(model.graph.node, source):
        model.graph.node.append(picked)


def _swap_nodes(model: ModelProto, source: Random) -> None:
    nodes = list(model.graph.node)
    source.shuffle(nodes)
    copies = [NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _rename_tensor(model: ModelProto, source: Random) -> None:
    picked = _any_node(model, source)
    if picked is not None and (names := _some((picked.input, picked.output), source)):
        names[source.randrange(len(names))] = source.choice(_tensor_names(model))


def _rename_node(model: ModelProto, source: Random) -> None:
    if (picked := _any_node(model, source)) is not None:
        picked.name = source.choice(NAMES)


def _change_operator(model: ModelProto, source: Random) -> None:
    if (picked := _any_node(model, source)) is not None:
        picked.op_type = source.choice(OPERATORS_TRIED)


def _change_domain(model: ModelProto, source: Random) -> None:
    if (picked := _any_node(model, source)) is not None:
        picked.domain = source.choice(("", "ai.onnx", "ai.onnx.ml", "own", "\x1b[0m"))


def _change_inputs(model: ModelProto, source: Random) -> None:
    if (picked := _any_node(model, source)) is None:
        return
    if picked.input and source.random() < 0.5:
        del picked.input[source.randrange(len(picked.input))]
    else:
        picked.input.append(source.choice(_tensor_names(model)))


def _change_outputs(model: ModelProto, source: Random) -> None:
    if (picked := _any_node(model, source)) is None:
        return
    if picked.output and source.random() < 0.5:
        del picked.output[source.randrange(len(picked.output))]
    else:
        picked.output.append(source.choice((*NAMES, "another")))


def _change_attribute(model: ModelProto, source: Random) -> None:
    picked = _any_node(model, source)
    if picked is None or not picked.attribute:
        return
    attribute = source.choice(list(picked.attribute))
    if source.random() < 0.1:
        attribute.type = source.choice(list(AttributeProto.AttributeType.values()))
    attribute.i = source.choice(NUMBERS)
    attribute.f = source.choice(REALS)
    attribute.s = source.choice((b"", b"SAME_UPPER", b"\xff\xfe", b"linear", b"reflect"))
    for index in range(len(attribute.ints)):
        if source.random() < 0.5:
            attribute.ints[index] = source.choice(NUMBERS)
    if source.random() < 0.2:
        attribute.ints.append(source.choice(NUMBERS))
    if attribute.HasField("t"):
        _damage(attribute.t, source)


def _add_attribute(model: ModelProto, source: Random) -> None:
    picked = _any_node(model, source)
    if picked is None:
        return
    name = source.choice(_ATTRIBUTES.split())
    values: tuple[Any, ...] = (
        source.choice(NUMBERS),
        source.choice(REALS),
        [source.choice(NUMBERS) for _ in range(source.randrange(1, 7))],
        "text",
        TensorProto(),
        network([node("Relu", "x")], {"x": (1,)}).graph,
    )
    picked.attribute.append(helper.make_attribute(name, source.choice(values)))


def _drop_attribute(model: ModelProto, source: Random) -> None:
    picked = _any_node(model, source)
    if picked is not None and picked.attribute:
        del picked.attribute[source.randrange(len(picked.attribute))]


def _damage(tensor: TensorProto, source: Random) -> None:
    kind = source.randrange(6)
    if kind == 0 and tensor.dims:
        tensor.dims[source.randrange(len(tensor.dims))] = source.choice(NUMBERS)
    elif kind == 1:
        tensor.data_type = source.choice((*TensorProto.DataType.values(), 99))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: source.randrange(len(tensor.raw_data) + 1)]
    elif kind == 3:
        tensor.dims.append(source.choice(NUMBERS))
    elif kind == 4:
        tensor.raw_data = source.randbytes(len(tensor.raw_data))
    else:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=source.choice(("/etc/passwd", "..", "a\0")))


def _damage_tensor(model: ModelProto, source: Random) -> None:
    if picked := _some(model.graph.initializer, source):
        _damage(picked, source)


def _drop_tensor(model: ModelProto, source: Random) -> None:
    if model.graph.initializer:
        del model.graph.initializer[source.randrange(len(model.graph.initializer))]


def _change_integers(model: ModelProto, source: Random) -> None:
    """Change a stored whole number: shapes, pads, axes, repeats are such constants."""
    stored = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64 and t.raw_data]
    if picked := _some(stored, source):
        at = 8 * source.randrange(max(len(picked.raw_data) // 8, 1))
        number = source.choice(NUMBERS).to_bytes(8, "little", signed=True)
        picked.raw_data = picked.raw_data[:at] + number + picked.raw_data[at + 8 :]


def _change_input(model: ModelProto, source: Random) -> None:
    picked = _some(model.graph.input, source)
    if picked is None:
        return
    kind = picked.type.tensor_type
    choice = source.randrange(5)
    if choice == 0 and kind.shape.dim:
        kind.shape.dim[source.randrange(len(kind.shape.dim))].dim_value = source.choice(NUMBERS)
    elif choice == 1:
        kind.elem_type = source.choice((*TensorProto.DataType.values(), 99))
    elif choice == 2:
        kind.shape.dim.add(dim_value=source.choice(NUMBERS))
    elif choice == 3:
        picked.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    else:
        picked.name = source.choice(NAMES)


def _change_opset(model: ModelProto, source: Random) -> None:
    if picked := _some(model.opset_import, source):
        picked.version = source.choice((*NUMBERS, *range(6, 26)))
        if source.random() < 0.2:
            picked.domain = source.choice(("", "ai.onnx", "own"))


def _change_output(model: ModelProto, source: Random) -> None:
    if source.random() < 0.3 or not model.graph.output:
        model.graph.output.add(name=source.choice(_tensor_names(model)))
    else:
        source.choice(list(model.graph.output)).name = source.choice(_tensor_names(model))


def _close_cycle(model: ModelProto, source: Random) -> None:
    nodes = [each for each in model.graph.node if each.input and each.output]
    if nodes:
        source.choice(nodes).input[0] = source.choice(nodes).output[0]


def _nest(model: ModelProto, source: Random) -> None:
    picked = _any_node(model, source)
    if picked is None:
        return
    for _ in range(source.choice((1, 3, 20))):
        inner = helper.make_graph([picked], "g", [], [])
        picked = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
        if picked.ByteSize() > LARGEST_SEED:
            break
    model.graph.node.append(picked)


STRUCTURAL: tuple[Callable[[ModelProto, Random], None], ...] = (
    _drop_node,
    _repeat_node,
    _swap_nodes,
    _rename_tensor,
    _rename_node,
    _change_operator,
    _change_operator,
    _change_domain,
    _change_inputs,
    _change_outputs,
    _change_attribute,
    _change_attribute,
    _add_attribute,
    _add_attribute,
    _drop_attribute,
    _damage_tensor,
    _damage_tensor,
    _drop_tensor,
    _change_integers,
    _change_integers,
    _change_input,
    _change_opset,
    _change_output,
    _close_cycle,
    _nest,
)


def _flip(data: bytes, other: bytes, source: Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(source.choice((1, 1, 4, 32))):
        if flipped:
            flipped[source.randrange(len(flipped))] ^= 1 << source.randrange(8)
    return bytes(flipped)


def _truncate(data: bytes, other: bytes, source: Random) -> bytes:
    return data[: source.randrange(len(data) + 1)]


def _splice(data: bytes, other: bytes, source: Random) -> bytes:
    return data[: source.randrange(len(data) + 1)] + other[source.randrange(len(other) + 1) :]


def _repeat_bytes(data: bytes, other: bytes, source: Random) -> bytes:
    """Protobuf merges what comes twice: the end of a file may bring fields for a second time."""
    begin = source.randrange(len(data) + 1)
    return data + data[begin : begin + source.randrange(len(data) + 1)]


RAW: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    _flip,
    _truncate,
    _splice,
    _repeat_bytes,
)
