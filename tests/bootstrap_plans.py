"""Small Programs that refresh, in the clear only: the ring is too small to be secure."""

from __future__ import annotations

import numpy as np

from hec.compiler import ckks_ir, fourier
from hec.compiler.bootstrapping import level_scales
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters, Program
from hec.runtime.openfhe_primes import chain
from sample_plans import diagonals, first_slots

DEGREE = 15
RELU = fourier.fitted(lambda x: np.maximum(x, 0), DEGREE)


def parameters(
    log_degree: int = 11,
    bits: int = 33,
    depth: int = 22,
    digits: int = 8,
    how: Bootstrapping | None = None,
) -> EncryptionParameters:
    """Return OpenFHE's instance; without `how` all slots are refreshed by (3, 2) levels."""
    primes, special = chain(2**log_degree, [bits + 1, *[bits] * depth], digits, True)
    how = how or Bootstrapping((3, 2), (0, 16), 2 ** (log_degree - 1))
    return EncryptionParameters(2**log_degree, primes, special, 128, digits, how)


def refreshing_program(chosen: EncryptionParameters, shifts: tuple[int, ...] = (0, 5)) -> Program:
    """Return bootstrap, matrix, bootstrap."""
    scales, slots = level_scales(chosen.primes), chosen.slots
    matrix = diagonals(1, slots, (1, 1), shifts)
    layout = first_slots(slots, 8)
    return Program(
        chosen,
        (
            ckks_ir.Input("x", layout, 3, scales[3], 1.0),
            ckks_ir.Bootstrap(0, RELU, "relu1"),
            ckks_ir.Rescale(1),
            ckks_ir.LinearTransform(2, matrix, 4, 0, scales[3] * chosen.primes[4] / scales[4]),
            ckks_ir.Rescale(3),
            ckks_ir.Bootstrap(4, RELU, "relu2"),
            ckks_ir.Rescale(5),
            ckks_ir.Output(6, "y", layout, 1.0),
        ),
    )
