"""What OpenFHE's primitive steps and functional bootstraps cost on this machine.

python bench/openfhe_steps.py            # about six minutes, 12 GB

OpenFHE's part of `hec/costs/reference.json` and the constants of `compiler/openfhe_costs.py` were
fitted to its output, which tests hold.
"""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import openfhe as fhe
import typer

from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.cost import bootstrap_seconds, openfhe_costs
from hec.compiler.fourier import fitted
from hec.runtime.allocator import keep_freed_memory
from hec.runtime.openfhe_primes import chain

LIMBS = (4, 5, 8, 12, 23)
# levels, degree, log2 of ring degree and of slots, bits, depth, digits
BOOTSTRAPS = (
    ((2, 2), 31, 15, 14, 33, 22, 8),
    ((2, 2), 31, 15, 12, 33, 22, 8),
    ((3, 2), 15, 15, 14, 33, 22, 8),
    ((3, 2), 15, 15, 13, 33, 22, 8),
    ((3, 2), 15, 15, 12, 33, 22, 8),
    ((3, 2), 31, 15, 14, 31, 23, 8),
    ((3, 2), 15, 13, 12, 33, 22, 8),
    ((2, 2), 31, 13, 12, 33, 22, 8),
    ((3, 2), 15, 12, 11, 33, 22, 8),
    ((3, 2), 15, 12, 11, 33, 22, 23),
)
Row = tuple[tuple[int, int], int, int, int, int, int, int]


def parameters(row: Row) -> EncryptionParameters:
    """Return the instance of a row; those of a small ring are not secure, and only timed."""
    levels, _, log_degree, log_slots, bits, depth, digits = row
    primes, special = chain(2**log_degree, [bits + 1, *[bits] * depth], digits, True)
    how = Bootstrapping(levels, (0, 0), 2**log_slots)
    return EncryptionParameters(2**log_degree, primes, special, 128, digits, how)


def context_of(row: Row) -> Any:
    """Return an OpenFHE context with the security check off: nothing is protected here."""
    _, _, log_degree, _, bits, depth, digits = row
    description = fhe.CCParamsCKKSRNS()
    description.SetSecretKeyDist(fhe.SPARSE_ENCAPSULATED)
    description.SetSecurityLevel(fhe.HEStd_NotSet)
    description.SetRingDim(2**log_degree)
    description.SetScalingModSize(bits)
    description.SetFirstModSize(bits + 1)
    description.SetScalingTechnique(fhe.FLEXIBLEAUTO)
    description.SetKeySwitchTechnique(fhe.HYBRID)
    description.SetNumLargeDigits(digits)
    description.SetMultiplicativeDepth(depth)
    context = fhe.GenCryptoContext(description)
    for feature in (fhe.PKE, fhe.KEYSWITCH, fhe.LEVELEDSHE, fhe.ADVANCEDSHE, fhe.FHE):
        context.Enable(feature)
    return context


def milliseconds(step: Callable[[], object], runs: int = 12) -> float:
    """Return the median of several runs, after one that warms up."""
    step()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
    return 1000 * float(np.median(found))


def steps() -> None:
    """Print the primitive steps at ring degree 2^15, measured and predicted, in milliseconds."""
    row: Row = ((3, 2), 15, 15, 14, 33, 22, 8)
    context, costs = context_of(row), openfhe_costs(parameters(row))
    keys = context.KeyGen()
    context.EvalRotateKeyGen(keys.secretKey, [1])
    values = np.random.default_rng(0).uniform(-1, 1, 2**14)
    for limbs in LIMBS:
        done = 23 - limbs
        plain = context.MakeCKKSPackedPlaintext(values, 1, done, None, 2**14)
        x = context.Encrypt(keys.secretKey, plain)
        digits = context.EvalFastRotationPrecompute(x)
        product, total = context.EvalMult(x, plain), context.EvalMult(x, plain)
        measured = (
            milliseconds(lambda x=x: context.EvalRotate(x, 1)),
            milliseconds(lambda x=x, d=digits: context.EvalFastRotation(x, 1, 2**16, d)),
            milliseconds(lambda x=x, plain=plain: context.EvalMult(x, plain)),
            milliseconds(lambda p=product, total=total: context.EvalAddInPlace(total, p)),
            milliseconds(lambda p=product, n=limbs: context.Compress(p, n - 1, 1)),
            milliseconds(lambda d=done: context.MakeCKKSPackedPlaintext(values, 1, d, None, 2**14)),
        )
        names = ("rotate", "hoisted", "multiply_plain", "add", "rescale", "encode")
        predicted = (
            costs.key_switch(limbs), costs.hoisted_rotation(limbs), costs.multiply_plain(limbs),
            costs.add(limbs), costs.rescale(limbs), costs.encode(limbs),
        )  # fmt: skip
        told = zip(names, measured, predicted, strict=True)
        print(limbs, ", ".join(f"{n} {m:.2f} ({1000 * p:.2f})" for n, m, p in told), flush=True)


def bootstraps() -> None:
    """Print seconds of bootstraps, measured and predicted."""
    for row in BOOTSTRAPS:
        (levels, degree, _, log_slots, _, depth, _), chosen = row, parameters(row)
        context = context_of(row)
        context.EvalFEFuncBootstrapSetup(list(levels), [0, 0], 2**log_slots)
        keys = context.KeyGen()
        context.EvalMultKeyGen(keys.secretKey)
        context.EvalBootstrapKeyGen(keys.secretKey, 2**log_slots)
        series = [complex(*pair) for pair in fitted(lambda x: np.maximum(x, 0), degree).T]
        values = np.random.default_rng(0).uniform(-0.4, 0.4, 2**log_slots)
        level = depth - levels[1] - 1
        plain = context.MakeCKKSPackedPlaintext(values, 1, level, None, 2**log_slots)
        x = context.Encrypt(keys.secretKey, plain)
        measured = milliseconds(lambda c=context, x=x, s=series: c.EvalFEFuncBootstrap(x, s), 3)
        predicted = bootstrap_seconds(chosen, degree)
        print(f"{row}: {measured / 1000:.2f} s ({predicted:.2f})", flush=True)
        fhe.CryptoContext.ClearEvalAutomorphismKeys()
        fhe.ClearEvalMultKeys()
        context.ClearStaticMapsAndVectors()
        fhe.ReleaseAllContexts()
        del context, x, plain, keys
        ctypes.CDLL(None).malloc_trim(0)


def main(
    only_steps: Annotated[bool, typer.Option("--only-steps", help="no bootstraps")] = False,
) -> None:
    """Measure; in brackets what the forecast says."""
    keep_freed_memory()
    steps()
    if not only_steps:
        bootstraps()
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    typer.run(main)
