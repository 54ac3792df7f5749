"""Inputs of the benchmarks' networks: data sets as each network was trained on them, or random.

A loader takes the data folder and returns `Samples`; bench/README.md says what the folder holds.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
CALIBRATION_SAMPLES = 1024


@dataclass(frozen=True)
class Samples:
    """Inputs as the network expects them, with the batch as first axis."""

    calibration: Images
    test: Images
    labels: NDArray[np.int64] | None  # of `test`; None where there is no data set


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


def plain(images: Images) -> Images:
    """Return the pixels as they are."""
    return images


def normalized(images: Images) -> Images:
    """Subtract MNIST's mean and divide by its standard deviation."""
    return (images - np.float32(0.1307)) / np.float32(0.3081)


def normalized_flat(images: Images) -> Images:
    """Normalize, and return (samples, 784)."""
    return normalized(images).reshape(len(images), -1)


def padded(images: Images) -> Images:
    """Pad 28x28 with zeros to 32x32."""
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))


def normalized_padded(images: Images) -> Images:
    """Normalize, then pad with the value of black."""
    return padded(normalized(images))


def bilinear(images: Images) -> Images:
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


def standardized(images: Images) -> Images:
    """Subtract ImageNet's mean and divide by its standard deviation, channel by channel."""
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
    return (images - mean) / deviation


def cifar_standardized(images: Images) -> Images:
    """Subtract CIFAR-10's own mean and divide by its standard deviation."""
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(1, 3, 1, 1)
    return (images - mean) / deviation


def channels_last(images: Images) -> Images:
    """Return (samples, 32, 32, 3)."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def raw_channels_last(images: Images) -> Images:
    """Return pixels from 0 to 255, (samples, 32, 32, 3)."""
    return np.ascontiguousarray((images * 255).round().transpose(0, 2, 3, 1))


def _cifar_file(path: Path) -> Images:
    """Return the 1,000 images of one file, which is a grid of 25 rows of 40."""
    from PIL import Image

    tiles = np.asarray(Image.open(path).convert("RGB")).reshape(25, 32, 40, 32, 3)
    images = tiles.transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)
    return (images / 255.0).astype(np.float32)


def flat(images: Images) -> Images:
    """Return the pixels of each image as a column."""
    return images.reshape(len(images), -1, 1)


def ten_at_once(images: Images) -> Images:
    """Return batches of ten images, for a network whose batch axis is fixed."""
    whole = padded(images[: len(images) // 10 * 10])
    return whole.reshape(-1, 10, *whole.shape[1:])


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


def uniform(*shape: int) -> Callable[[Path], Samples]:
    """Return a loader of independent features, uniform in [0, 1]."""
    return lambda _: _random(lambda g, n: g.uniform(0, 1, (n, *shape)))


def standard_normal(*shape: int) -> Callable[[Path], Samples]:
    """Return a loader of independent standard normal features."""
    return lambda _: _random(lambda g, n: g.standard_normal((n, *shape)))


INPUTS: dict[str, Callable[[Path], Samples]] = {
    "MNIST, x/255": mnist(plain),
    "MNIST, x/255, a column": mnist(flat),
    "MNIST, x/255, zero-padded to 32x32": mnist(padded),
    "MNIST, x/255, zero-padded to 32x32, ten at once": mnist(ten_at_once),
    "MNIST, (x/255 - .1307)/.3081": mnist(normalized),
    "MNIST, (x/255 - .1307)/.3081, flat": mnist(normalized_flat),
    "MNIST, (x/255 - .1307)/.3081, zero-padded to 32x32": mnist(normalized_padded),
    "MNIST, bilinear to 32x32 (PIL), x/255": mnist(bilinear),
    "CIFAR-10, x/255": cifar10(plain),
    "CIFAR-10, x/255, NHWC": cifar10(channels_last),
    "CIFAR-10, 0..255, NHWC": cifar10(raw_channels_last),
    "CIFAR-10, ImageNet's mean and deviation": cifar10(standardized),
    "CIFAR-10, its own mean and deviation": cifar10(cifar_standardized),
    "uniform in the ranges of the iris data set": iris_ranges,
    "uniform in [0, 1]": uniform(1),
    "3 standard normal features": standard_normal(3),
    "4 standard normal features": standard_normal(4),
    "14 standard normal features": standard_normal(14),
    "16 standard normal features": standard_normal(16),
    "30 standard normal features": standard_normal(30),
    "standard normal, 10x10": standard_normal(10, 10),
    "standard normal, 3x2x2": standard_normal(3, 2, 2),
    "standard normal, 3x5x5": standard_normal(3, 5, 5),
}
