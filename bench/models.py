"""The networks of the benchmarks: file, input data, how many samples, exact or fitted.

Files are sought under one folder (`--data`, else the environment's HEC_BENCH_DATA, else
bench/data); bench/README.md says what it holds and where that comes from.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
DEFAULT_DATA = Path(__file__).parent / "data"
CALIBRATION_SAMPLES = 1024


@dataclass(frozen=True)
class Samples:
    """Inputs as the network expects them, with the batch as first axis."""

    calibration: Images
    test: Images
    labels: NDArray[np.int64] | None  # of `test`; None where there is no data set


@dataclass(frozen=True)
class Model:
    """One network of the benchmarks."""

    name: str
    path: str  # under the data folder
    samples: Callable[[Path], Samples]
    inputs: str  # what `samples` gives, in words
    activations: Literal["exact", "fitted"]  # exact: squares and polynomials of the network itself
    deep: bool = False  # too deep without bootstraps: bench/deep.py


def data_folder(option: Path | None) -> Path:
    """Return the folder of models and data sets, or leave with a message that says what to do."""
    folder = option or Path(os.environ.get("HEC_BENCH_DATA", DEFAULT_DATA))
    if not (folder / "models").is_dir():
        raise SystemExit(
            f"no models under {folder}: pass --data, or set HEC_BENCH_DATA (see bench/README.md)"
        )
    return folder


def _mnist(folder: Path, prepare: Callable[[Images], Images]) -> Samples:
    """Return MNIST with pixels in [0, 1] given to `prepare` as (samples, 1, 28, 28)."""
    train = _idx(folder / "mnist/train-images-idx3-ubyte.gz")[:CALIBRATION_SAMPLES]
    test = _idx(folder / "mnist/t10k-images-idx3-ubyte.gz")
    labels = _idx(folder / "mnist/t10k-labels-idx1-ubyte.gz")
    return Samples(
        prepare((train / 255.0).astype(np.float32)[:, None]),
        prepare((test / 255.0).astype(np.float32)[:, None]),
        labels.astype(np.int64),
    )


def _idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an idx file (http://yann.lecun.com/exdb/mnist)."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _plain(images: Images) -> Images:
    return images


def _normalized(images: Images) -> Images:
    return (images - np.float32(0.1307)) / np.float32(0.3081)


def _normalized_flat(images: Images) -> Images:
    return _normalized(images).reshape(len(images), -1)


def _padded(images: Images) -> Images:
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))


def _bilinear(images: Images) -> Images:
    """Enlarge 28x28 to 32x32 on the 0..255 pixels with PIL's bilinear filter."""
    from PIL import Image

    pixels = np.rint(images[:, 0] * 255).astype(np.uint8)
    size, method = (32, 32), Image.Resampling.BILINEAR
    resized = [np.asarray(Image.fromarray(p).resize(size, method)) for p in pixels]
    return (np.stack(resized)[:, None] / 255.0).astype(np.float32)


def mnist(prepare: Callable[[Images], Images]) -> Callable[[Path], Samples]:
    """Return a loader of MNIST; `prepare` turns pixels in [0, 1] into the network's input."""
    return lambda folder: _mnist(folder, prepare)


def cifar10(prepare: Callable[[Images], Images]) -> Callable[[Path], Samples]:
    """Return a loader of CIFAR-10, the first 2,000 test images.

    `prepare` turns pixels in [0, 1], (samples, 3, 32, 32), into the network's input.
    """

    def load(folder: Path) -> Samples:
        train = _cifar_file(folder / "cifar10/train/train-00.webp")[:CALIBRATION_SAMPLES]
        test = [_cifar_file(folder / f"cifar10/test/test-0{i}.webp") for i in range(2)]
        labels = np.load(folder / "cifar10/test-labels.npy")[: sum(map(len, test))]
        return Samples(prepare(train), prepare(np.concatenate(test)), labels.astype(np.int64))

    return load


def _standardized(images: Images) -> Images:
    """Subtract ImageNet's mean and divide by its standard deviation, channel by channel."""
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
    return (images - mean) / deviation


def _cifar_standardized(images: Images) -> Images:
    """Subtract CIFAR-10's own mean and divide by its standard deviation."""
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(1, 3, 1, 1)
    return (images - mean) / deviation


def _raw_channels_last(images: Images) -> Images:
    return np.ascontiguousarray((images * 255).round().transpose(0, 2, 3, 1))


def _cifar_file(path: Path) -> Images:
    """Return the 1,000 images of one file, which is a grid of 25 rows of 40."""
    from PIL import Image

    tiles = np.asarray(Image.open(path).convert("RGB")).reshape(25, 32, 40, 32, 3)
    images = tiles.transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)
    return (images / 255.0).astype(np.float32)


# Fisher's iris measurements in cm: sepal length, sepal width, petal length, petal width.
IRIS_LOW, IRIS_HIGH = (4.3, 2.0, 1.0, 0.1), (7.9, 4.4, 6.9, 2.5)
RANDOM_TEST_SAMPLES = 2000


def _random(draw: Callable[[np.random.Generator, int], NDArray[np.float64]]) -> Samples:
    generator = np.random.default_rng(2026)
    calibration = draw(generator, CALIBRATION_SAMPLES).astype(np.float32)
    return Samples(calibration, draw(generator, RANDOM_TEST_SAMPLES).astype(np.float32), None)


