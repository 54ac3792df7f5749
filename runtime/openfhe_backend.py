"""OpenFHE as a backend: what the server computes with.

It holds evaluation keys and never a secret. A value is one OpenFHE ciphertext; operands are never
changed. OpenFHE would adjust operands of different levels or scales silently: here that is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isclose, sqrt
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.bootstrapping import input_level, level_scales, result_level
from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.rotation_routes import routes
from hec.runtime.images import for_all_images
from hec.runtime.openfhe_ciphertexts import OpenfheCiphertexts
from hec.runtime.openfhe_context import SCALE_TOLERANCE, OpenfheContext
from hec.runtime.openfhe_keys import EvaluationKeys, automorphisms, needed
from hec.runtime.openfhe_library import OPENFHE_ERRORS, reason
from hec.runtime.openfhe_sums import weighted_sums
from hec.runtime.openfhe_threads import each


class OpenfheBackend:
    """`compiler.backend.Backend`, `Refreshes` and `Hoists` on single OpenFHE ciphertexts.

    What OpenFHE refuses raises `InvalidProgram`. Rotations without a key of their own are composed
    of several, with bootstrapping only: other plans name every key that they need.
    """

    encodes_beside = True  # OpenFHE lets other threads run

    def __init__(self, context: OpenfheContext, keys: EvaluationKeys) -> None:
        self.context, self.keys = context, keys
        parameters = context.parameters
        self._fhe = context.fhe
        self._slots, self._order = parameters.slots, 2 * parameters.ring_degree
        self._batch, self._ring_slots = parameters.batch, parameters.ring_slots
        self._routes = routes(keys.rotations, self._slots)
        self._made = OpenfheCiphertexts(context, keys.tag)
        self._units: dict[int, Any] = {}  # the encoded imaginary unit, by level

    def has_exactly(self, manifest: KeyManifest) -> bool:
        """Tell whether the keys here are those of `manifest`, those of bootstraps included."""
        wanted = needed(self.context.parameters, manifest)
        has_product = manifest.relinearization or manifest.bootstrapping
        return automorphisms(self.keys.tag) == wanted and self.keys.has_product == has_product

    def encode(self, values: NDArray[np.float64], level: int, scale: float) -> Any:
        """Encode (slots,) values, or one number for all slots, for use at `level`.

        All images of a batch get the same. What may round to zero gets 1 / scale more in every
        slot, away from zero, which is no more than a rounding error: a ciphertext times zero is no
        longer encrypted.
        """
        values = for_all_images(np.asarray(values, np.float64), self._batch)
        values = np.broadcast_to(values, (self._ring_slots,))
        largest = float(np.abs(values).max())
        if not self.context.fits(largest, level, scale):
            raise InvalidProgram(f"OpenFHE cannot encode {largest:.3g} at level {level}")
        if sqrt(float(values @ values) / values.size) * scale < sqrt(self._ring_slots / 2):
            values = values + (1 if values.mean() >= 0 else -1) / scale
        with _refusals("encode"):
            return self.context.encode(values, level, scale)

    def encode_pair(
        self, real: NDArray[np.float64], imaginary: NDArray[np.float64], level: int, scale: float
    ) -> Any:
        """Encode (slots,) complex values for use at `level`; zeros as in `encode`."""
        values = np.broadcast_to(
            for_all_images(real, self._batch) + 1j * for_all_images(imaginary, self._batch),
            (self._ring_slots,),
        )
        largest = float(np.abs(values).max())
        if not self.context.fits(largest, level, scale):
            raise InvalidProgram(f"OpenFHE cannot encode {largest:.3g} at level {level}")
        if sqrt(float(np.vdot(values, values).real) / values.size) * scale < sqrt(
            self._ring_slots / 2
        ):
            values = values + (1 if real.mean() >= 0 else -1) / scale
        with _refusals("encode"):
            return self.context.encode(values, level, scale)

    def times_i(self, x: Any) -> Any:
        """Multiply by the imaginary unit, the polynomial X^(N / 2): exact, and of scale 1."""
        level, scale = self.level(x), self.scale(x)
        if level not in self._units:
            unit = np.full(self._ring_slots, 1j)
            self._units[level] = self.context.encode(unit, level, 1.0)
        with _refusals("times_i"):
            return self._typed(self._fhe.EvalMult(x, self._units[level]), scale)

    def rotate(self, x: Any, steps: int) -> Any:
        """Rotate the slots left, by a key of that step or by the fewest that compose to it."""
        steps %= self._slots
        return x if steps == 0 else self.rotate_each(x, (steps,))[0]

    def rotate_each(self, x: Any, steps: Sequence[int]) -> list[Any]:
        """Return `x` rotated left by each of `steps`, decomposing every ciphertext only once.

        Rotations on the way to several others are made once.
        """
        wanted = [step % self._slots for step in steps]
        parents = self._parents(wanted)
        children = Counter(parents[step][0] for step in parents)
        made: dict[int, Any] = {0: x}
        precomputed: dict[int, Any] = {}
        for step, (parent, last) in parents.items():
            source = made[parent]
            with _refusals("rotate"):
                if children[parent] == 1:
                    made[step] = self._fhe.EvalRotate(source, last * self._batch)
                    continue
                if parent not in precomputed:
                    precomputed[parent] = self._fhe.EvalFastRotationPrecompute(source)
                digits = precomputed[parent]
                turn = last * self._batch
                made[step] = self._fhe.EvalFastRotation(source, turn, self._order, digits)
        return [made[step] for step in wanted]

    def _parents(self, wanted: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Return every rotation to make, in order: from which other one, and by which step."""
        order: dict[int, tuple[int, int]] = {}
        for step in wanted:
            if not self._can_rotate(step):
                raise missing_key(f"a rotation by {step} slots")
            chain, current = [], step
            while current and current not in order:
                chain.append(current)
                current = self._routes.parent(current)[0]
            order.update((made, self._routes.parent(made)) for made in reversed(chain))
        return order

    def _can_rotate(self, step: int) -> bool:
        if self.context.parameters.bootstrapping is None:
            return step == 0 or step in self.keys.rotations
        return self._routes.reaches(step)

    def multiply_plain(self, x: Any, y: Any) -> Any:
        """Multiply slotwise; scales multiply; not rescaled."""
        self._require_factors(x, y)
        with _refusals("multiply_plain"):
            return self._typed(self._fhe.EvalMult(x, y), self.scale(x) * self.scale(y))

    def add_plain(self, x: Any, y: Any) -> Any:
        """Add slotwise; levels and scales must be equal."""
        return self.add(x, y)

    def add(self, x: Any, y: Any) -> Any:
        """Add slotwise; levels and scales must be equal."""
        self._require_same_type(x, y)
        with _refusals("add"):
            return self._typed(self._fhe.EvalAdd(x, y), self.scale(x))

    def accumulate(self, total: Any, x: Any) -> Any:
        """Add `x` to `total` in place: a new ciphertext would take three times as long."""
        self._require_same_type(total, x)
        scale = self.scale(total)
        with _refusals("add"):
            self._fhe.EvalAddInPlace(total, x)
        return self._typed(total, scale)

    def multiply(self, x: Any, y: Any) -> Any:
        """Multiply slotwise and relinearize; a square, which is cheaper, when x is y."""
        if not self.keys.has_product:
            raise missing_key("a product of ciphertexts")
        self._require_factors(x, y)
        with _refusals("multiply"):
            product = self._fhe.EvalSquare(x) if x is y else self._fhe.EvalMult(x, y)
            return self._typed(product, self.scale(x) * self.scale(y))

    def multiply_only(self, x: Any, y: Any) -> Any:
        """Multiply slotwise, and leave the product of three polynomials to `relinearize`."""
        self._require_factors(x, y)
        with _refusals("multiply_only"):
            product = self._fhe.EvalMultNoRelin(x, y)
            return self._typed(product, self.scale(x) * self.scale(y))

    def relinearize(self, x: Any) -> Any:
        """Return the ciphertext of two polynomials that holds what one of three does."""
        if not self.keys.has_product:
            raise missing_key("a product of ciphertexts")
        with _refusals("relinearize"):
            return self._typed(self._fhe.Relinearize(x), self.scale(x))

    def weighted_sums(
        self, blocks: Sequence[Any], weights: sp.csr_array, scale: float
    ) -> list[Any]:
        """Return weights @ blocks, for int64 weights that are meant divided by `scale`."""
        for block in blocks:
            self._require_same_type(block, blocks[0])
        with _refusals("add"):
            product_scale = self.scale(blocks[0]) * scale
            return weighted_sums(blocks, weights, product_scale, self._made)

    def each(self, action: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return what `action` makes of every item; several threads share them."""
        return each(action, items)

    def rescale(self, x: Any) -> Any:
        """Divide by the last prime: level - 1."""
        level = self.level(x)
        if level == 0:
            raise InvalidProgram("OpenFHE cannot rescale at level 0")
        scale = self.scale(x) / self.context.parameters.primes[level]
        pending = x.Clone()
        pending.SetNoiseScaleDeg(2)  # OpenFHE divides only by what it was told to be pending
        with _refusals("rescale"):
            return self._typed(self._fhe.Compress(pending, level, 1), scale)

    def mod_switch(self, x: Any, level: int) -> Any:
        """Drop primes until `level`; the scale stays."""
        if self.level(x) == level:
            return x
        with _refusals("mod_switch"):
            dropped = self._fhe.Compress(x, level + 1, x.GetNoiseScaleDeg())
            return self._typed(dropped, self.scale(x))

    def bootstrap(self, x: Any, coefficients: NDArray[np.float64]) -> Any:
        """Refresh, evaluating a Fourier series of (2, degree + 1) coefficients; not rescaled."""
        parameters = self.context.parameters
        how = parameters.bootstrapping
        if how is None or self.level(x) < input_level(how) or x.GetNoiseScaleDeg() != 1:
            raise InvalidProgram(f"OpenFHE cannot refresh a ciphertext at level {self.level(x)}")
        sparse = x.Clone()
        sparse.SetSlots(how.slots)
        series = [complex(real, imaginary) for real, imaginary in coefficients.T]
        with _refusals("bootstrap"):
            self.context.prepare_bootstrap()  # another plan's may be there
            fresh = self._fhe.EvalFEFuncBootstrap(sparse, series)
        level = result_level(parameters, how, len(series) - 1)
        scale = level_scales(parameters.primes)[level] ** 2
        exact = isclose(self.scale(fresh), scale, rel_tol=SCALE_TOLERANCE)
        if self.level(fresh) != level or not exact:
            found = f"level {self.level(fresh)}, scale {self.scale(fresh):.12g}"
            raise InvalidProgram(f"OpenFHE refreshed to {found}; {level}, {scale:.12g} were due")
        fresh.SetSlots(self._ring_slots)
        return self._typed(fresh, scale)

    def level(self, x: Any) -> int:
        """Return the rescalings left."""
        return self.context.level(x)

    def scale(self, x: Any) -> float:
        """Return the factor by which slots are multiplied inside."""
        return float(x.GetScalingFactor())

    def _typed(self, x: Any, scale: float) -> Any:
        return self.context.typed(x, scale)

    def _require_same_level(self, x: Any, y: Any) -> None:
        if self.level(x) != self.level(y):
            message = f"OpenFHE cannot combine levels {self.level(x)} and {self.level(y)}"
            raise InvalidProgram(message)

    def _require_same_type(self, x: Any, y: Any) -> None:
        self._require_same_level(x, y)
        if not isclose(self.scale(x), self.scale(y), rel_tol=SCALE_TOLERANCE):
            message = f"OpenFHE cannot add scales {self.scale(x):.12g} and {self.scale(y):.12g}"
            raise InvalidProgram(message)

    def _require_factors(self, x: Any, y: Any) -> None:
        self._require_same_level(x, y)
        if {x.GetNoiseScaleDeg(), y.GetNoiseScaleDeg()} != {1}:
            raise InvalidProgram("OpenFHE cannot multiply what is not rescaled")
        if not self.context.fits(1.0, self.level(x), self.scale(x) * self.scale(y)):
            raise InvalidProgram("OpenFHE cannot multiply: the scale is out of bounds")


def missing_key(purpose: str) -> CompileError:
    """Return the error for a step that the client's evaluation keys do not allow."""
    return fail(
        f"The evaluation keys have no key for {purpose}",
        help="make the keys again with this plan: they hold exactly the keys that it needs",
    )


@contextmanager
def _refusals(step: str) -> Iterator[None]:
    try:
        yield
    except OPENFHE_ERRORS as error:
        raise InvalidProgram(f"OpenFHE cannot {step}: {reason(error)}") from error
