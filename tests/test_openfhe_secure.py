"""One functional bootstrap at 128-bit security, by client and server; OpenFHE's check is on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bootstrap_plans import DEGREE, RELU, parameters
from fhe_sessions import part_of
from hec.compiler import ckks_ir, fourier, noise
from hec.compiler.bootstrapping import level_scales
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters, Program
from hec.compiler.layout import Layout
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ServerPart
from hec.compiler.security import is_secure
from hec.runtime.client import Client
from hec.runtime.server import Server
from sample_plans import first_slots

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

# The cheapest that is secure: few slots, as few keys as baby steps allow, as few digits as fit.
HOW = Bootstrapping((2, 2), (4, 4), 2**10)
SECURE = parameters(15, depth=20, digits=5, how=HOW)
LEVEL = 3
ERROR_BITS = 1.5
TOLERANCE = 1.5e-3  # six deviations


def program(chosen: EncryptionParameters) -> Program:
    """Return input, bootstrap, output; the slots repeat."""
    repeated = Layout(np.arange(chosen.slots, dtype=np.int32)[None] % HOW.slots)
    return Program(
        chosen,
        (
            ckks_ir.Input("x", repeated, LEVEL, level_scales(chosen.primes)[LEVEL], 1.0),
            ckks_ir.Bootstrap(0, RELU, "relu"),
            ckks_ir.Rescale(1),
            ckks_ir.Output(2, "y", first_slots(chosen.slots, HOW.slots), 1.0),
        ),
    )


def test_a_secure_bootstrap_is_its_series_with_the_error_that_noise_predicts(
    tmp_path: Path,
) -> None:
    assert is_secure(SECURE.ring_degree, SECURE.modulus_bits, 128)
    plan = Plan.of(part_of(program(SECURE)), ServerPart(program(SECURE), ("",) * 4))
    client = Client(plan)
    client.save_evaluation_keys(tmp_path / "evaluation.key")
    server = Server(plan, tmp_path / "evaluation.key")
    (tmp_path / "evaluation.key").unlink()  # more than a gigabyte
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, HOW.slots))
    error = np.asarray(client.decrypt(server.run(client.encrypt(x)))) - fourier.series(RELU, x)
    argument = noise.bootstrapping(SECURE) * fourier.slope(RELU, x)
    predicted = np.sqrt(np.mean(argument**2) + noise.bootstrap_result(SECURE, DEGREE) ** 2)
    assert abs(np.log2(np.sqrt(np.mean(error**2)) / predicted)) < ERROR_BITS
    assert np.abs(error).max() < TOLERANCE
