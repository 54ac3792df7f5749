"""What client and server refuse, and how they say it: messages, keys, inputs, epilogue."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from hec.compiler.errors import CompileError, HecWarning
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.plan_parts import ClientPart
from hec.compiler.tensor_ir import EpilogueStep
from hec.runtime import container, epilogue, keys
from hec.runtime.input_checks import check_range, checked_array
from sample_plans import client_part, linear_program

DAMAGED = "  help: copy the file again from where it was made, or make it again"
PART = replace(client_part(linear_program()), plan_id="a" * 64)
BLOBS = {"image": (b"first", b"", b"third"), "label": (b"x",)}


def message(data: bytes, kind: container.Kind = "encrypted input", part: ClientPart = PART) -> str:
    with pytest.raises(CompileError) as caught:
        container.unpack(data, kind, part, "message.bin")
    return str(caught.value)


def resealed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes of the same length, and make the checksum fit."""
    assert old in data and len(old) == len(new)
    body = data[:-32].replace(old, new)
    return body + hashlib.sha256(body).digest()


def test_a_container_comes_back_as_it_was() -> None:
    data = container.pack("encrypted input", PART, BLOBS)
    assert container.unpack(data, "encrypted input", PART) == BLOBS


def test_every_truncation_and_every_flipped_byte_is_refused() -> None:
    data = container.pack("encrypted input", PART, BLOBS)
    for position in range(len(data)):
        message(data[:position])
        message(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    message(data + b"0")


def test_damage_is_named() -> None:
    data = container.pack("encrypted input", PART, BLOBS)
    assert message(data[:-1] + b"?") == (
        "The file is damaged: its content does not match its checksum\n"
        f"  --> message.bin\n{DAMAGED}"
    )


def test_other_data_is_named() -> None:
    assert message(b"\x80\x04pickle") == (
        "Expected an encrypted input, found other data\n"
        "  --> message.bin\n"
        "  help: give an encrypted input made by hec"
    )


def test_the_secret_key_is_refused_where_others_are_expected() -> None:
    data = container.pack("secret key", PART, {"secret": (b"s",)})
    assert message(data, "evaluation keys") == (
        "Expected evaluation keys, found a secret key\n"
        "  --> message.bin\n"
        "  help: give evaluation keys; the secret key must never leave the data owner"
    )


def test_another_kind_is_named() -> None:
    data = container.pack("encrypted output", PART, BLOBS)
    assert message(data) == (
        "Expected an encrypted input, found an encrypted output\n"
        "  --> message.bin\n"
        "  help: give an encrypted input"
    )


def test_another_plan_is_named() -> None:
    data = container.pack("encrypted input", replace(PART, plan_id="b" * 64), BLOBS)
    assert message(data) == (
        "Expected an encrypted input for plan aaaaaaaaaaaa; this is for bbbbbbbbbbbb\n"
        "  --> message.bin\n"
        "  help: client and server must use the same plan; make it again with this one"
    )


def test_other_parameters_are_refused() -> None:
    parameters = replace(PART.parameters, special_primes=(97,))
    data = container.pack("encrypted input", replace(PART, parameters=parameters), BLOBS)
    assert "its encryption parameters are not those of its plan" in message(data)


def test_another_version_is_named() -> None:
    data = resealed(container.pack("encrypted input", PART, BLOBS), b'"version":1', b'"version":9')
    assert message(data) == (
        "Expected format version 1, found version 9\n"
        "  --> message.bin\n"
        "  help: use the same version of hec on both sides"
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"sizes":[1]', b'"sizes":[9]', "expected the size of a piece of this file, found 9"),
        (b'"sizes":[1]', b'"sizes":[0]', "expected names, and sizes that add up"),
        (b'"sizes":[5,', b'"sizes":[-5', "the size of a piece of this file, found -50"),
        (b'"sizes":[1]', b'"sizes":{} ', "expected a list, found {}"),
        (b'"name":"label"', b'"name":"image"', "expected names, and sizes that add up"),
        (b'"kind":"encrypted', b'"kind":"encryptEd', "expected one of secret key"),
        (b'"plan"', b'"pLan"', "expected an object with contents, kind, parameters, plan"),
        (b'{"contents"', b'["contents"', "invalid JSON"),
    ],
)
def test_a_hostile_header_is_refused(old: bytes, new: bytes, reason: str) -> None:
    assert reason in message(resealed(container.pack("encrypted input", PART, BLOBS), old, new))


def test_a_header_longer_than_the_file_is_refused() -> None:
    data = container.pack("encrypted input", PART, {})
    length = data[8:12]
    assert "its header is too long" in message(resealed(data, length, b"\xff\xff\xff\x7f"))


def test_missing_kinds_of_keys_are_refused() -> None:
    part = replace(PART, keys=KeyManifest((1,), True))
    data = keys.pack_evaluation_keys(part, b"relin", ())
    with pytest.raises(CompileError) as caught:
        keys.unpack_evaluation_keys(part, data, "evaluation.key")
    assert str(caught.value) == (
        "The evaluation keys are not those that the plan needs\n"
        "  --> evaluation.key\n"
        "  help: make the keys again with this plan"
    )


def test_a_folder_with_a_secret_is_not_overwritten(tmp_path: Path) -> None:
    keys.make_folder(tmp_path / "keys")
    keys.write_secret(tmp_path / "keys", PART, b"mine")
    with pytest.raises(CompileError) as caught:
        keys.make_folder(tmp_path / "keys")
    assert str(caught.value) == (
        "The folder already holds a secret key\n"
        f"  --> {tmp_path / 'keys' / 'secret.key'}\n"
        "  help: choose another folder; whoever overwrites a secret key loses what it encrypted"
    )
    assert keys.read_secret(tmp_path / "keys", PART) == b"mine"


