"""The last rung of a check: real keys, real ciphertexts, client and server in one process."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hec.compiler.agreement import Error, agreement, error
from hec.compiler.errors import HecWarning
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart

AnyArray = NDArray[np.generic]
Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]  # phase, done, of how many


@dataclass(frozen=True)
class EncryptedCheck:
    """What a few encrypted predictions took, and how exact they were."""

    runs: int  # predictions; those of a batch count one by one
    agreement: float | None  # of the first output, with the network's top-1
    error: Error  # against the plan in the clear, before the epilogue; the worst output
    kept: bool  # whether the error is within the promised precision
    seconds: tuple[float, ...]  # of the server
    key_seconds: float
    key_bytes: int
    request_bytes: int
    reply_bytes: int
    peak_bytes: int  # of this process, which plays client and server


def run_encrypted(
    plan: Plan,
    arrays: Mapping[str, Array],
    exact: Mapping[str, Array],
    expected: Mapping[str, AnyArray],
    progress: Progress,
) -> EncryptedCheck:
    """Predict every sample of `arrays` on ciphertexts.

    Compare with `exact`, the plan in the clear before the epilogue, and with `expected`, the
    network's own outputs; all by name, the first axis counts samples: those of `arrays` first.
    """
    from hec.runtime.simulate import finish

    session = _Session(plan, progress)
    raw = session.predict(arrays, progress)
    runs = len(next(iter(raw.values())))
    worst = max((error(raw[name], exact[name][:runs]) for name in raw), key=lambda e: e.max)
    first = plan.client.outputs[0]
    return EncryptedCheck(
        runs,
        agreement(finish(first, raw[first.name]), expected[first.name][:runs], first),
        worst,
        worst.max <= 2.0**-plan.client.precision,
        tuple(session.seconds),
        session.key_seconds,
        session.key_bytes,
        session.request_bytes,
        session.reply_bytes,
        peak_bytes(),
    )


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Session:
    """A client and a server with fresh keys."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        from hec.runtime.client import Client
        from hec.runtime.server import Server

        progress("keys", 0, 0)
        start = time.perf_counter()
        self.client = Client(_without_epilogue(plan.client))
        with tempfile.TemporaryDirectory(prefix="hec-") as folder:  # mode 0700
            path = Path(folder) / "evaluation.key"
            self.client.save_evaluation_keys(path)
            self.key_seconds = time.perf_counter() - start
            self.key_bytes = path.stat().st_size
            self.server = Server(plan, path, workers=1)  # no copy of the secret key
        self.inputs, self.outputs = plan.client.inputs, plan.client.outputs
        self.seconds: list[float] = []
        self.request_bytes = self.reply_bytes = 0

    def predict(self, arrays: Mapping[str, Array], progress: Progress) -> dict[str, Array]:
        """Return the raw outputs by name, (samples, elements)."""
        count, batch = len(next(iter(arrays.values()))), self.client.part.parameters.batch
        rows: dict[str, list[Array]] = {output.name: [] for output in self.outputs}
        for start in range(0, count, batch):
            progress("encrypted", start, count)
            chosen = {i.name: arrays[i.name][start : start + batch] for i in self.inputs}
            images = min(batch, count - start)
            shape = (images,) if batch > 1 else ()
            given = {i.name: chosen[i.name].reshape(*shape, *i.shape) for i in self.inputs}
            for name, values in self._predict_once(given).items():
                rows[name].append(np.asarray(values, np.float64).reshape(images, -1))
        return {name: np.concatenate(found) for name, found in rows.items()}

    def _predict_once(self, given: Mapping[str, Array]) -> Mapping[str, AnyArray]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HecWarning)  # the check counts them
            request = self.client.encrypt(given)
        start = time.perf_counter()
        reply = self.server.run(request)
        self.seconds.append(time.perf_counter() - start)
        self.request_bytes, self.reply_bytes = len(request), len(reply)
        found = self.client.decrypt(reply)
        return found if isinstance(found, Mapping) else {self.outputs[0].name: found}


def _without_epilogue(part: ClientPart) -> ClientPart:
    """Return the part of a client that stops where encryption does: the promise is about that."""
    return replace(part, outputs=tuple(replace(o, epilogue=()) for o in part.outputs))
