"""hec as a backend of ONNX: which inputs are encrypted, what it returns, what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from hec.compiler import onnx_backend
from hec.compiler.errors import CompileError
from hec.compiler.onnx_backend import OnnxBackend
from hec.compiler.onnx_binding import import_bound
from hec.compiler.target import Target
from hec.compiler.tensor_ir import inputs
from onnx_oracle import network, node, random

X, W = random(2, 3), random(3, 4, seed=1)
AGAIN = "export the model again, and check it with onnx.checker.check_model"
ONE_EACH = "give one array for each input, in the model's order or by name"


def product() -> ModelProto:
    return network([node("MatMul", "x,w")], {"x": (2, 3), "w": (3, 4)})


def reshaped() -> ModelProto:
    """Return a model that reads its shape from an integer input, and an input z not at all."""
    model = network([node("Reshape", "x,s")], {"x": (2, 3), "s": (2,), "z": (0,)})
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    return model


def typed(model: ModelProto, kind: int) -> ModelProto:
    """Return the model with all inputs and outputs of one type."""
    for info in [*model.graph.input, *model.graph.output]:
        info.type.tensor_type.elem_type = kind
    return model


def encrypted(model: ModelProto, **arrays: Any) -> list[str]:
    """Return the names of the inputs that are encrypted."""
    return [item.name for _, item in inputs(import_bound(model, arrays, Target()))]


def test_all_real_inputs_are_encrypted_where_hec_can() -> None:
    model = network([node("Mul", "x,z")], {"x": (2, 3), "z": (3,)})
    assert encrypted(model, x=X, z=X[0]) == ["x", "z"]
    (found,) = OnnxBackend.run_model(model, [X, X[0]])
    np.testing.assert_allclose(found, X * X[0], rtol=1e-6)


def test_elsewhere_the_first_alone() -> None:
    model = network([node("Conv", "x,w")], {"x": (1, 1, 4, 4), "w": (1, 1, 2, 2)})
    image, kernel = random(1, 1, 4, 4), random(1, 1, 2, 2)
    assert encrypted(model, x=image, w=kernel) == ["x"]
    assert OnnxBackend.run_model(model, [image, kernel])[0].shape == (1, 1, 3, 3)


def test_what_is_not_real_is_a_constant_and_what_nobody_reads_is_left_out() -> None:
    model = reshaped()
    shape, nothing = np.array([3, 2]), np.zeros(0, np.float32)
    assert encrypted(model, x=X, s=shape, z=nothing) == ["x"]
    np.testing.assert_allclose(
        OnnxBackend.run_model(model, [X, shape, nothing])[0], X.reshape(3, 2)
    )


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_outputs_are_of_the_type_that_the_model_declares(name: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(name))
    model = typed(network([node("Relu", "x")], {"x": (2, 3)}), kind)
    (found,) = OnnxBackend.run_model(model, [X.astype(name)])
    assert found.dtype == name
    np.testing.assert_array_equal(found, np.maximum(X.astype(name), 0))


def test_classes_stay_integers() -> None:
    model = network([node("ArgMax", "x", axis=1)], {"x": (2, 3)})
    (found,) = OnnxBackend.run_model(model, [X])
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, X.argmax(axis=1, keepdims=True))


def test_classes_as_bfloat16_are_real() -> None:
    nodes = [node("ArgMax", "x", "c", axis=1), node("Cast", "c", to=TensorProto.BFLOAT16)]
    model = network(nodes, {"x": (2, 3)})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    (found,) = OnnxBackend.run_model(model, [X])
    assert found.dtype == helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    np.testing.assert_array_equal(found.astype(int), X.argmax(axis=1, keepdims=True))


def test_what_overflows_is_infinite() -> None:
    model = network([node("Exp", "x")], {"x": (1,)})
    assert np.isinf(OnnxBackend.run_model(model, [np.array([1e4], np.float32)])[0]).all()


def test_a_prepared_model_takes_every_size_of_an_open_axis() -> None:
    prepared = OnnxBackend.prepare(network([node("Relu", "x")], {"x": (None, 3)}))
    assert [prepared.run([random(n, 3)])[0].shape for n in (1, 5)] == [(1, 3), (5, 3)]


def test_inputs_come_as_one_array_or_by_name() -> None:
    model = network([node("Neg", "x")], {"x": (2, 3)})
    for given in (X, [X], (X,), {"x": X}):
        np.testing.assert_array_equal(OnnxBackend.run_model(model, given)[0], -X)


def test_a_single_node_runs() -> None:
    gemm = helper.make_node("Gemm", ["x", "w", ""], ["y"], alpha=2.0)
    (found,) = onnx_backend.run_node(gemm, [X, W])
    np.testing.assert_allclose(found, 2 * X @ W, rtol=1e-5)
    assert found.dtype == np.float32


def test_a_single_node_has_the_operator_set_that_is_asked_for() -> None:
    softmax = helper.make_node("Softmax", ["x"], ["y"])
    cube = random(2, 3, 4)
    old, new = (onnx_backend.run_node(softmax, [cube], opset_version=v)[0] for v in (11, 13))
    np.testing.assert_allclose(old.sum(axis=(1, 2)), 1, rtol=1e-6)  # all axes from the second on
    np.testing.assert_allclose(new.sum(axis=2), 1, rtol=1e-6)


def test_a_node_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CompileError, match=r"^Frobnicate is not supported"):
        onnx_backend.run_node(node("Frobnicate", "x"), [X])
    with pytest.raises(CompileError, match=r"^cannot multiply matrices of shapes"):
        onnx_backend.run_node(node("MatMul", "x,w"), [X, X])


def test_the_module_is_a_backend_as_well() -> None:
    np.testing.assert_allclose(onnx_backend.run_model(product(), [X, W])[0], X @ W, rtol=1e-5)
    assert onnx_backend.prepare(product()).run([X, W])[0].shape == (2, 4)


def test_there_is_one_device() -> None:
    assert onnx_backend.supports_device("CPU")
    assert onnx_backend.supports_device("CPU:0")
    assert not onnx_backend.supports_device("CUDA")


def test_compatible_is_what_can_be_prepared() -> None:
    assert OnnxBackend.is_compatible(network([node("Relu", "x")], {"x": (2, 3)}))
    assert not OnnxBackend.is_compatible(network([node("Det", "x")], {"x": (3, 3)}))


def test_a_refused_model_is_refused_before_it_runs() -> None:
    with pytest.raises(CompileError, match=r"^Det is not supported\n"):
        OnnxBackend.prepare(network([node("Det", "x")], {"x": (3, 3)}))
    with pytest.raises(CompileError, match=r"^the tensor 'v' does not exist\n"):
        OnnxBackend.prepare(network([node("Sum", "x,w,v")], {"x": (3,), "w": (3,)}))


def integers() -> ModelProto:
    return typed(network([node("Add", "x,z")], {"x": (2,), "z": (2,)}), TensorProto.INT32)


def sequences() -> ModelProto:
    model = network([node("SequenceAt", "s,k")], {"s": (2,), "k": ()})
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, (2,))
    model.graph.input[0].CopyFrom(
        helper.make_value_info("s", helper.make_sequence_type_proto(tensor))
    )
    return model


MESSAGES: dict[str, tuple[Callable[[], object], str]] = {
    "device": (
        lambda: OnnxBackend.prepare(product(), "CUDA:1"),
        "there is no device 'CUDA:1'\n  help: leave the device out, or give 'CPU'",
    ),
    "too few": (
        lambda: OnnxBackend.run_model(product(), [X]),
        f"1 array does not fit the inputs: 'x', 'w'\n  --> net\n  help: {ONE_EACH}",
    ),
    "too many": (
        lambda: OnnxBackend.run_model(product(), [X, W, W]),
        f"3 arrays do not fit the inputs: 'x', 'w'\n  --> net\n  help: {ONE_EACH}",
    ),
    "other names": (
        lambda: OnnxBackend.run_model(product(), {"x": X, "v": W}),
        "the arrays 'x', 'v' do not fit the inputs: 'x', 'w'\n  --> net\n  help: " + ONE_EACH,
    ),
    "too few for a node": (
        lambda: onnx_backend.run_node(node("MatMul", "x,w"), [X]),
        f"1 array does not fit the inputs: 'x', 'w'\n  --> MatMul\n  help: {ONE_EACH}",
    ),
    "no type for a node": (
        lambda: onnx_backend.run_node(node("Neg", "x"), np.zeros(2, np.timedelta64)),
        "the array is of type timedelta64, which is none of ONNX\n  --> input 'x'\n"
        "  help: give an array of numbers",
    ),
    "no inputs": (
        lambda: OnnxBackend.run_model(product(), None),
        f"the inputs are of type NoneType\n  help: {ONE_EACH}",
    ),
    "texts for numbers": (
        lambda: OnnxBackend.run_model(network([node("Neg", "x")], {"x": (1,)}), [["a"]]),
        "the array is of type object, not of real numbers\n  --> input 'x'\n"
        "  help: give floating-point numbers",
    ),
    "no type of ONNX": (
        lambda: OnnxBackend.run_model(reshaped(), [X, np.zeros(2, np.timedelta64), X]),
        "the array cannot be a constant: its type timedelta64 is none of ONNX\n"
        "  --> input 's'\n  help: give an array of the type that the model declares",
    ),
    "another shape": (
        lambda: OnnxBackend.run_model(network([node("Neg", "x")], {"x": (1, 3)}), [X]),
        "the array of shape (2, 3) does not fit the shape (1, 3)\n  --> input 'x'\n"
        "  help: give arrays of the shapes that the model declares",
    ),
    "integers only": (
        lambda: OnnxBackend.run_model(integers(), [np.arange(2), np.arange(2)]),
        "\n".join(
            "the input holds int32; only real numbers can be encrypted\n"
            f"  --> net: input '{name}', read by node 'Add_y' (Add)\n"
            "  help: export with a float input, and move lookups and conversions to the client"
            for name in "xz"
        ),
    ),
    "a sequence": (
        lambda: OnnxBackend.run_model(sequences(), [[X, X], np.float32(0)]),
        "the input holds no tensor; only real numbers can be encrypted\n"
        "  --> net: input 's', read by node 'SequenceAt_y' (SequenceAt)\n"
        "  help: export with a float input, and move lookups and conversions to the client",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name: str) -> None:
    run, text = MESSAGES[name]
    with pytest.raises(CompileError) as caught:
        run()
    assert str(caught.value) == text


def test_undeclared_outputs_are_single_precision() -> None:
    model = network([node("Neg", "x")], {"x": (2, 3)})
    assert model.graph.output[0] == ValueInfoProto(name="y")
    assert OnnxBackend.run_model(model, [X.astype(np.float64)])[0].dtype == np.float32
