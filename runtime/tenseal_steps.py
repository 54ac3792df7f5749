"""Measure Microsoft SEAL's steps on this machine, through the backend that servers use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Final

import numpy as np
from tenseal import sealapi as seal

from hec.compiler.ckks_ir import LIMB_BYTES, EncryptionParameters
from hec.compiler.cost_table import SealSteps
from hec.compiler.memory import one_key_bytes
from hec.runtime.step_timing import Stopwatch, line
from hec.runtime.tenseal_backend import TensealBackend
from hec.runtime.tenseal_client import TensealSecret
from hec.runtime.tenseal_context import TensealContext, to_bytes
from hec.runtime.tenseal_primes import primes

# Bits of the primes, the special one last, all that 128-bit security allows: programs use most.
CHAINS: Final[Mapping[int, tuple[int, ...]]] = {
    4096: (36, 36, 37),
    8192: (36, 28, 28, 28, 28, 28, 38),
    16384: (44, *[40] * 8, 60),
    32768: (60, *[50] * 14, 60),
}
_SCALE: Final = 2.0**14  # so that products fit in one prime
_WORKING_BYTES: Final = 48 * 10**6  # of plaintexts, or keys, in turn: a matrix's fit in no cache
_MOST_PLAINTEXTS: Final = 200
_PLACE: Final = "calibration"
_KEYS: Final = (3, 16)  # of rotations, at least and at most

Told = Callable[[str], None]


def measure(ring_degree: int, watch: Stopwatch, tell: Told = lambda what: None) -> SealSteps:
    """Return the seconds of every step in one ring."""
    ring = _Ring(ring_degree)
    found: dict[str, list[tuple[int, float]]] = {}
    for limbs in ring.limbs:
        tell(f"SEAL, ring degree {ring_degree}, {limbs} limbs")
        for name, step in ring.steps(limbs):
            found.setdefault(name, []).append((limbs, watch.seconds(step)))
    switch = line(found["key_switch"], square=True)
    products = [(limbs, max(t - switch(limbs), 0.1 * t)) for limbs, t in found["multiply"]]
    return SealSteps(
        ring_degree,
        switch,
        line(found["multiply_plain"]),
        line(found["add"]),
        line(found["add_plain"]),
        line(products),
        line(found["rescale"]),
        line(found["encode"]),
        line(found["load"]),
        line(found["save"]),
    )


class _Ring:
    """Random numbers, encrypted under a key that is forgotten."""

    def __init__(self, ring_degree: int) -> None:
        moduli = primes(ring_degree, CHAINS[ring_degree])
        self.parameters = EncryptionParameters(ring_degree, moduli[:-1], moduli[-1:], 128)
        self.context = TensealContext(self.parameters)
        generator = seal.KeyGenerator(self.context.seal)
        self.secret = TensealSecret(self.context, generator.secret_key())
        fewest, most = _KEYS
        count = max(fewest, min(most, _WORKING_BYTES // one_key_bytes(self.parameters)))
        self.turns = range(1, count + 1)
        elements = [self.context.galois_element(steps) for steps in self.turns]
        relin, galois = seal.RelinKeys(), seal.GaloisKeys()
        generator.create_relin_keys(relin)
        generator.create_galois_keys(elements, galois)
        self.backend = TensealBackend(self.context, relin, (galois,))
        self.values = np.random.default_rng(0).uniform(-1, 1, self.parameters.slots)
        top = self.parameters.top_level + 1
        self.limbs = tuple(sorted({1, 2, (top + 2) // 3, (2 * top + 2) // 3, top}))

    def steps(self, limbs: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield every step on ciphertexts of so many limbs, by its name in `SealSteps`."""
        backend, level = self.backend, limbs - 1
        x, y = self._encrypted(level), self._encrypted(level)
        size = limbs * self.parameters.ring_degree * LIMB_BYTES
        count = max(4, min(_MOST_PLAINTEXTS, _WORKING_BYTES // size))
        plains = [backend.encode(self.values, level, _SCALE) for _ in range(count)]
        diagonal, turn = cycle(plains), cycle(self.turns)
        sums = cycle([self._encrypted(level) for _ in range(4)])
        yield "key_switch", lambda: backend.rotate(x, next(turn))
        yield "multiply_plain", lambda: backend.multiply_plain(x, next(diagonal))
        yield "add", lambda: backend.add(next(sums), y)
        yield "add_plain", lambda: backend.add_plain(next(sums), plains[0])
        yield "multiply", lambda: backend.multiply(x, y)
        yield "encode", lambda: backend.encode(self.values, level, _SCALE)
        request = self.secret.encrypt(self.values, level, _SCALE, _PLACE)
        most = self.context.ciphertext_bytes(level)
        yield "load", lambda: self.context.load_ciphertext(request, level, _SCALE, _PLACE)
        yield "save", lambda: to_bytes(y, most)
        if level:
            yield "rescale", lambda: backend.rescale(x)

    def _encrypted(self, level: int) -> seal.Ciphertext:
        data = self.secret.encrypt(self.values, level, _SCALE, _PLACE)
        return self.context.load_ciphertext(data, level, _SCALE, _PLACE)
