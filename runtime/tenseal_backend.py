"""Microsoft SEAL, through `tenseal.sealapi`, as a backend: what the server computes with.

It holds evaluation keys and never a secret. A value is one SEAL ciphertext; operands are never
changed. SEAL demands scales equal to the last bit where the typing rules allow a rounding error of
float64 (1e-9), so additions take the left operand's scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isclose

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi as seal

from hec.compiler.errors import InvalidProgram, fail
from hec.compiler.key_manifest import KeyManifest
from hec.runtime.images import for_all_images
from hec.runtime.tenseal_context import SCALE_TOLERANCE, SEAL_ERRORS, TensealContext


class TensealBackend:
    """`compiler.backend.Backend` on single SEAL ciphertexts.

    What SEAL refuses, such as a scale that the modulus cannot hold, raises `InvalidProgram`.
    """

    def __init__(
        self,
        context: TensealContext,
        relin_keys: seal.RelinKeys | None = None,
        galois_keys: Sequence[seal.GaloisKeys] = (),
    ) -> None:
        self.context, self._batch = context, context.parameters.batch
        self._relin_keys = relin_keys
        self._galois_keys = tuple(galois_keys)
        self._evaluator = seal.Evaluator(context.seal)
        self._encoder = seal.CKKSEncoder(context.seal)

    def has_exactly(self, manifest: KeyManifest) -> bool:
        """Tell whether the keys here are those of `manifest`, no more and no fewer."""
        relin = self._relin_keys
        if (relin is not None and relin.has_key(2)) != manifest.relinearization:
            return False
        elements = [self.context.galois_element(steps) for steps in manifest.rotations]
        held = sum(group.size() for group in self._galois_keys)
        return held == len(elements) and all(map(self._group, elements))

    def _group(self, element: int) -> seal.GaloisKeys | None:
        """Return the group of keys that has the one for `element`."""
        return next((group for group in self._galois_keys if group.has_key(element)), None)

    def encode(self, values: NDArray[np.float64], level: int, scale: float) -> seal.Plaintext:
        """Encode (slots,) values, or one number for all slots, for use at `level`.

        All images of a batch get the same. What rounds to zero becomes the smallest number,
        1 / scale in every slot, less than the rounding error: a ciphertext times zero is no longer
        encrypted, and SEAL refuses it.
        """
        plain = seal.Plaintext()
        with _refusals("encode"):
            self._encode(for_all_images(values, self._batch).tolist(), level, scale, plain)
            if plain.is_zero():
                self._encode(1 / scale, level, scale, plain)
        return plain

    def _encode(
        self, values: list[float] | float, level: int, scale: float, plain: seal.Plaintext
    ) -> None:
        self._encoder.encode(values, self.context.parms_ids[level], scale, plain)

    def rotate(self, x: seal.Ciphertext, steps: int) -> seal.Ciphertext:
        """Rotate the slots left, with exactly the key of that step: never by several others."""
        if steps % self.context.parameters.slots == 0:
            return x
        element = self.context.galois_element(steps)
        group = self._group(element)
        if group is None:
            raise missing_key(f"a rotation by {steps} slots")
        out = seal.Ciphertext()
        with _refusals("rotate"):
            self._evaluator.apply_galois(x, element, group, out)
        return out

    def multiply_plain(self, x: seal.Ciphertext, y: seal.Plaintext) -> seal.Ciphertext:
        """Multiply slotwise; scales multiply; not rescaled."""
        out = seal.Ciphertext()
        with _refusals("multiply_plain"):
            self._evaluator.multiply_plain(x, y, out)
        return out

    def add_plain(self, x: seal.Ciphertext, y: seal.Plaintext) -> seal.Ciphertext:
        """Add slotwise; levels and scales must be equal."""
        out = seal.Ciphertext()
        with _refusals("add_plain"), _scale_of(x, y):
            self._evaluator.add_plain(x, y, out)
        return out

    def add(self, x: seal.Ciphertext, y: seal.Ciphertext) -> seal.Ciphertext:
        """Add slotwise; levels and scales must be equal."""
        out = seal.Ciphertext()
        with _refusals("add"), _scale_of(x, y):
            self._evaluator.add(x, y, out)
        return out

    def accumulate(self, total: seal.Ciphertext, x: seal.Ciphertext) -> seal.Ciphertext:
        """Add `x` to `total` in place, which saves memory for the sum."""
        with _refusals("add"), _scale_of(total, x):
            self._evaluator.add_inplace(total, x)
        return total

    def multiply(self, x: seal.Ciphertext, y: seal.Ciphertext) -> seal.Ciphertext:
        """Multiply slotwise and relinearize; a square, which is cheaper, when x is y."""
        if self._relin_keys is None:
            raise missing_key("a product of ciphertexts")
        out = seal.Ciphertext()
        with _refusals("multiply"):
            if x is y:
                self._evaluator.square(x, out)
            else:
                self._evaluator.multiply(x, y, out)
            self._evaluator.relinearize_inplace(out, self._relin_keys)
        return out

    def rescale(self, x: seal.Ciphertext) -> seal.Ciphertext:
        """Divide by the last prime: level - 1."""
        out = seal.Ciphertext()
        with _refusals("rescale"):
            self._evaluator.rescale_to_next(x, out)
        return out

    def mod_switch(self, x: seal.Ciphertext, level: int) -> seal.Ciphertext:
        """Drop primes until `level`; the scale stays."""
        if self.level(x) == level:
            return x
        out = seal.Ciphertext()
        with _refusals("mod_switch"):
            self._evaluator.mod_switch_to(x, self.context.parms_ids[level], out)
        return out

    def level(self, x: seal.Ciphertext) -> int:
        """Return the rescalings left."""
        return int(x.coeff_modulus_size()) - 1

    def scale(self, x: seal.Ciphertext) -> float:
        """Return the factor by which slots are multiplied inside."""
        return float(x.scale)


def missing_key(purpose: str) -> Exception:
    """Return the error for a step that the client's evaluation keys do not allow."""
    return fail(
        f"The evaluation keys have no key for {purpose}",
        help="make the keys again with this plan: they hold exactly the keys that it needs",
    )


@contextmanager
def _scale_of(x: seal.Ciphertext, y: seal.Ciphertext | seal.Plaintext) -> Iterator[None]:
    """Lend y the scale of x, where they differ by rounding only."""
    own = y.scale
    if own != x.scale and isclose(own, x.scale, rel_tol=SCALE_TOLERANCE):
        y.scale = x.scale
    try:
        yield
    finally:
        y.scale = own


@contextmanager
def _refusals(step: str) -> Iterator[None]:
    try:
        yield
    except SEAL_ERRORS as error:
        raise InvalidProgram(f"SEAL cannot {step}: {error}") from error
