"""Measure OpenFHE's steps on this machine, through the backend that servers use.

Steps are timed in one small ring and in one of the size that deep networks take; a functional
bootstrap only in a small one, too small to be secure: nothing is protected here. What it takes
beyond its steps is one factor, which large rings share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from typing import Any, Final, NamedTuple

import numpy as np

from hec.compiler.bootstrapping import input_level, level_scales
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.cost_table import OpenfheSteps
from hec.compiler.fourier import fitted
from hec.compiler.openfhe_costs import OpenfheCosts
from hec.runtime import openfhe_keys
from hec.runtime.openfhe_backend import OpenfheBackend
from hec.runtime.openfhe_ciphertexts import OpenfheCiphertexts
from hec.runtime.openfhe_client import new_secret_key
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_primes import chain
from hec.runtime.step_timing import Stopwatch, fit, line

_BOOTSTRAP_RING: Final = 2**12


class _Chain(NamedTuple):
    """A chain of primes, and the limbs at which it is measured."""

    bits: tuple[int, ...]
    digits: int
    limbs: tuple[int, ...]


# The outer two are of a deep network: secure in the largest ring, and in the smallest one for a
# bootstrap of little work. Those between are of leveled networks, a digit for each prime.
_DEEP: Final = _Chain((34, *[33] * 22), 8, (4, 8, 14, 23))
_CHAINS: Final = {
    2**12: _DEEP,
    2**13: _Chain((50, *[26] * 4), 5, (1, 2, 3, 5)),
    2**14: _Chain((50, *[33] * 9), 10, (1, 2, 5, 10)),
    2**15: _DEEP,
}
RINGS: Final = tuple(_CHAINS)
_TURNS: Final = (1, 2, 3, 4)
_SCALE: Final = 2.0**20  # so that products fit in one prime
_PLACE: Final = "calibration"
_DEGREE: Final = 15
_EXTENDED_PRODUCT: Final = 1.3  # times a product with a plaintext, and a sum; fitted, bench

Told = Callable[[str], None]


def measure(ring_degree: int, watch: Stopwatch, tell: Told = lambda what: None) -> OpenfheSteps:
    """Return the seconds of every step in one of `RINGS`; its bootstraps as its steps add up."""
    used = _CHAINS[ring_degree]
    ring = _Ring(_leveled(ring_degree), is_secure=ring_degree > _BOOTSTRAP_RING)
    found: dict[str, list[tuple[int, float]]] = {}
    for limbs in used.limbs:
        tell(f"OpenFHE, ring degree {ring_degree}, {limbs} limbs")
        for name, step in ring.steps(limbs):
            found.setdefault(name, []).append((limbs, watch.seconds(step)))
    return _fitted(ring.parameters, {name: dict(pairs) for name, pairs in found.items()})


def measure_bootstrap(
    steps: OpenfheSteps, watch: Stopwatch, tell: Told = lambda what: None
) -> float:
    """Return the seconds of a functional bootstrap over what `steps` add up to."""
    tell(f"OpenFHE, a bootstrap of ring degree {_BOOTSTRAP_RING}")
    how = Bootstrapping((3, 2), (0, 16), _BOOTSTRAP_RING // 2)
    parameters = replace(_leveled(_BOOTSTRAP_RING, bootstrapping=True), bootstrapping=how)
    ring = _Ring(parameters, is_secure=False)
    level = input_level(how)
    x = ring.encrypted(level, level_scales(parameters.primes)[level])
    series = fitted(lambda values: np.maximum(values, 0), _DEGREE)
    seconds = watch.seconds(lambda: ring.backend.bootstrap(x, series))
    return seconds / OpenfheCosts(parameters, steps).bootstrap(how, _DEGREE)


def _leveled(ring_degree: int, bootstrapping: bool = False) -> EncryptionParameters:
    used = _CHAINS[ring_degree]
    primes, special = chain(ring_degree, used.bits, used.digits, bootstrapping)
    return EncryptionParameters(ring_degree, primes, special, 128, used.digits)


class _Ring:
    """Random numbers, encrypted under a key that is forgotten with this."""

    def __init__(self, parameters: EncryptionParameters, is_secure: bool) -> None:
        self.parameters = parameters
        self.context = OpenfheContext(parameters, insecure_for_tests=not is_secure)
        fhe, how = self.context.fhe, parameters.bootstrapping
        self._key = new_secret_key(self.context)
        fhe.EvalMultKeyGen(self._key)
        if how is None:
            fhe.EvalRotateKeyGen(self._key, list(_TURNS))
        else:
            self.context.prepare_bootstrap()
            fhe.EvalBootstrapKeyGen(self._key, how.slots)
        held = openfhe_keys.held(self.context, self._key.GetKeyTag())
        self.backend = OpenfheBackend(self.context, held)
        self.values = np.random.default_rng(0).uniform(-0.4, 0.4, parameters.slots)

    def encrypted(self, level: int, scale: float) -> Any:
        """Return a ciphertext of the random numbers."""
        plain = self.context.encode(self.values, level, scale)
        return self.context.typed(self.context.fhe.Encrypt(self._key, plain), scale)

    def steps(self, limbs: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield every step on ciphertexts of so many limbs, by name."""
        backend, level, scale = self.backend, limbs - 1, _SCALE
        x, y = self.encrypted(level, scale), self.encrypted(level, scale)
        plains = cycle([backend.encode(self.values, level, scale) for _ in range(8)])
        total, turn = self.encrypted(level, scale), cycle(_TURNS)
        yield "key_switch", lambda: backend.rotate(x, next(turn))
        yield "hoisted", lambda: backend.rotate_each(x, _TURNS)
        yield "multiply_plain", lambda: backend.multiply_plain(x, next(plains))
        yield "add", lambda: backend.accumulate(total, y)
        yield "multiply", lambda: backend.multiply(x, y)
        yield "encode", lambda: backend.encode(self.values, level, scale)
        messages = OpenfheCiphertexts(self.context, self._key.GetKeyTag())
        request = messages.save(x)
        yield "load", lambda: messages.load(request, level, scale, _PLACE)
        yield "save", lambda: messages.save(y)
        if level:
            yield "rescale", lambda: backend.rescale(x)


