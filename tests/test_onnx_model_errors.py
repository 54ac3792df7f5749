"""The full text of what the import says about files that are no usable models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from hec.compiler.errors import CompileError
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from onnx_oracle import network, node

SHAPES: dict[str, tuple[int | str, ...]] = {"x": (2, 3)}
IMAGE: dict[str, tuple[int | str, ...]] = {"x": (1, 3, 4, 4)}
AGAIN = "export the model again, and check it with onnx.checker.check_model"
LARGE = "use a smaller network, or smaller inputs"
DIVERGED = "check that training did not diverge, and export again"


def _message(source: Any, target: Target | None = None) -> str:
    with pytest.raises(CompileError) as caught:
        import_onnx(source, target or Target())
    return str(caught.value)


def _text(message: str, place: str, help: str) -> str:
    return f"{message}\n  --> {place}\n  help: {help}"


def _with(change: Callable[[ModelProto], object]) -> ModelProto:
    model = network([node("Add", "x,w")], SHAPES, {"w": np.ones(3)})
    change(model)
    return model


def _clear_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def _input_type(kind: int) -> Callable[[ModelProto], object]:
    def change(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind

    return change


def _dims(*sizes: int) -> Callable[[ModelProto], object]:
    def change(model: ModelProto) -> None:
        model.graph.initializer[0].dims[:] = sizes

    return change


def _recursive() -> ModelProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    model = network([call], SHAPES)
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [call], opsets))
    return model


def _branching() -> ModelProto:
    branch = helper.make_graph(
        [node("Relu", "z", "q")], "b", [], [helper.make_tensor_value_info("q", 1, None)]
    )
    choice = helper.make_node(
        "If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch
    )
    return network([choice], {"z": (0,)}, {"c": np.bool_(True)})


MODEL_PROBLEMS: dict[str, tuple[Callable[[], object], str, str, str]] = {
    # name: model, message, place, help
    "empty": (lambda: b"", "the model is empty", "model", AGAIN),
    "no protobuf": (
        lambda: b"hello, I am no model",
        "the file is no ONNX model, or is cut off",
        "model",
        "give an .onnx file; " + AGAIN,
    ),
    "cut off": (
        lambda: _with(lambda m: None).SerializeToString()[:60],
        "the file is no ONNX model, or is cut off",
        "model",
        "give an .onnx file; " + AGAIN,
    ),
    "no graph": (ModelProto, "the file holds no ONNX network", "model", AGAIN),
    "old": (
        lambda: network([node("Relu", "x")], SHAPES, opset=6),
        "the model uses ONNX operator set 6; the oldest supported is 7",
        "net: operator Relu",
        "export again with a newer opset_version, or convert with onnx.version_converter",
    ),
    "new": (
        lambda: network([node("Relu", "x")], SHAPES, opset=1000),
        "the model uses ONNX operator set 1000; the installed onnx package knows none after "
        f"{onnx.defs.onnx_opset_version()}",
        "net: operator Relu",
        "update the onnx package, or export with an older opset_version",
    ),
    "no opset": (
        lambda: _with(_clear_opset),
        "the model does not state its ONNX operator set",
        "net: operator Add",
        AGAIN,
    ),
    "undefined": (
        lambda: network([node("Add", "x,w")], SHAPES),
        "the tensor 'w' does not exist",
        "net: node 'Add_y'",
        AGAIN,
    ),
    "undefined output": (
        lambda: network([node("Relu", "x")], SHAPES, outputs=["z"]),
        "the tensor 'z' does not exist",
        "net: output 'z'",
        AGAIN,
    ),
    "cycle": (
        lambda: network([node("Add", "x,z", "y"), node("Relu", "y", "z")], SHAPES),
        "the tensor 'z' is read before it is computed: a cycle, or a wrong order",
        "net: node 'Add_y'",
        AGAIN,
    ),
    "name twice": (
        lambda: network([node("Relu", "x"), node("Tanh", "x")], SHAPES),
        "the name 'y' is given to two tensors",
        "net",
        AGAIN,
    ),
    "integer input": (
        lambda: _with(_input_type(TensorProto.INT64)),
        "the input holds int64; only real numbers can be encrypted",
        "net: input 'x', read by node 'Add_y' (Add)",
        "export with a float input, and move lookups and conversions to the client",
    ),
    "input of text": (
        lambda: _with(_input_type(TensorProto.STRING)),
        "the input holds string; only real numbers can be encrypted",
        "net: input 'x', read by node 'Add_y' (Add)",
        "export with a float input, and move lookups and conversions to the client",
    ),
    "input without type": (
        lambda: _with(lambda m: m.graph.input[0].type.Clear()),
        "the input holds no tensor; only real numbers can be encrypted",
        "net: input 'x', read by node 'Add_y' (Add)",
        "export with a float input, and move lookups and conversions to the client",
    ),
    "input without shape": (
        lambda: _with(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
        "the input has no shape: its size is not known",
        "net: input 'x', read by node 'Add_y' (Add)",
        "give its shape with --input x=SHAPE, for example --input x=1,32",
    ),
    "dynamic axis": (
        lambda: network([node("Relu", "x")], {"x": ("batch", "time", 3)}),
        "the input has the shape (?, ?, 3): its size is not known",
        "net: input 'x', read by node 'Relu_y' (Relu)",
        "give its shape with --input x=SHAPE, for example --input x=1,32,3",
    ),
    "empty input": (
        lambda: network([node("Relu", "x")], {"x": (2, 0)}),
        "the input of shape (2, 0) has no elements",
        "net: input 'x', read by node 'Relu_y' (Relu)",
        AGAIN,
    ),
    "huge input": (
        lambda: network([node("Relu", "x")], {"x": (10**9,)}),
        "the input of shape (1000000000,) has 1,000,000,000 elements; the limit is 16,777,216",
        "net: input 'x', read by node 'Relu_y' (Relu)",
        LARGE,
    ),
    "huge weights": (
        lambda: _with(_dims(10**12)),
        "the weights of shape (1000000000000,) cannot be held: the limit is 67,108,864 elements",
        "net: tensor 'w'",
        LARGE,
    ),
    "negative weights": (
        lambda: _with(_dims(-3)),
        "the weights of shape (-3,) cannot be held: the limit is 67,108,864 elements",
        "net: tensor 'w'",
        LARGE,
    ),
    "NaN": (
        lambda: network([node("Add", "x,w")], SHAPES, {"w": np.array([0.0, np.nan, 0.0])}),
        "the weights hold NaN",
        "net: tensor 'w', read by node 'Add_y' (Add)",
        DIVERGED,
    ),
    "constant output": (
        lambda: network([node("Relu", "w")], SHAPES, {"w": np.ones(3)}),
        "the output 'y' does not depend on the elements of any input",
        "net: output 'y', made by node 'Relu_y' (Relu)",
        "remove this output from the model; it is the same for every input of this shape",
    ),
    "stored output": (
        lambda: network([node("Relu", "x", "z")], SHAPES, {"y": np.ones(3)}),
        "the output 'y' does not depend on the elements of any input",
        "net: output 'y'",
        "remove this output from the model; it is the same for every input of this shape",
    ),
    "read by many": (
        lambda: network(
            [
                *(node("Relu", "x", f"r{k}", name=f"n{k}") for k in range(4)),
                node("Sum", "r0,r1,r2,r3"),
            ],
            {"x": (2, 0)},
        ),
        "the input of shape (2, 0) has no elements",
        "net: input 'x', read by nodes 'n0' (Relu), 'n1' (Relu), 'n2' (Relu) and 1 more",
        AGAIN,
    ),
    "read in a branch": (
        _branching,
        "the input of shape (0,) has no elements",
        "net: input 'z', read by node 'choice' (If)",
        AGAIN,
    ),
    "read by none": (
        lambda: network([node("Relu", "x")], {"x": (2, 3), "z": (0,)}),
        "the input of shape (0,) has no elements",
        "net: input 'z'",
        AGAIN,
    ),
    "many old operators": (
        lambda: network(
            [
                node(operator, "x", operator)
                for operator in ("Relu", "Tanh", "Abs", "Exp", "Exp", "Neg", "Sign")
            ],
            SHAPES,
            opset=6,
            outputs=["Sign"],
        ),
        "the model uses ONNX operator set 6; the oldest supported is 7",
        "net: operators Relu, Tanh, Abs, Exp, Neg …",
        "export again with a newer opset_version, or convert with onnx.version_converter",
    ),
    "recursive function": (
        _recursive,
        "the functions of the model expand to more than 100,000 nodes, "
        "or are nested more than 50 deep",
        "net",
        "export the model without functions",
    ),
}


@pytest.mark.parametrize("name", MODEL_PROBLEMS)
def test_problem_of_a_model(name: str) -> None:
    make, message, place, help = MODEL_PROBLEMS[name]
    assert _message(make()) == _text(message, place, help)


def test_unreadable_weights_are_named() -> None:
    message = _message(_with(_dims(7)))
    assert message.startswith("the weights cannot be read: ")
    assert message.endswith(f"\n  --> net: tensor 'w'\n  help: {AGAIN}")


def test_files_that_cannot_be_models(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    help = "give the path of an .onnx file"
    assert _message(missing) == _text("the model file does not exist", str(missing), help)
    assert _message(tmp_path) == _text("the model file is a folder", str(tmp_path), help)
    assert _message("/dev/zero") == _text("the model file is not a regular file", "/dev/zero", help)


def test_every_truncation_is_an_error() -> None:
    data = _with(lambda m: None).SerializeToString()
    for length in range(len(data)):
        _message(data[:length])


def test_shapes_of_the_target_must_fit() -> None:
    model = network([node("Relu", "x")], {"x": ("batch", 3)})
    assert _message(model, Target(input_shapes={"z": (1,), "x": (1, 4)})) == "\n".join(
        [
            _text("the network has no input 'z'", "net", "its inputs: 'x'"),
            _text(
                "the input has the shape (?, 3), which (1, 4) does not fit",
                "net: input 'x', read by node 'Relu_y' (Relu)",
                "give all axes, in this order, with --input x=SHAPE",
            ),
        ]
    )


def _external(folder: Path, location: str) -> Path:
    """Save a model whose weights are in a file at `location`."""
    model = network([node("Add", "x,w")], SHAPES, {"w": np.ones(3)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret", "{folder}/secret", "link", "a/../../secret", ""])
def test_external_data_outside_the_folder_is_never_read(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(np.ones(3, np.float32).tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    location = location.format(folder=tmp_path)
    assert _message(_external(folder, location)) == _text(
        f"the weights are stored outside the model's folder: '{location}'",
        "model.onnx: tensor 'w'",
        "put the file beside the model, and save the model with its relative name",
    )


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    assert _message(_external(tmp_path, "weights.bin")) == _text(
        "the file with the weights is missing: 'weights.bin'",
        "model.onnx: tensor 'w'",
        "copy it beside the model",
    )


def test_external_data_needs_a_path(tmp_path: Path) -> None:
    data = _external(tmp_path, "weights.bin").read_bytes()
    assert _message(data) == _text(
        "the weights 'w' are in another file",
        "model",
        "give the path of the .onnx file instead of its contents",
    )


def test_external_data_in_a_function_is_found() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    body = [helper.make_node("Constant", [], ["c"], value=tensor), node("Add", "a,c", "b")]
    model = network([helper.make_node("F", ["x"], ["y"], domain="own")], SHAPES)
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, opsets))
    model.opset_import.append(opsets[1])
    assert _message(model).startswith("the weights 'w' are in another file")


def test_names_must_be_utf8() -> None:
    data = _with(lambda m: None).SerializeToString().replace(b"Add", b"A\xffd")
    message = "the model holds names that are not UTF-8"
    assert _message(data) == _text(message, "net", AGAIN)


def test_short_external_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"short")
    message = _message(_external(tmp_path, "weights.bin"))
    assert message.startswith("the weights cannot be read: ")
