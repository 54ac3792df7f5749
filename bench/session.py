"""A network in one process: compiled, and then the client and the server of one prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import hec
from models import Model
from process import peak_bytes, timed
from samples import Samples

__all__ = [
    "agreement",
    "clear_outputs",
    "compile_model",
    "parameters",
    "peak_bytes",
    "rms",
    "timed",
]

Array = NDArray[np.float64]


def compile_model(
    model: Model, folder: Path, samples: Samples, backend: str, batch: int = 1
) -> tuple[hec.Plan, float]:
    """Return the plan and the seconds of compiling it, with the samples meant for calibration."""
    target = hec.Target(
        backend=backend, maxpool=model.maxpool, max_error=model.max_error, batch=batch
    )
    path = folder / "models" / model.path
    return timed(lambda: hec.compile(path, calibration=samples.calibration, target=target))


def clear_outputs(path: Path, samples: NDArray[np.float32]) -> Array:
    """Return onnxruntime's first output, (samples, elements)."""
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    if samples.ndim > len(first.shape):  # samples that are batches themselves
        outputs = [session.run(None, {first.name: sample})[0] for sample in samples]
        return as_matrix(np.stack(outputs), len(samples))
    batch = 1 if isinstance(first.shape[0], int) else len(samples)
    parts = [
        session.run(None, {first.name: samples[start : start + batch]})[0]
        for start in range(0, len(samples), batch)
    ]
    return as_matrix(np.concatenate(parts), len(samples))


def as_matrix(value: Any, samples: int) -> Array:
    """Return an output, or the first of several, as (samples, elements)."""
    if isinstance(value, Mapping):
        value = next(iter(value.values()))
    return np.asarray(value, np.float64).reshape(samples, -1)


def agreement(outputs: Array, clear: Array) -> float:
    """Return the share of samples whose largest output is the same."""
    return float((outputs.argmax(axis=1) == clear.argmax(axis=1)).mean())


def rms(values: Array) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def parameters(plan: hec.Plan) -> dict[str, float]:
    """Return ring degree, levels and modulus bits of the plan."""
    chosen = plan.client.parameters
    return {
        "ring_degree": chosen.ring_degree,
        "levels": len(chosen.primes) - 1,
        "modulus_bits": chosen.modulus_bits,
    }
