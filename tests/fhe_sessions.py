"""A client and a server on OpenFHE side by side; whoever imports this without OpenFHE is skipped.

The rings are too small to be secure, so that a test takes seconds: `insecure_for_tests`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import parameters, refreshing_program
from hec.compiler.bootstrapping import level_scales
from hec.compiler.ckks_ir import EncryptionParameters, Program
from hec.compiler.errors import CompileError
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.plan_parts import ClientPart
from hec.runtime.openfhe_primes import chain
from sample_plans import SCALE, client_part, linear_program

try:
    from hec.runtime.openfhe_library import fhe
except CompileError as error:
    pytest.skip(str(error), allow_module_level=True)

from hec.runtime.openfhe_client import OpenfheSecret
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_server import OpenfheEvaluator

Array = NDArray[np.float64]
MARKS = [pytest.mark.openfhe, pytest.mark.encrypted]

LEVELED = EncryptionParameters(8192, *chain(8192, (38, 28, 28, 28, 28)), 128)  # 128-bit secure
SHORT = EncryptionParameters(4096, *chain(4096, (28, 20)), 128)  # 128-bit secure
REFRESHING = parameters(10)  # the smallest ring that bootstraps, and insecure
STEPS = (1, 5, 4093)
MANIFEST = KeyManifest(STEPS, relinearization=True)


def working_scale(chosen: EncryptionParameters, level: int) -> float:
    """Return the scale that values have at `level` between two operations."""
    return SCALE if chosen.bootstrapping is None else level_scales(chosen.primes)[level]


def part_of(program: Program, keys: KeyManifest | None = None) -> ClientPart:
    """Return the client part of a plan for OpenFHE; its keys may be others than needed."""
    part = replace(client_part(program), backend="openfhe", plan_id="a" * 64)
    return part if keys is None else replace(part, keys=keys)


def leveled_part(
    keys: KeyManifest = MANIFEST, chosen: EncryptionParameters = LEVELED
) -> ClientPart:
    """Return a client part without bootstraps; its tensors are of no use."""
    return replace(part_of(linear_program(LEVELED), keys), parameters=chosen)


def refreshing_part(chosen: EncryptionParameters = REFRESHING) -> ClientPart:
    """Return a client part that names the keys of bootstraps; its tensors are of no use."""
    return replace(part_of(refreshing_program(REFRESHING)), parameters=chosen)


class Session:
    """A client's secret and a server's backend, in one context that may be insecure."""

    def __init__(self, part: ClientPart, folder: Path) -> None:
        self.part, self.parameters = part, part.parameters
        self.context = OpenfheContext(part.parameters, insecure_for_tests=True)
        self.secret = OpenfheSecret(self.context)
        self.path = folder / "evaluation.key"
        self.secret.write_evaluation_keys(part, self.path)
        self.evaluator = self.server(self.path)
        if part.keys.bootstrapping:
            self.path.unlink()  # hundreds of megabytes, which pytest would keep
        self.backend = self.evaluator.backend
        self.random = np.random.default_rng(0)

    def server(self, evaluation_keys: Path | bytes) -> OpenfheEvaluator:
        """Return a server with keys of this plan."""
        return OpenfheEvaluator(self.part, evaluation_keys, "evaluation.key", self.context)

    def encrypted(self, values: Array, level: int, scale: float | None = None) -> Any:
        """Return the ciphertext of (slots,) values as the server reads it."""
        scale = scale or working_scale(self.parameters, level)
        data = self.secret.encrypt(values, level, scale, "test")
        return self.evaluator.load(data, level, scale, "test")

    def fresh(self, level: int, scale: float | None = None) -> tuple[Array, Any]:
        """Return random values in [-1, 1], and their ciphertext."""
        values = self.random.uniform(-1, 1, self.parameters.slots)
        return values, self.encrypted(values, level, scale)

    def fresh_all(self, level: int) -> tuple[Array, Any]:
        """Return random values in [-1, 1] for every slot of the ring, and their ciphertext."""
        values = self.random.uniform(-1, 1, self.parameters.ring_slots)
        return values, self.encrypted(values, level)

    def decrypted(self, x: Any) -> Array:
        """Return the values of a ciphertext, as the client reads it."""
        level, scale = self.backend.level(x), self.backend.scale(x)
        data = self.evaluator.save(x, level, scale)
        return self.secret.decrypt(data, level, scale, "test")


def tables() -> dict[str, tuple[list[int], bool]]:
    """Return what the process's key tables hold: automorphisms and product key, by tag."""
    context = fhe.CryptoContext
    rotations, products = context.GetAllEvalAutomorphismKeys(), context.GetAllEvalMultKeys()
    return {
        tag: (list(context.GetExistingEvalAutomorphismKeyIndices(tag)), tag in products)
        for tag in rotations.keys() | products.keys()
    }
