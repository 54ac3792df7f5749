"""A prediction as its users make it: client and server are processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from process import timed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Served:
    """What came back, and what it took."""

    outputs: Array  # (samples, elements)
    seconds: Array  # of each prediction, in order
    measured: dict[str, float]  # what `deep_server.py` tells, and sizes
    key_seconds: float


def serve(plan: Path, samples: NDArray[np.float32]) -> Served:
    """Make keys, encrypt every sample, let a server answer, decrypt; files go beside `plan`."""
    folder, keys = plan.parent / "messages", plan.parent / "keys"
    folder.mkdir()
    _, key_seconds = timed(lambda: _hec("keygen", plan, "-o", keys))
    for number, sample in enumerate(samples):
        np.save(folder / f"{number:03}.npy", sample)
        request = folder / f"{number:03}.enc"
        _hec("encrypt", plan, "--keys", keys, folder / f"{number:03}.npy", "-o", request)
    server = Path(__file__).with_name("deep_server.py")
    command = [sys.executable, server, plan, keys / "evaluation.key", folder]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    told: dict[str, Any] = json.loads(answer.splitlines()[-1])
    seconds = np.array(told.pop("run_seconds"))
    outputs = []
    for reply in sorted(folder.glob("*.out")):
        output = reply.with_suffix(".y.npy")
        _hec("decrypt", plan, "--keys", keys, reply, "-o", output)
        outputs.append(np.load(output).reshape(-1))
    told |= {
        "key_bytes": (keys / "evaluation.key").stat().st_size,
        "request_bytes": request.stat().st_size,
        "reply_bytes": reply.stat().st_size,
    }
    return Served(np.stack(outputs), seconds, told, key_seconds)


def _hec(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "hec.compiler.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