def test_the_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    keys.make_folder(folder)
    keys.write_secret(folder, PART, b"mine")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        keys.read_secret(tmp_path, PART)
    assert str(caught.value) == (
        "Cannot read the secret key: No such file or directory\n"
        f"  --> {tmp_path / 'secret.key'}\n"
        "  help: check the path"
    )


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3), (1, 1, 2, 3)])
def test_a_batch_axis_of_one_may_be_missing_or_added(shape: tuple[int, ...]) -> None:
    x = np.arange(6, dtype=np.float32).reshape(shape)
    values = checked_array(x, (1, 2, 3), "input 'x'")
    assert values.shape == (1, 2, 3) and values.dtype == np.float64
    np.testing.assert_array_equal(values.ravel(), x.ravel())


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (
            np.zeros((5, 2, 3)),
            "Expected an array of shape (1, 2, 3), got (5, 2, 3)\n"
            "  --> input 'x'\n"
            "  help: encrypt the 5 samples one at a time",
        ),
        (
            np.zeros((3, 2)),
            "Expected an array of shape (1, 2, 3), got (3, 2)\n"
            "  --> input 'x'\n"
            "  help: give one sample in the model's own shape",
        ),
        (
            [[0, 1, 2], [3, np.nan, np.inf]],
            "2 of 6 values are not finite; the first is nan at [0, 1, 1]\n"
            "  --> input 'x'\n"
            "  help: replace missing values before encryption",
        ),
        (
            np.zeros((2, 3), complex),
            "Not an array of real numbers: complex128\n  --> input 'x'\n  help: give a float array",
        ),
        (
            [["a"]],
            "Not an array of real numbers: <U1\n  --> input 'x'\n  help: give a float array",
        ),
    ],
)
def test_an_unusable_input_is_named(x: ArrayLike, expected: str) -> None:
    with pytest.raises(CompileError) as caught:
        checked_array(x, (1, 2, 3), "input 'x'")
    assert str(caught.value) == expected


def test_a_ragged_input_is_refused() -> None:
    with pytest.raises(CompileError, match=r"^Not an array of numbers: "):
        checked_array([[1.0], [1.0, 2.0]], (1, 2, 3), "input 'x'")


def test_values_outside_the_calibrated_range_give_a_warning() -> None:
    with pytest.warns(HecWarning) as caught:
        check_range(np.array([-3.0, 0.5]), (-1.0, 1.0), "input 'x'")
    assert str(caught[0].message) == (
        "Values in [-3, 0.5] leave the calibrated range [-1, 1]: the prediction may be wrong\n"
        "  --> input 'x'\n"
        "  help: preprocess as for calibration, or compile with calibration data that has "
        "such values"
    )


def test_values_inside_the_calibrated_range_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_range(np.array([-1.0, 1.0]), (-1.0, 1.0), "input 'x'")
        check_range(np.array([99.0]), None, "input 'x'")


def test_softmax_is_stable() -> None:
    values = np.array([[1000.0, 1001.0, -1000.0]])
    result = epilogue.apply(values, [EpilogueStep("softmax", 1)])
    np.testing.assert_allclose(result, [[0.26894142, 0.73105858, 0.0]], atol=1e-8)


def test_log_softmax_is_the_logarithm_of_softmax() -> None:
    values = np.array([[1.0, 2.0, 3.0], [0.0, 800.0, -800.0]])
    result = epilogue.apply(values, [EpilogueStep("log_softmax", 1)])
    np.testing.assert_allclose(result[0], np.log(np.exp(values[0]) / np.exp(values[0]).sum()))
    np.testing.assert_allclose(result[1], [-800.0, 0.0, -1600.0])


def test_sigmoid_is_stable() -> None:
    result = epilogue.apply(np.array([-1000.0, 0.0, 1000.0]), [EpilogueStep("sigmoid")])
    np.testing.assert_array_equal(result, [0.0, 0.5, 1.0])


def test_steps_follow_each_other() -> None:
    steps = (
        EpilogueStep("reshape", shape=(2, 3)),
        EpilogueStep("argmax", axis=1, keep_axis=False),
        EpilogueStep("cast", dtype="int32"),
    )
    result = epilogue.apply(np.array([0.0, 3.0, 1.0, 5.0, 2.0, 4.0]), steps)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, [1, 0])
    kept = epilogue.apply(np.ones((2, 3)), [EpilogueStep("argmax", axis=-1)])
    assert kept.shape == (2, 1)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (EpilogueStep("reshape", shape=(7,)), "cannot reshape array of size 6 into shape (7,)"),
        (EpilogueStep("cast", dtype="object"), "'object' is not a type of numbers"),
        (EpilogueStep("softmax", axis=5), "axis 5 is out of bounds for array of dimension 2"),
    ],
)
def test_steps_that_do_not_fit_are_refused(step: EpilogueStep, reason: str) -> None:
    with pytest.raises(CompileError) as caught:
        epilogue.check((2, 3), (step,), "tensor 'y'")
    assert str(caught.value) == (
        f"The steps after decryption do not fit their tensor: {reason}\n"
        "  --> tensor 'y'\n"
        "  help: compile the model again with this version of hec"
    )
