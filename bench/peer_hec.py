"""hec as a contender: `python peer_hec.py MODEL FOLDER BACKEND`; one process plays both sides."""

from __future__ import annotations

import sys
from pathlib import Path

import hec
import session
from models import select
from peer_worker import Contender, work


def prepare(name: str, folder: Path, backend: str) -> Contender:
    """Compile, make keys, encode weights."""
    (model,) = select([name])
    samples = model.samples(folder)
    plan, compile_seconds = session.compile_model(model, folder, samples, backend)
    client = hec.Client(plan)
    server = hec.Server(plan, client.evaluation_keys())
    chosen = plan.client.parameters
    return Contender(
        lambda number: client.encrypt(samples.test[number][None]),
        server.run,
        lambda reply: session.as_matrix(client.decrypt(reply), 1)[0].tolist(),
        {
            "ring_degree": chosen.ring_degree,
            "levels": chosen.top_level,
            "modulus_bits": chosen.modulus_bits,
            "compile_seconds": compile_seconds,
        },
    )


if __name__ == "__main__":
    work(lambda: prepare(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
