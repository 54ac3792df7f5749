"""What the command line says about options and files that cannot be used: the full texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cli_runner import MLP, compile_mlp, hec


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    mnist_calibration: NDArray[np.float32],
    mnist_test: NDArray[np.float32],
) -> Path:
    """A folder with mlp.hec, client.hec, x.npy (one sample), two.npz, labels.npy, text.csv."""
    path = tmp_path_factory.mktemp("files")
    compile_mlp(path, mnist_calibration[:64])
    np.save(path / "x.npy", mnist_test[:1])
    np.save(path / "three.npy", mnist_test[:3])
    np.savez(path / "two.npz", a=mnist_test[:1], b=mnist_test[:1])
    np.save(path / "labels.npy", np.arange(3))
    np.save(path / "nan.npy", np.full((1, 1, 28, 28), np.nan))
    (path / "text.csv").write_text("1,2,3\n")
    (path / "keys").mkdir()
    return path


OPTIONS = [
    (
        ("--degree", -1),
        "polynomials of degree -1 are not fitted\n"
        "  --> --degree -1\n"
        "  help: give a degree from 2 to 31, or leave it out: hec chooses one per layer\n",
    ),
    (
        ("--degree", 32),
        "polynomials of degree 32 are not fitted\n"
        "  --> --degree 32\n"
        "  help: give a degree from 2 to 31, or leave it out: hec chooses one per layer\n",
    ),
    (
        ("--precision", "nan"),
        "a precision of nan bits is not possible\n"
        "  --> --precision nan\n"
        "  help: give -log2 of the error that the outputs may have, up to 60\n",
    ),
    (
        ("--max-error", "0"),
        "an error of 0 is not a limit that can be kept\n"
        "  --> --max-error 0\n"
        "  help: give a positive share of the outputs' root mean square, such as 0.05\n",
    ),
    (
        ("--min-agreement", "1.5", "--calibration", "{folder}/x.npy"),
        "an agreement of 1.5 is not a share that can be reached\n"
        "  --> --min-agreement 1.5\n"
        "  help: give a share of the samples up to 1, such as 0.99\n",
    ),
    (
        ("--min-agreement", "0.99", "--max-error", "0.1", "--calibration", "{folder}/x.npy"),
        "an agreement and an error are two goals for the same choice of degrees\n"
        "  --> --min-agreement 0.99 --max-error 0.1\n"
        "  help: leave out one of the two options\n",
    ),
    (
        ("--min-agreement", "0.99", "--degree", "7"),
        "where the degree is given nothing can be chosen to reach an agreement\n"
        "  --> --min-agreement 0.99 --degree 7\n"
        "  help: leave out one of the two options\n"
        "an agreement is measured on samples, and there are none\n"
        "  --> --min-agreement 0.99\n"
        "  help: pass --calibration with a few hundred real inputs, or use --max-error\n",
    ),
    (
        ("--security", 100),
        "no parameters are standardised for 100 bits of security\n"
        "  --> --security 100\n"
        "  help: give 128, 192 or 256\n",
    ),
    (
        ("--backend", "seal"),
        "there is no backend 'seal'\n"
        "  --> --backend seal\n"
        "  help: give one of auto, tenseal, openfhe\n",
    ),
    (
        ("--maxpool", "exact"),
        "'exact' is nothing that could stand for MaxPool\n"
        "  --> --maxpool exact\n"
        "  help: give approximate or average\n",
    ),
    (
        ("--input", "image"),
        "'image' is not a name and a shape\n"
        "  --> --input image\n"
        "  help: give NAME=SHAPE with sizes from 1 upwards, for example --input image=1,1,28,28\n",
    ),
    (
        ("--input", "image=1,0"),
        "'image=1,0' is not a name and a shape\n"
        "  --> --input image=1,0\n"
        "  help: give NAME=SHAPE with sizes from 1 upwards, for example --input image=1,1,28,28\n",
    ),
    (
        ("--input", "image=1", "--input", "image=2"),
        "input 'image' has two shapes\n"
        "  --> --input image=2\n"
        "  help: give --input once for each input\n",
    ),
    (
        ("--input-range", "1,0"),
        "'1,0' is not an interval\n"
        "  --> --input-range 1,0\n"
        "  help: give LO,HI with LO below HI, for example --input-range 0,1\n",
    ),
    (
        ("--input-range", "0,1", "--calibration", "{folder}/x.npy"),
        "the samples of --calibration tell the input range; another one has no meaning\n"
        "  --> --input-range 0,1\n"
        "  help: leave out one of the two options\n",
    ),
    (
        ("--degree", 1, "--security", 1),
        "polynomials of degree 1 are not fitted\n"
        "  --> --degree 1\n"
        "  help: give a degree from 2 to 31, or leave it out: hec chooses one per layer\n"
        "no parameters are standardised for 1 bits of security\n"
        "  --> --security 1\n"
        "  help: give 128, 192 or 256\n",
    ),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[str(o) for o, _ in OPTIONS])
def test_an_option_without_sense(options: tuple[object, ...], message: str, folder: Path) -> None:
    given = [str(option).format(folder=folder) for option in options]
    run = hec("compile", MLP, "-o", folder / "new.hec", *given)
    assert (run.exit_code, run.stdout, run.stderr) == (2, "", message)


FILES = [
    (
        "compile {folder}/none.onnx -o {folder}/new.hec",
        "the model file does not exist\n"
        "  --> {folder}/none.onnx\n"
        "  help: give the path of an .onnx file\n",
    ),
    (
        "compile {mlp} -o {folder}/none/new.hec",
        "the folder of the output does not exist\n"
        "  --> {folder}/none/new.hec\n"
        "  help: mkdir -p {folder}/none\n",
    ),
    (
        "compile {mlp} -o {folder}",
        "the output is a folder\n"
        "  --> {folder}\n"
        "  help: give the path of a file after -o\n",
    ),
    (
        "compile {mlp} -o {mlp}",
        "the output would replace the input\n"
        "  --> {mlp}\n"
        "  help: give another path after -o\n",
    ),
    (
        "compile {mlp} -o {folder}/new.hec --calibration {folder}/none.npz",
        "Cannot read the array file: No such file or directory\n"
        "  --> {folder}/none.npz\n"
        "  help: check the path\n",
    ),
    (
        "compile {mlp} -o {folder}/new.hec --calibration {folder}",
        "Cannot read the array file: Is a directory\n"
        "  --> {folder}\n"
        "  help: check the path\n",
    ),
    (
        "compile {mlp} -o {folder}/new.hec --calibration {folder}/text.csv",
        "the file holds no numpy arrays\n"
        "  --> {folder}/text.csv\n"
        "  help: give a .npy or .npz file, as numpy.save and numpy.savez write them\n",
    ),
    (
        "compile {mlp} -o {folder}/new.hec --calibration {folder}/two.npz",
        "calibration data is for inputs 'a', 'b', not 'image'\n"
        "  --> mlp.onnx\n"
        "  help: give one array for each input of the model, under its name\n",
    ),
    (
        "check {folder}/client.hec --data {folder}/x.npy",
        "The file holds no server part\n"
        "  --> {folder}/client.hec\n"
        "  help: give the whole plan, not the part made for the other side\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/labels.npy",
        "samples of shape (3,) do not fit\n"
        "  --> input 'image' of shape (1, 1, 28, 28)\n"
        "  help: give an array whose first axis counts samples\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/two.npz",
        "no samples for input 'image'\n"
        "  --> samples\n"
        "  help: give one array for each input of the model, under its name\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/nan.npy",
        "samples of type float64 hold values that are not finite real numbers\n"
        "  --> input 'image' of shape (1, 1, 28, 28)\n"
        "  help: remove or repair these samples\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/x.npy --labels {folder}/labels.npy",
        "labels of type int64 and shape (3,) do not fit 1 samples\n"
        "  --> --labels\n"
        "  help: give one whole number, the class, for each sample\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/x.npy --labels {folder}/two.npz",
        "the file holds 2 arrays, 'a', 'b': which are the labels?\n"
        "  --> {folder}/two.npz\n"
        "  help: give a .npy file, or an .npz file with one array\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/x.npy --encrypted 2",
        "2 encrypted predictions were asked for, and there are 1 samples\n"
        "  --> --encrypted 2\n"
        "  help: ask for 1 or fewer, or give more samples\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/x.npy --encrypted -1",
        "a number of encrypted predictions cannot be negative\n"
        "  --> --encrypted -1\n"
        "  help: give 0 or more\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/x.npy --model {folder}/none.onnx",
        "the model file does not exist\n"
        "  --> {folder}/none.onnx\n"
        "  help: give the path of an .onnx file\n",
    ),
    (
        "check {folder}/mlp.hec --data {folder}/x.npy --model {other}",
        "the network is not the one that was compiled, mlp.onnx\n"
        "  --> cntk-mnist-op8.onnx: inputs 'Input3', outputs 'Plus214_Output_0'\n"
        "  help: the plan has inputs 'image', outputs 'logits'\n",
    ),
    (
        "report {folder}/text.csv",
        "This is not a hec plan\n"
        "  --> {folder}/text.csv\n"
        "  help: give a file made by hec as hec plan\n",
    ),
    (
        "encrypt {folder}/client.hec --keys {folder}/keys {folder}/x.npy -o {folder}/x.enc",
        "Cannot read the secret key: No such file or directory\n"
        "  --> {folder}/keys/secret.key\n"
        "  help: check the path\n",
    ),
    (
        "run {folder}/mlp.hec --keys {folder}/keys {folder}/x.npy -o {folder}/y.enc",
        "Cannot read the evaluation keys: Is a directory\n"
        "  --> {folder}/keys\n"
        "  help: check the path\n",
    ),
    (
        "run {folder}/mlp.hec --keys {folder}/text.csv {folder}/x.npy -o {folder}/y.enc",
        "Expected evaluation keys, found other data\n"
        "  --> {folder}/text.csv\n"
        "  help: give evaluation keys made by hec\n",
    ),
    (
        "demo --images 65",
        "hec has 64 images, not 65\n"
        "  --> --images 65\n"
        "  help: give a number from 1 to 64\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), FILES, ids=[line for line, _ in FILES])
def test_a_file_that_cannot_be_used(line: str, message: str, folder: Path, models: Path) -> None:
    names = {"folder": folder, "mlp": MLP, "other": models / "cntk-mnist-op8.onnx"}
    run = hec(*(word.format(**names) for word in line.split()))
    assert (run.exit_code, run.stdout, run.stderr) == (2, "", message.format(**names))


def test_nothing_is_written_where_something_is_wrong(folder: Path) -> None:
    assert not (folder / "new.hec").exists()
    assert not list(folder.glob("*.enc"))
