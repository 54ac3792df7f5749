"""Client and server on the command line, in processes of their own, with real ciphertexts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from cli_runner import MLP, compile_mlp, hec

pytestmark = pytest.mark.encrypted


def process(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    code = "from hec.compiler.cli import main; main()"
    words = [sys.executable, "-c", code, *line.split()]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_a_prediction_travels_through_files(
    tmp_path: Path, mnist_calibration: NDArray[np.float32], mnist_test: NDArray[np.float32]
) -> None:
    compile_mlp(tmp_path, mnist_calibration)
    np.save(tmp_path / "x.npy", mnist_test[0])
    owner = tmp_path / "owner"
    owner.mkdir()
    for name in ("client.hec", "x.npy"):
        (tmp_path / name).rename(owner / name)
    steps = [
        (owner, "keygen client.hec -o keys/"),
        (owner, "encrypt client.hec --keys keys/ x.npy -o x.enc"),
        (tmp_path, "run mlp.hec --keys owner/keys/evaluation.key owner/x.enc -o owner/y.enc"),
        (owner, "decrypt client.hec --keys keys/ y.enc -o y.npy"),
        (owner, "decrypt client.hec --keys keys/ y.enc -o y.npz"),
    ]
    for folder, line in steps:
        run = process(folder, line)
        assert (run.returncode, run.stderr) == (0, ""), run.stderr
    session = onnxruntime.InferenceSession(str(MLP))
    expected = session.run(None, {"image": mnist_test[:1]})[0]
    assert np.abs(np.load(owner / "y.npy") - expected).max() < 0.2
    assert np.array_equal(np.load(owner / "y.npz")["output"], np.load(owner / "y.npy"))
    assert (owner / "keys" / "secret.key").stat().st_mode & 0o777 == 0o600


def test_keys_and_messages_in_the_wrong_place_are_refused(
    tmp_path: Path, mnist_calibration: NDArray[np.float32], mnist_test: NDArray[np.float32]
) -> None:
    plan = compile_mlp(tmp_path, mnist_calibration[:64])
    keys, x, y = tmp_path / "keys", tmp_path / "x.enc", tmp_path / "y.npy"
    np.save(tmp_path / "x.npy", mnist_test[:2])
    assert hec("keygen", plan, "-o", keys).exit_code == 0
    assert hec("keygen", plan, "-o", keys).stderr == (
        f"The folder already holds a secret key\n  --> {keys}/secret.key\n"
        "  help: choose another folder; whoever overwrites a secret key loses what it encrypted\n"
    )
    assert hec("encrypt", plan, "--keys", keys, tmp_path / "x.npy", "-o", x).stderr == (
        "Expected an array of shape (1, 1, 28, 28), got (2, 1, 28, 28)\n"
        "  --> input 'image'\n  help: encrypt the 2 samples one at a time\n"
    )
    np.save(tmp_path / "x.npy", mnist_test[:1] + 9)
    run = hec("encrypt", plan, "--keys", keys, tmp_path / "x.npy", "-o", x)
    assert run.exit_code == 0
    assert run.stderr.startswith("warning: Values in [8.576, 11.82] leave the calibrated range")
    assert hec("run", plan, "--keys", keys / "secret.key", x, "-o", y).stderr == (
        f"Expected evaluation keys, found a secret key\n  --> {keys}/secret.key\n"
        "  help: give evaluation keys; the secret key must never leave the data owner\n"
    )
    assert hec("decrypt", plan, "--keys", keys, x, "-o", y).stderr == (
        f"Expected an encrypted output, found an encrypted input\n  --> {x}\n"
        "  help: give an encrypted output\n"
    )
    assert hec("decrypt", plan, "--keys", keys, x, "-o", tmp_path / "y.csv").stderr == (
        f"1 output arrays cannot be written to '.csv'\n  --> {tmp_path}/y.csv\n"
        "  help: give a path that ends in .npy or .npz\n"
    )
    assert not y.exists()


def test_a_check_on_real_ciphertexts_keeps_its_promise(
    tmp_path: Path,
    mnist_calibration: NDArray[np.float32],
    mnist_test: NDArray[np.float32],
    mnist_pixels: dict[str, NDArray[np.uint8]],
) -> None:
    plan = compile_mlp(tmp_path, mnist_calibration)
    np.savez(tmp_path / "samples.npz", image=mnist_test)
    np.save(tmp_path / "y.npy", mnist_pixels["test_labels"])
    run = hec(
        "check", plan, "--data", tmp_path / "samples.npz", "--labels", tmp_path / "y.npy",
        "--encrypted", 2, "--json",
    )  # fmt: skip
    told = json.loads(run.stdout)
    assert (run.exit_code, run.stderr) == (0, "")
    assert told["passed"]
    assert told["encrypted"]["kept"]
    assert told["encrypted"]["agreement"] == 1.0
    assert told["encrypted"]["runs"] == len(told["encrypted"]["seconds"]) == 2
    assert told["encrypted"]["error"]["max"] <= 2.0 ** -told["precision_bits"]
    forecast = json.loads(hec("report", plan, "--json").stdout)
    assert abs(told["encrypted"]["key_bytes"] / forecast["key_bytes"] - 1) < 0.1
    assert abs(told["encrypted"]["request_bytes"] / forecast["inputs"][0]["bytes"] - 1) < 0.1
    assert abs(told["encrypted"]["reply_bytes"] / forecast["outputs"][0]["bytes"] - 1) < 0.2


def test_the_demonstration_predicts_as_the_network_does() -> None:
    run = hec("demo", "--images", 2)
    assert (run.exit_code, run.stderr) == (0, "")
    assert "2 of 2 encrypted predictions agree with onnxruntime" in run.stdout
