"""Weights and inputs that are not what the model says: missing, short, elsewhere, of odd types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from hec.compiler import onnx_stored
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from hostile_cases import AGAIN, LARGE, SAVE, SHAPES, refusal, text
from onnx_oracle import import_graph, network, node


def _external(folder: Path, **entries: str) -> Path:
    """Save a model whose three weights are in weights.bin, which holds ten."""
    model = network([node("Add", "x,w")], SHAPES, {"w": np.ones(3)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "length": "12", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(np.ones(10, np.float32).tobytes())
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


EXTERNAL = {
    # entries of external data -> message
    (("location", "a\0b"),): "no file can have the name of the one with the weights: ",
    (("location", "a" * 5000),): "no file can have the name of the one with the weights: ",
    (("offset", "-4"),): "the weights in 'weights.bin' cannot be read: ",
    (("offset", "4000"),): "the weights in 'weights.bin' cannot be read: ",
    (("offset", str(2**70)),): "the weights in 'weights.bin' cannot be read: ",
    (("offset", "four"),): "the weights in 'weights.bin' cannot be read: ",
    (("length", "-12"),): "the weights in 'weights.bin' cannot be read: ",
    (("length", "twelve"),): "the weights in 'weights.bin' cannot be read: ",
}


@pytest.mark.parametrize("entries", EXTERNAL, ids=lambda entries: str(entries)[:40])
def test_external_data_that_cannot_be(entries: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    first, place, help_ = refusal(_external(tmp_path, **dict(entries))).splitlines()
    assert first.startswith(EXTERNAL[entries])
    assert (place, help_) == ("  --> model.onnx: tensor 'w'", f"  help: {SAVE}")


def test_external_data_is_read_where_it_is_sound(tmp_path: Path) -> None:
    imported = import_onnx(_external(tmp_path, offset="8", unknown="key"), Target())
    assert len(imported.graph.operations) == 2


def test_no_more_is_read_than_the_weights_have(tmp_path: Path) -> None:
    path = _external(tmp_path, length=str(2**40))
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(2**34)  # takes no room on the disk
    assert refusal(path) == text(
        "17,179,869,184 bytes of 'weights.bin' are more than the weights of shape (3,) have",
        "model.onnx: tensor 'w'",
        SAVE,
    )


def test_names_of_files_must_be_utf8(tmp_path: Path) -> None:
    path = _external(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"weights\xff\xffin"))
    assert refusal(path) == text(
        "the name of the file with the weights is not UTF-8", "model.onnx: tensor 'w'", SAVE
    )


def test_many_tensors_in_one_large_file_are_refused_before_any_is_read(tmp_path: Path) -> None:
    path = _external(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_stored, "MAX_STORED", 2)
        message = refusal(path)
    assert message == text(
        "the weights up to here have 3 elements; the limit is 2", "model.onnx: tensor 'w'", LARGE
    )


def _constant(kind: int, **fields: Any) -> ModelProto:
    model = network([node("Mul", "x,w")], SHAPES)
    tensor = TensorProto(name="w", data_type=kind, dims=[3])
    for name, value in fields.items():
        if name == "raw_data":
            tensor.raw_data = value
        else:
            getattr(tensor, name).extend(value)
    model.graph.initializer.append(tensor)
    return model


@pytest.mark.parametrize(
    "kind",
    [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.INT4, TensorProto.UINT8,
     TensorProto.BOOL, TensorProto.INT64, TensorProto.UINT4],
)  # fmt: skip
def test_weights_of_rare_types_are_read_or_refused(kind: int) -> None:
    model = network([node("Cast", "w", "f", to=TensorProto.FLOAT), node("Mul", "x,f")], SHAPES)
    model.graph.initializer.append(helper.make_tensor("w", kind, [3], [1, 0, 1]))
    import_graph(model)


UNREADABLE: dict[str, Callable[[], ModelProto]] = {
    "too short": lambda: _constant(TensorProto.FLOAT, raw_data=bytes(11)),
    "too long": lambda: _constant(TensorProto.FLOAT, raw_data=bytes(16)),
    "too few": lambda: _constant(TensorProto.FLOAT, float_data=[1.0]),
    "no type": lambda: _constant(0, raw_data=bytes(12)),
    "unknown type": lambda: _constant(99, raw_data=bytes(12)),
    "text in bytes": lambda: _constant(TensorProto.STRING, raw_data=bytes(12)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_weights_that_do_not_fit_their_shape_are_refused(name: str) -> None:
    first, place, help_ = refusal(UNREADABLE[name]()).splitlines()
    assert first.startswith("the weights cannot be read: ")
    assert (place, help_) == ("  --> net: tensor 'w'", f"  help: {AGAIN}")


INPUT_KINDS: dict[str, Callable[[Any], object]] = {
    "sequence": lambda kind: kind.sequence_type.elem_type.tensor_type.SetInParent(),
    "optional": lambda kind: kind.optional_type.elem_type.tensor_type.SetInParent(),
    "map": lambda kind: kind.map_type.value_type.tensor_type.SetInParent(),
    "sparse": lambda kind: kind.sparse_tensor_type.shape.SetInParent(),
}


@pytest.mark.parametrize("name", INPUT_KINDS)
def test_inputs_that_are_no_tensors_are_refused(name: str) -> None:
    model = network([node("Relu", "x")], SHAPES)
    INPUT_KINDS[name](model.graph.input[0].type)
    assert refusal(model) == text(
        "the input holds no tensor; only real numbers can be encrypted",
        "net: input 'x', read by node 'Relu_y' (Relu)",
        "export with a float input, and move lookups and conversions to the client",
    )


def test_sparse_weights_are_refused() -> None:
    model = network([node("Add", "x,w")], SHAPES)
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    assert refusal(model) == text(
        "sparse weights are not supported", "net", "store the weights densely"
    )
