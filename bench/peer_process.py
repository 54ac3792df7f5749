"""Contenders as processes beside each other, asked in turns: they share the same minutes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from peer_worker import MARK

Array = NDArray[np.float64]
Answer = dict[str, Any]


class Failed(Exception):  # its name is its message's first word
    """A contender stopped; says with which words."""


@dataclass
class Racer:
    """One contender's process, and all that it answered."""

    process: subprocess.Popen[str]
    errors: IO[str]
    about: Answer = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Racer:
        """Start a contender and wait until it is ready; raise `Failed` if it never is."""
        errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment
        )
        racer = cls(process, errors)
        try:
            racer.about = racer._answer()
        except Failed:
            racer.stop()
            raise
        return racer

    def predict(self, sample: int) -> None:
        """Let it predict one sample; raise `Failed` if it stops."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{sample}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words tell why
        self.answers.append(self._answer())

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def _answer(self) -> Answer:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                answer: Answer = json.loads(line.removeprefix(MARK))
                return answer
        status = self.process.wait()
        self.errors.seek(0)
        words = [line for line in self.errors.read().splitlines() if line.strip()]
        raise Failed((words or [f"exit status {status}"])[-1])


def summary(about: Answer, answers: Sequence[Answer], clear: Array) -> dict[str, float | str]:
    """Return medians over the answers after the first, and errors against `clear`, all of them.

    `clear` is (answers, elements), in the order of the answers.
    """
    warm = answers[1:] or answers
    seconds = np.array([answer["seconds"] for answer in warm])
    outputs = np.array([answer["outputs"] for answer in answers])
    error = float(np.abs(outputs - clear).mean())
    agree = int((outputs.argmax(axis=1) == clear.argmax(axis=1)).sum())
    medians = {
        key: float(np.median([answer[key] for answer in warm]))
        for key in ("cpu_seconds", "encrypt_seconds", "decrypt_seconds")
    }
    return {
        **about,
        **medians,
        "run_seconds": float(np.median(seconds)),
        "run_fastest": float(seconds.min()),
        "run_slowest": float(seconds.max()),
        "error_bits": float(-np.log2(max(error, 2.0**-60))),
        "agreement": f"{agree}/{len(answers)}",
        "peak_bytes": max(answer["peak_bytes"] for answer in answers),
    }
