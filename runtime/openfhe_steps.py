"""Measure OpenFHE's steps on this machine, through the backend that servers use.

Steps are timed in one small ring and in one of the size that deep networks take; a functional
bootstrap only in a small one, too small to be secure: nothing is protected here. What it takes
beyond its steps is one factor, which large rings share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from math import ceil
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


# The outer two are of a deep network: in the smallest ring for a bootstrap of little work. Those
# between are of leveled ones, a digit for each prime. None protects anything.
_DEEP: Final = _Chain((34, *[33] * 22), 8, (4, 8, 14, 23))
_CHAINS: Final = {
    2**12: _DEEP,
    2**13: _Chain((50, *[26] * 4), 5, (1, 2, 3, 5)),
    2**14: _Chain((50, *[33] * 9), 10, (1, 2, 5, 10)),
    2**15: _DEEP,
}
_WIDE: Final = 3  # digits of a second chain, on which only rotations are measured
RINGS: Final = tuple(_CHAINS)
_TURNS: Final = (1, 2, 3, 4)
_SCALE: Final = 2.0**20  # so that products fit in one prime
_PLACE: Final = "calibration"
_ONE, _SEVERAL = "key_switch", "hoisted"
_DEGREE: Final = 15
_EXTENDED_PRODUCT: Final = 1.3  # times a product with a plaintext, and a sum; fitted, bench

Told = Callable[[str], None]


def measure(ring_degree: int, watch: Stopwatch, tell: Told = lambda what: None) -> OpenfheSteps:
    """Return the seconds of every step in one of `RINGS`; its bootstraps as its steps add up."""
    used, found = _CHAINS[ring_degree], dict[str, dict[int, float]]()
    ring = _Ring(_leveled(ring_degree))
    for limbs in used.limbs:
        tell(f"OpenFHE, ring degree {ring_degree}, {limbs} limbs")
        for name, step in ring.steps(limbs):
            found.setdefault(name, {})[limbs] = watch.seconds(step)
    rows = [_Turned(ring.parameters, *each) for each in _turned(found)]
    tell(f"OpenFHE, ring degree {ring_degree}, {_WIDE} digits")
    wide, seen = _Ring(_leveled(ring_degree, digits=_WIDE)), dict[str, dict[int, float]]()
    for limbs in used.limbs[1:]:
        for name, step in wide.rotations(limbs):
            seen.setdefault(name, {})[limbs] = watch.seconds(step)
    rows += [_Turned(wide.parameters, *each) for each in _turned(seen)]
    return _fitted(ring_degree, found, rows)


def measure_bootstrap(
    steps: OpenfheSteps, watch: Stopwatch, tell: Told = lambda what: None
) -> float:
    """Return the seconds of a functional bootstrap over what `steps` add up to."""
    tell(f"OpenFHE, a bootstrap of ring degree {_BOOTSTRAP_RING}")
    how = Bootstrapping((3, 2), (0, 16), _BOOTSTRAP_RING // 2)
    parameters = replace(_leveled(_BOOTSTRAP_RING, bootstrapping=True), bootstrapping=how)
    ring = _Ring(parameters)
    level = input_level(how)
    x = ring.encrypted(level, level_scales(parameters.primes)[level])
    series = fitted(lambda values: np.maximum(values, 0), _DEGREE)
    seconds = watch.seconds(lambda: ring.backend.bootstrap(x, series))
    return seconds / OpenfheCosts(parameters, steps).bootstrap(how, _DEGREE)


def _leveled(
    ring_degree: int, bootstrapping: bool = False, digits: int = 0
) -> EncryptionParameters:
    used = _CHAINS[ring_degree]
    digits = digits or used.digits
    primes, special = chain(ring_degree, used.bits, digits, bootstrapping)
    return EncryptionParameters(ring_degree, primes, special, 128, digits)


class _Ring:
    """Random numbers, encrypted under a key that is forgotten with this."""

    def __init__(self, parameters: EncryptionParameters) -> None:
        self.parameters = parameters
        self.context = OpenfheContext(parameters, insecure_for_tests=True)
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

    def rotations(self, limbs: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield one rotation, and as many as `_TURNS` that share what they can, by name."""
        x, turn = self.encrypted(limbs - 1, _SCALE), cycle(_TURNS)
        yield _ONE, lambda: self.backend.rotate(x, next(turn))
        yield _SEVERAL, lambda: self.backend.rotate_each(x, _TURNS)

    def steps(self, limbs: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield every step on ciphertexts of so many limbs, by name."""
        backend, level, scale = self.backend, limbs - 1, _SCALE
        x, y = self.encrypted(level, scale), self.encrypted(level, scale)
        plains = cycle([backend.encode(self.values, level, scale) for _ in range(8)])
        total = self.encrypted(level, scale)
        yield from self.rotations(limbs)
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


class _Turned(NamedTuple):
    """So many rotations of one ciphertext, which raise digits once, and what they took."""

    parameters: EncryptionParameters
    limbs: int
    turns: int
    seconds: float


def _turned(found: Mapping[str, Mapping[int, float]]) -> Iterator[tuple[int, int, float]]:
    for name, turns in ((_ONE, 1), (_SEVERAL, len(_TURNS))):
        yield from ((limbs, turns, seconds) for limbs, seconds in found[name].items())


def _fitted(
    ring_degree: int, found: Mapping[str, Mapping[int, float]], turned: Sequence[_Turned]
) -> OpenfheSteps:
    """Return the steps whose sums are what was measured."""
    raised, conversion, inner, drop, rotation = _rotations(turned)
    product, switch = line(found["multiply_plain"].items()), found[_ONE]
    rest = [(n, max(t - switch[n], 0.02 * t)) for n, t in found["multiply"].items()]
    most = max(switch)
    return OpenfheSteps(
        ring_degree,
        raised,
        conversion,
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


def _rotations(turned: Sequence[_Turned]) -> list[float]:
    """Return what raising a digit, conversions, inner products, dropping and any rotation take."""
    rows = []
    for parameters, limbs, turns, _ in turned:
        special = len(parameters.special_primes)
        width, extended = ceil(len(parameters.primes) / parameters.digits), limbs + special
        work = ceil(limbs / width) * extended
        converted = limbs * extended + turns * special * limbs
        rows.append((work, converted, turns * work, turns * extended, turns))
    return fit(list(np.array(rows, float).T), [each.seconds for each in turned])
