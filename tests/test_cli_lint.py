"""`hec lint`: tables within 100 columns, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from cli_runner import MLP, hec
from onnx_oracle import network, node, random

COSTLY = network(
    [node("Relu", "x", "a"), node("MatMul", "a,w")], {"x": (10, 4)}, {"w": random(4, 3)}
)


@pytest.fixture
def costly(tmp_path: Path) -> Path:
    """A network with a costly choice."""
    path = tmp_path / "costly.onnx"
    path.write_bytes(COSTLY.SerializeToString())
    return path


@pytest.fixture
def broken(models: Path) -> Path:
    """A network with two nodes that cannot be compiled."""
    return models / "cntk-mnist-op8.onnx"


def test_a_clean_network_is_told_in_three_lines() -> None:
    run = hec("lint", MLP)
    assert (run.exit_code, run.stderr) == (0, "")
    assert run.stdout == (
        "model   mlp.onnx\n"
        "result  can be compiled: clean\n"
        "depth   5 levels or more, and the largest modulus has room for 40: a leveled program may "
        "do\n\n"
    )


def test_a_network_that_cannot_be_compiled_has_exit_code_1(broken: Path) -> None:
    run = hec("lint", broken)
    assert (run.exit_code, run.stderr) == (1, "")
    lines = run.stdout.splitlines()
    assert lines[:3] == [
        "model   cntk-mnist-op8.onnx",
        "result  cannot be compiled: 2 errors, 3 notes",
        "depth   not known: a part of the network cannot be compiled",
    ]
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in run.stdout
    text = " ".join(run.stdout.split())
    assert "4 levels" in text
    assert "--> cntk-mnist-op8.onnx: node 'Pooling66' -> tensor 'Pooling66_Output_0'" in text


def test_every_network_is_reported_and_one_that_fails_decides(broken: Path, costly: Path) -> None:
    run = hec("lint", MLP, broken, costly)
    assert run.exit_code == 1
    told = [line for line in run.stdout.splitlines() if line.startswith("model ")]
    assert told == ["model   mlp.onnx", "model   cntk-mnist-op8.onnx", "model   costly.onnx"]


def test_costly_choices_fail_only_when_strict(costly: Path) -> None:
    assert hec("lint", costly).exit_code == 0
    assert hec("lint", "--strict", costly).exit_code == 1
    assert hec("lint", "--strict", MLP).exit_code == 0


def test_json_holds_every_network_and_every_finding(broken: Path, costly: Path) -> None:
    run = hec("lint", "--json", broken, costly)
    told = json.loads(run.stdout)
    assert (run.exit_code, told["passed"]) == (1, False)
    first, second = told["models"]
    assert (first["model"], first["compiles"], first["levels"]) == (
        "cntk-mnist-op8.onnx", False, None,
    )  # fmt: skip
    assert first["findings"][0]["price"] == {
        "levels": 4, "bootstraps": None, "values": None, "seconds": None,
    }  # fmt: skip
    assert (second["compiles"], second["levels"], second["most_levels"]) == (True, 3, 40)
    assert second["findings"][0] == {
        "rule": "fixed-batch",
        "severity": "costly",
        "message": "the first axis of the input has 10 elements, and so has every output: each "
        "prediction computes 10 samples",
        "place": "costly.onnx: input 'x' of shape (10, 4)",
        "help": "export with a batch of one, or with a dynamic first axis",
        "price": {"levels": None, "bootstraps": None, "values": 36, "seconds": None},
    }


def test_samples_tell_ranges(costly: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(64, 10, 4)))
    assert "ranges-unknown" in hec("lint", "--json", costly).stdout
    run = hec("lint", "--json", costly, "--calibration", tmp_path / "x.npy")
    assert (run.exit_code, run.stderr) == (0, "")
    assert "ranges-unknown" not in run.stdout


def test_shapes_of_inputs_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    path.write_bytes(network([node("Relu", "x")], {"x": ("n", "time")}).SerializeToString())
    assert hec("lint", path).exit_code == 1
    assert hec("lint", path, "--input", "x=1,5").exit_code == 0


def test_a_file_that_is_no_model_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("hello, I am no model")
    run = hec("lint", path)
    assert run.exit_code == 1
    assert "result  cannot be compiled: 1 error\n" in run.stdout
    assert "the file is no ONNX model, or is cut off" in run.stdout


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    bad = helper.make_node("Frob", ["x"], ["y"], name="\x1b[2J\n  help: [red]forged")
    path = tmp_path / "bad.onnx"
    path.write_bytes(network([bad], {"x": (1, 4)}).SerializeToString())
    run = hec("lint", path)
    assert "\x1b" not in run.stdout
    assert "'\N{REPLACEMENT CHARACTER}[2J help: [red]forged'" in " ".join(run.stdout.split())


MISUSE = [
    (
        "lint {folder}/none.onnx {mlp} {folder}",
        "the model file does not exist\n"
        "  --> {folder}/none.onnx\n"
        "  help: give the path of an .onnx file\n"
        "the model file is a folder\n"
        "  --> {folder}\n"
        "  help: give the path of an .onnx file\n",
    ),
    (
        "lint {mlp} {mlp} --calibration {folder}/x.npy",
        "samples belong to one network, and there are 2\n"
        "  --> --calibration {folder}/x.npy\n"
        "  help: lint this network alone\n",
    ),
    (
        "lint {mlp} --calibration {folder}/x.npy",
        "Cannot read the array file: No such file or directory\n"
        "  --> {folder}/x.npy\n"
        "  help: check the path\n",
    ),
    (
        "lint {mlp} --input image",
        "'image' is not a name and a shape\n"
        "  --> --input image\n"
        "  help: give NAME=SHAPE with sizes from 1 upwards, for example --input image=1,1,28,28\n",
    ),
]


@pytest.mark.parametrize(("line", "message"), MISUSE, ids=[line for line, _ in MISUSE])
def test_a_wrong_usage_has_exit_code_2(line: str, message: str, tmp_path: Path) -> None:
    names = {"folder": tmp_path, "mlp": MLP}
    run = hec(*(word.format(**names) for word in line.split()))
    assert (run.exit_code, run.stdout, run.stderr) == (2, "", message.format(**names))
