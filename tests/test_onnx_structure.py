"""What the import makes of whole networks: nothing for reshapes, constants folded, names kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Input, Linear, TensorGraph, inputs
from onnx_oracle import assert_same_as_onnxruntime, import_graph, network, node, random, results


def _kinds(graph: TensorGraph) -> list[str]:
    return [type(operation).__name__ for operation in graph.operations]


def test_pure_reshapes_add_no_operation() -> None:
    nodes = [
        node("Reshape", "x,s", "a"),
        node("Unsqueeze", "a,zero", "b"),
        node("Transpose", "b", "c", perm=[1, 0, 2, 3]),
        node("Squeeze", "c", "d"),
        node("Flatten", "d", "e"),
        node("Identity", "e", "f"),
        node("Expand", "f,one", "g"),
        node("Tile", "g,ones", "h"),
        node("Slice", "h,zero,many", "i"),
        node("Pad", "i,none", "j"),
        node("Concat", "j", "k", axis=0),
        node("Cast", "k", "l", to=TensorProto.DOUBLE),
        node("Dropout", "l", "m"),
        node("Add", "m,nothing", "y"),
    ]
    constants = {
        "s": [4, 3, 2],
        "zero": [0],
        "one": [1],
        "ones": [1, 1],
        "many": [99],
        "none": [0, 0, 0, 0],
        "nothing": np.zeros(1),
    }
    graph = import_graph(network(nodes, {"x": (2, 3, 4)}, constants))
    assert _kinds(graph) == ["Input"]
    (step,) = graph.outputs[0].epilogue
    assert (step.name, step.shape) == ("reshape", (4, 6))


def test_a_reshape_before_a_layer_leaves_no_trace() -> None:
    nodes = [node("Flatten", "x", "f"), node("MatMul", "f,w")]
    graph = assert_same_as_onnxruntime(network(nodes, {"x": (1, 2, 3)}, {"w": random(6, 4)}))
    assert _kinds(graph) == ["Input", "Linear"]
    assert graph.outputs[0].epilogue == ()


def test_the_shape_chains_of_exporters_vanish() -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("Shape", "r", "shape"),
        node("Gather", "shape,zero", "batch", axis=0),
        node("Unsqueeze", "batch,axes", "first"),
        node("Concat", "first,minus", "target", axis=0),
        node("Reshape", "r,target", "y"),
        node("Size", "r", "size"),
        node("Cast", "size", "count", to=TensorProto.FLOAT),
        node("Div", "y,count", "z"),
    ]
    constants = {"zero": np.int64(0), "axes": [0], "minus": [-1]}
    model = network(nodes, {"x": (2, 3, 4)}, constants, outputs=["y", "z"])
    graph = assert_same_as_onnxruntime(model)
    assert _kinds(graph) == ["Input", "Activation", "Linear"]


def test_the_padding_of_a_shortcut_is_one_selection() -> None:
    nodes = [
        node("ConstantOfShape", "eight", "zeros", value=_int_tensor(0)),
        node("Concat", "pads,zeros", "all", axis=0),
        node("Reshape", "all,pairs", "table"),
        node("Slice", "table,last,first,axis,back", "reversed"),
        node("Transpose", "reversed", "columns", perm=[1, 0]),
        node("Reshape", "columns,flat", "onnx_pads"),
        node("Pad", "x,onnx_pads"),
    ]
    constants = {
        "eight": [6],
        "pads": [1, 2],
        "pairs": [-1, 2],
        "last": [-1],
        "first": [-9999],
        "axis": [0],
        "back": [-1],
        "flat": [-1],
    }
    graph = assert_same_as_onnxruntime(network(nodes, {"x": (1, 2, 3, 4)}, constants))
    assert _kinds(graph) == ["Input", "Linear"]


def _int_tensor(value: int) -> TensorProto:
    return helper.make_tensor("value", TensorProto.INT64, [1], [value])


def test_sums_and_squares_of_one_tensor_read_it_once() -> None:
    nodes = [node("Add", "x,x", "s"), node("Mul", "s,s")]
    graph = import_graph(network(nodes, {"x": (2, 3)}))
    double, square = graph.operations[1:]
    assert isinstance(double, Linear)
    assert double.operands == (0,)
    assert (square.left, square.right) == (1, 1)


def test_operations_carry_the_names_of_their_nodes() -> None:
    named = helper.make_node("Relu", ["x"], ["r"], name="block/relu")
    graph = import_graph(network([named, node("Tanh", "r")], {"x": (2, 3)}))
    assert [operation.origin for operation in graph.operations[1:]] == [
        ("block/relu",),
        ("Tanh_y",),
    ]


def test_the_first_dynamic_axis_is_one_and_static_batches_stay() -> None:
    graph = import_graph(network([node("Add", "x,b")], {"x": ("batch", 3), "b": (10, 3)}))
    assert [operation.shape for _, operation in inputs(graph)] == [(1, 3), (10, 3)]


def test_input_shapes_of_the_target_fix_dynamic_axes() -> None:
    model = network([node("Relu", "x")], {"x": ("batch", "time", 3)})
    graph = import_onnx(model, Target(input_shapes={"x": (2, 5, 3)})).graph
    assert graph.operations[0].shape == (2, 5, 3)


def test_initializers_listed_as_inputs_are_constants() -> None:
    model = network([node("Add", "x,w")], {"x": (2, 3), "w": (3,)}, {"w": random(3)})
    graph = assert_same_as_onnxruntime(model)
    assert [operation.name for _, operation in inputs(graph)] == ["x"]


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_inputs_may_hold_any_real_type(kind: int) -> None:
    model = network([node("Relu", "x")], {"x": (2, 3)})
    model.graph.input[0].type.tensor_type.elem_type = kind
    assert _kinds(import_graph(model)) == ["Input", "Activation"]


def test_weights_of_other_real_types_are_read() -> None:
    weights = helper.make_tensor("w", TensorProto.BFLOAT16, [2], [0.5, -2.0])
    model = network([node("Mul", "x,w")], {"x": (3, 2)})
    model.graph.initializer.append(weights)
    (found,) = results(import_graph(model), {"x": np.ones((3, 2))})
    np.testing.assert_array_equal(found, np.tile([0.5, -2.0], (3, 1)))


def test_nodes_that_no_output_needs_are_left_out() -> None:
    nodes = [node("Relu", "x"), node("MaxPool", "x", "unused", kernel_shape=[2, 2])]
    assert _kinds(import_graph(network(nodes, {"x": (1, 1, 4, 4)}))) == ["Input", "Activation"]


def test_functions_of_the_model_are_written_out() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    square = helper.make_function("own", "Square", ["a"], ["b"], [node("Mul", "a,a", "b")], opsets)
    call = helper.make_node("Square", ["x"], ["y"], domain="own")
    model = network([call], {"x": (2, 3)})
    model.functions.append(square)
    model.opset_import.append(opsets[1])
    assert _kinds(assert_same_as_onnxruntime(model)) == ["Input", "Multiply"]


def test_the_model_may_be_a_path_bytes_or_a_proto(tmp_path: Path) -> None:
    model = network([node("MatMul", "x,w")], {"x": (2, 3)}, {"w": random(3, 4)})
    path = tmp_path / "model.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    model = network([node("MatMul", "x,w")], {"x": (2, 3)}, {"w": random(3, 4)})
    sources = [path, str(path), model, model.SerializeToString()]
    imported = [import_onnx(source, Target()) for source in sources]
    assert [one.name for one in imported] == ["model.onnx", "model.onnx", "net", "net"]
    for one in imported:
        layer = one.graph.operations[1]
        assert isinstance(one.graph.operations[0], Input)
        assert isinstance(layer, Linear)
        expected = np.kron(np.eye(2), random(3, 4).T)
        np.testing.assert_array_equal(layer.matrices[0].toarray(), expected)


def test_the_given_proto_is_not_changed() -> None:
    model = network([node("Relu", "x")], {"x": ("batch", 3)})
    before = model.SerializeToString()
    import_graph(model)
    assert model.SerializeToString() == before
