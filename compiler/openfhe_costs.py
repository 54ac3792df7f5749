"""What each primitive step, and a functional bootstrap, cost on OpenFHE.

HYBRID key switching cuts the limbs of a ciphertext into digits, raises each to all limbs and the
special ones (a hoisted rotation shares that), multiplies by the key, and drops the special limbs.
A bootstrap is counted in these steps; what stands here was fitted to 2-thread seconds on 2 idle
cores of an AMD EPYC, OpenFHE 1.6.1, 2026-11-25 (bench/openfhe_steps.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Final

from hec.compiler.bootstrap_keys import Stage, coeffs_to_slots, partial_sums, slots_to_coeffs
from hec.compiler.bootstrapping import EXPONENTIAL_LEVELS, series_levels
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.cost_table import OpenfheSteps

_DOUBLINGS: Final = 3  # squarings of the exponential
_EXPONENTIAL_PRODUCTS: Final = 20.0  # of its Chebyshev series; fitted
# Of weighted sums, in units of one weight among residues, for a limb of one polynomial. Taken from
# processor time on a machine that others used, ring degree 2^13, OpenFHE 1.6.1, 2026-11-27.
NUMBER_PRODUCT: Final = 11.0  # a ciphertext times a number, added
READ: Final = 20.0  # the residues of a ciphertext
WRITE: Final = 130.0  # residues as a ciphertext
_WEIGHT: Final = 1.5e-10  # seconds of a unit and a coefficient; two threads
_FULL: Final = 1.2  # evaluations that full slots take, where sparse ones take one; fitted


@dataclass(frozen=True)
class OpenfheCosts:
    """Seconds of one primitive step with two threads; `limbs` is level + 1."""

    parameters: EncryptionParameters
    steps: OpenfheSteps

    def _extended(self, limbs: int) -> int:
        return limbs + len(self.parameters.special_primes)

    def _digits(self, limbs: int) -> int:
        width = ceil(len(self.parameters.primes) / self.parameters.digits)
        return ceil(limbs / width)

    def decompose(self, limbs: int) -> float:
        """What hoisted rotations of one ciphertext share."""
        raised = self.steps.raise_digit * self._digits(limbs) + self.steps.conversion * limbs
        return raised * self._extended(limbs)

    def _inner_product(self, limbs: int) -> float:
        return self.steps.inner_product * self._digits(limbs) * self._extended(limbs)

    def _drop_special(self, limbs: int) -> float:
        converted = self.steps.conversion * len(self.parameters.special_primes) * limbs
        return self.steps.drop_special * self._extended(limbs) + converted

    def hoisted_rotation(self, limbs: int) -> float:
        """One rotation of a ciphertext that is decomposed already."""
        return self.steps.rotation + self._inner_product(limbs) + self._drop_special(limbs)

    def key_switch(self, limbs: int) -> float:
        """One rotation, or one relinearization."""
        return self.decompose(limbs) + self.hoisted_rotation(limbs)

    def multiply_plain(self, limbs: int) -> float:
        """One product with an encoded plaintext."""
        return self.steps.multiply_plain(limbs)

    def add(self, limbs: int) -> float:
        """One sum of ciphertexts."""
        return self.steps.add(limbs)

    def add_plain(self, limbs: int) -> float:
        """One sum of a ciphertext and an encoded plaintext."""
        return self.add(limbs)

    def multiply(self, limbs: int) -> float:
        """One product of ciphertexts, without its relinearization."""
        return self.steps.multiply(limbs)

    def rescale(self, limbs: int) -> float:
        """One rescaling."""
        return self.steps.rescale(limbs + 1)

    def encode(self, limbs: int) -> float:
        """One plaintext made, where it is not kept."""
        return self.steps.encode(limbs)

    def weighted_sums(self, shape: tuple[int, int], terms: int, limbs: int) -> float:
        """Sums of so many of (sums, operands); `limbs` of all polynomials."""
        sums, operands = shape
        units = min(NUMBER_PRODUCT * terms, dense_units(sums, operands))
        return units * limbs * self.parameters.ring_degree * _WEIGHT

    def load(self, limbs: int) -> float:
        """One ciphertext of a request."""
        return self.steps.load(limbs)

    def save(self, limbs: int) -> float:
        """One ciphertext of the reply."""
        return self.steps.save(limbs)

    def bootstrap(self, how: Bootstrapping, degree: int) -> float:
        """One functional bootstrap of a series of `degree`."""
        return self.steps.bootstrap * sum(self._bootstrap_parts(how, degree))

    def _bootstrap_parts(self, how: Bootstrapping, degree: int) -> Iterator[float]:
        top = len(self.parameters.primes)
        decoding, encoding = slots_to_coeffs(how), coeffs_to_slots(how)
        for number, stage in enumerate(decoding):
            yield self._stage(stage, len(decoding) + 1 - number)
        yield self.key_switch(1) + self.key_switch(top)  # to a sparse secret, and back
        full = how.slots == self.parameters.slots
        copies = len(partial_sums(self.parameters.ring_degree, how)) if not full else 0
        yield (1 + copies) * self.key_switch(top)  # and one conjugation
        for number, stage in enumerate(encoding):
            yield self._stage(stage, top - number)
        twice = _FULL if full else 1.0
        yield twice * self._evaluation(top - len(encoding), degree)

    def _stage(self, stage: Stage, limbs: int) -> float:
        """Baby steps stay in the extended modulus; every giant step leaves it and comes back."""
        giant = self.decompose(limbs) + self._inner_product(limbs) + self._drop_special(limbs)
        products = self.steps.extended_product * self._extended(limbs) * stage.diagonals
        babies = self.decompose(limbs) + (stage.babies - 1) * self._inner_product(limbs)
        rest = self._drop_special(limbs) + self.rescale(limbs)
        return babies + products + (stage.giants - 1) * giant + rest

    def _evaluation(self, limbs: int, degree: int) -> float:
        """The exponential and the series of one ciphertext that enters with `limbs`."""
        seconds, steps = 0.0, EXPONENTIAL_LEVELS - _DOUBLINGS
        products = _EXPONENTIAL_PRODUCTS / steps
        for number in range(EXPONENTIAL_LEVELS):
            each = products if number < steps else 1.0
            seconds += each * self._product(limbs - number)
        levels = series_levels(degree)
        each = _series_products(degree) / levels
        after = limbs - EXPONENTIAL_LEVELS
        return seconds + sum(each * self._product(after - number) for number in range(levels))

    def _product(self, limbs: int) -> float:
        return self.multiply(limbs) + self.key_switch(limbs) + self.rescale(limbs)


def dense_units(sums: int, operands: int) -> float:
    """Return what all sums of all operands take as products of matrices of residues."""
    return sums * operands + READ * operands + WRITE * sums


def _series_products(degree: int) -> float:
    """Products of a series by Paterson and Stockmeyer's rule."""
    return sqrt(2 * degree) + log2(degree + 1)
