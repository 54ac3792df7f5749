"""What every contender of `peers.py` is: a process that gets ready, then predicts when it is told.

It runs in the contender's own environment: nothing but the standard library and numpy here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from process import peak_bytes, timed

MARK = "row: "  # starts the lines that are meant for the parent; libraries print others


@dataclass(frozen=True)
class Contender:
    """A network, ready to predict."""

    encrypt: Callable[[int], Any]  # from the number of a sample
    predict: Callable[[Any], Any]  # on ciphertexts: what is timed
    decrypt: Callable[[Any], list[float]]  # the outputs
    about: dict[str, float | str] = field(default_factory=dict)  # parameters, versions


def tell(**values: Any) -> None:
    """Send one line to the parent."""
    print(MARK + json.dumps(values), flush=True)


def work(prepare: Callable[[], Contender]) -> None:
    """Get ready; predict one sample for every line of standard input, which holds its number."""
    start = time.perf_counter()
    contender = prepare()
    tell(prepare_seconds=time.perf_counter() - start, **contender.about)
    for line in sys.stdin:
        request, encrypting = timed(lambda line=line: contender.encrypt(int(line)))
        cpu = time.process_time()
        reply, seconds = timed(lambda request=request: contender.predict(request))
        cpu = time.process_time() - cpu
        outputs, decrypting = timed(lambda reply=reply: contender.decrypt(reply))
        tell(
            seconds=seconds,
            cpu_seconds=cpu,
            encrypt_seconds=encrypting,
            decrypt_seconds=decrypting,
            outputs=list(map(float, outputs)),
            peak_bytes=peak_bytes(),
        )
