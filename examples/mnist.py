"""The digits that come with hec, as the example networks expect them.

    python examples/mnist.py FOLDER

writes calibration.npz, samples.npz (both hold `image`), labels.npy, and x.npy, the first sample.
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def load() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Return 256 training images, 64 test images, (samples, 1, 28, 28), and the test labels."""
    with as_file(files("hec") / "demo" / "mnist.npz") as path, np.load(path) as arrays:
        calibration, test = arrays["calibration_images"], arrays["test_images"]
        return _normalized(calibration), _normalized(test), arrays["test_labels"]


def _normalized(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return ((pixels / 255.0 - 0.1307) / 0.3081).astype(np.float32)[:, None]


def write(folder: Path) -> None:
    """Write the files that examples/client_server.sh uses."""
    calibration, test, labels = load()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "calibration.npz", image=calibration)
    np.savez_compressed(folder / "samples.npz", image=test)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "x.npy", test[:1])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
