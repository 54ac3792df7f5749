"""Run the command line in this process, for its tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from hec.compiler.cli import app

MLP = Path(__file__).resolve().parent.parent / "examples" / "models" / "mlp.onnx"


def hec(*arguments: object) -> Result:
    """Return exit code, stdout and stderr of `hec arguments`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def compile_mlp(folder: Path, calibration: NDArray[np.float32]) -> Path:
    """Write mlp.hec and client.hec, of the example network, to `folder`."""
    np.save(folder / "calibration.npy", calibration)
    plan = folder / "mlp.hec"
    run = hec(
        "compile", MLP, "-o", plan, "--calibration", folder / "calibration.npy",
        "--client-only", folder / "client.hec",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    return plan