def _fitted(parameters: EncryptionParameters, found: dict[str, dict[int, float]]) -> OpenfheSteps:
    """Return the steps whose sums are what was measured."""
    switch, hoisted = found["key_switch"], found["hoisted"]
    raised, inner, drop, rotation = _rotations(parameters, switch, hoisted)
    product, most = line(found["multiply_plain"].items()), max(switch)
    multiply = found["multiply"]
    rest = [(limbs, max(t - switch[limbs], 0.02 * t)) for limbs, t in multiply.items()]
    return OpenfheSteps(
        parameters.ring_degree,
        raised,
        inner,
        drop,
        _EXTENDED_PRODUCT * product(most) / most,
        product,
        line(found["add"].items()),
        line(rest),
        line((limbs + 1, seconds) for limbs, seconds in found["rescale"].items()),
        line(found["encode"].items()),
        rotation,
        line(found["load"].items()),
        line(found["save"].items()),
    )


def _rotations(
    parameters: EncryptionParameters, one: Mapping[int, float], several: Mapping[int, float]
) -> list[float]:
    """Return what raising a digit, inner products, dropping and any rotation take.

    From the seconds, by limbs, of `one` rotation and of `several`, which raise digits once.
    """
    width = -(-len(parameters.primes) // parameters.digits)
    rows, seconds = [], []
    for turns, measured in ((1, one), (len(_TURNS), several)):
        for limbs, taken in measured.items():
            extended = limbs + len(parameters.special_primes)
            work = -(-limbs // width) * extended
            rows.append((work, turns * work, turns * extended, turns))
            seconds.append(taken)
    return fit(list(np.array(rows, float).T), seconds)