def iris_ranges(_: Path) -> Samples:
    """Return measurements drawn uniformly from the ranges of the iris data set."""
    return _random(lambda g, n: g.uniform(IRIS_LOW, IRIS_HIGH, (n, 4)))


def standard_normal(features: int) -> Callable[[Path], Samples]:
    """Return a loader of independent standard normal features."""
    return lambda _: _random(lambda g, n: g.standard_normal((n, features)))


MNIST_RAW, MNIST_NORMAL = "MNIST, x/255", "MNIST, (x/255 - .1307)/.3081"
MNIST_BILINEAR = "MNIST, bilinear to 32x32 (PIL), x/255"
CIFAR_IMAGENET = "CIFAR-10, ImageNet's mean and deviation"

MODELS: tuple[Model, ...] = (
    Model("mlp", "bench/mlp.onnx", mnist(_normalized), MNIST_NORMAL, "exact"),
    Model("lola", "bench/lola.onnx", mnist(_normalized), MNIST_NORMAL, "exact"),
    Model("lenet", "bench/lenet.onnx", mnist(_normalized), MNIST_NORMAL, "exact"),
    Model(
        "tenseal-convmnist",
        "tenseal-convmnist-square.folded.onnx",
        mnist(_normalized),
        MNIST_NORMAL,
        "exact",
    ),
    Model(
        "dacapo-mlp", "dacapo-mnist-mlp-square.bn.onnx", mnist(_normalized), MNIST_NORMAL, "exact"
    ),
    Model(
        "heman-cryptonets",
        "third_party/mnist/heman-cryptonets-square.onnx",
        mnist(_bilinear),
        MNIST_BILINEAR,
        "exact",
    ),
    Model(
        "heir-mlp512",
        "heir-mnist-mlp512.folded.onnx",
        mnist(_normalized_flat),
        MNIST_NORMAL,
        "fitted",
    ),
    Model(
        "heman-small-relu",
        "third_party/mnist/heman-mnist-small-relu.onnx",
        mnist(_plain),
        MNIST_RAW,
        "fitted",
    ),
    Model(
        "heman-lenet5",
        "third_party/mnist/heman-lenet5.onnx",
        mnist(_bilinear),
        MNIST_BILINEAR,
        "fitted",
    ),
    Model(
        "verivital-convnet",
        "third_party/mnist/vnn-verivital-convnet-avgpool.onnx",
        mnist(_plain),
        MNIST_RAW,
        "fitted",
    ),
    Model(
        "winml-iris",
        "third_party/tabular/winml-iris.onnx",
        iris_ranges,
        "uniform in the ranges of the iris data set",
        "fitted",
    ),
    Model(
        "hls4ml-three-layer",
        "third_party/tabular/hls4ml-three_layer_keras.onnx",
        standard_normal(16),
        "16 standard normal features",
        "fitted",
    ),
    Model(
        "safenlp-medical",
        "third_party/text/vnn-safenlp-medical.onnx",
        standard_normal(30),
        "30 standard normal features",
        "fitted",
    ),
    Model(
        "ezkl-lenet5",
        "third_party/misc/ezkl-lenet_5.onnx",
        mnist(_padded),
        "MNIST, x/255, zero-padded to 32x32",
        "exact",
    ),
    Model(
        "delphi-minionn",
        "delphi-minionn-7-approx.folded.onnx",
        cifar10(_plain),
        "CIFAR-10, x/255",
        "exact",
    ),
    *(
        Model(name, path, cifar10(prepare), inputs, "fitted", deep=True)
        for name, path, prepare, inputs in (
            ("resnet20", "akamaster-resnet20.folded.onnx", _standardized, CIFAR_IMAGENET),
            ("resnet20-bn", "akamaster-resnet20.bn.onnx", _standardized, CIFAR_IMAGENET),
            ("resnet20-dynamo", "akamaster-resnet20.dynamo.onnx", _standardized, CIFAR_IMAGENET),
            (
                "ace-resnet20",
                "third_party/cifar10/ace-resnet20.onnx",
                _standardized,
                CIFAR_IMAGENET,
            ),
            (
                "resnet20-silu",
                "dacapo-resnet20-silu.folded.onnx",
                _standardized,
                CIFAR_IMAGENET,
            ),
            ("resnet32", "akamaster-resnet32.folded.onnx", _standardized, CIFAR_IMAGENET),
            ("resnet56", "akamaster-resnet56.folded.onnx", _standardized, CIFAR_IMAGENET),
            ("resnet8", "mlcommons-resnet8.onnx", _raw_channels_last, "CIFAR-10, 0..255, NHWC"),
            (
                "resnet-2b",
                "third_party/cifar10/vnn-resnet-2b.onnx",
                _cifar_standardized,
                "CIFAR-10, its own mean and deviation",
            ),
            ("minionn-relu", "delphi-minionn-relu.folded.onnx", _plain, "CIFAR-10, x/255"),
        )
    ),
)


def select(names: list[str], deep: bool = False) -> list[Model]:
    """Return the models of these names; without names all that are deep, or all that are not.

    Leave with a message if there is no such model.
    """
    known = {model.name: model for model in MODELS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such model: {', '.join(unknown)}; there are {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    return [model for model in MODELS if model.deep == deep]
