"""What several test files share: the folders, and the demonstration network with its data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
MNIST_MEAN, MNIST_DEVIATION = 0.1307, 0.3081  # of the pixels of the training images, in [0, 1]

# The same examples in every run of CI; elsewhere new ones, which find new bugs.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files instead of comparing"
    )


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the settings of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of the small networks by others; see its README."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def lola() -> Path:
    """The demonstration network: convolution, 100, 10, squares; input (batch, 1, 28, 28)."""
    return ROOT / "hec" / "demo" / "lola.onnx"


@pytest.fixture(scope="session")
def mnist_pixels() -> dict[str, NDArray[np.uint8]]:
    """Arrays calibration_images (256, 28, 28), test_images (64, 28, 28), test_labels (64,)."""
    with np.load(ROOT / "hec" / "demo" / "mnist.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def mnist_calibration(mnist_pixels: dict[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Training images as the networks expect them, (256, 1, 28, 28)."""
    return _normalized(mnist_pixels["calibration_images"])


@pytest.fixture(scope="session")
def mnist_test(mnist_pixels: dict[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Test images as the networks expect them, (64, 1, 28, 28)."""
    return _normalized(mnist_pixels["test_images"])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with the file of that name under tests/golden; see `Golden`."""
    return Golden(bool(request.config.getoption("--update-golden")))


class Golden:
    """Texts that must stay as they are until someone rewrites them and reads the diff."""

    def __init__(self, update: bool) -> None:
        self.update = update

    def check(self, name: str, text: str) -> None:
        """Fail unless tests/golden/`name` holds exactly `text`; a missing file fails too."""
        path = ROOT / "tests" / "golden" / name
        if self.update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: pytest --update-golden writes it"
        assert text == path.read_text(encoding="utf-8")


def _normalized(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = (pixels / 255.0 - MNIST_MEAN) / MNIST_DEVIATION
    return values.astype(np.float32)[:, None]
