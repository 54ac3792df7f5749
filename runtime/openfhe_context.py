"""The OpenFHE context of a plan's parameters.

With bootstrapping, scales follow OpenFHE's own rule for every level (FLEXIBLEAUTO); its ciphertexts
say whether they carry one scale or the square of one. Without, any scale goes: the library is told
to leave scales alone (FIXEDMANUAL), and the true one is written on every ciphertext. OpenFHE's own
check of the security level stays on.
"""

from __future__ import annotations

import json
from math import log2
from typing import Any, Final
from weakref import WeakKeyDictionary

from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.runtime.allocator import keep_freed_memory
from hec.runtime.openfhe_library import OPENFHE_ERRORS, fhe, reason
from hec.runtime.openfhe_primes import special_count

SCALE_TOLERANCE: Final = 1e-9  # relative; as in the typing rules
_FEATURES: Final = (fhe.PKE, fhe.KEYSWITCH, fhe.LEVELEDSHE, fhe.ADVANCEDSHE, fhe.FHE)
_SECURITY: Final = {
    128: fhe.SecurityLevel.HEStd_128_classic,
    192: fhe.SecurityLevel.HEStd_192_classic,
    256: fhe.SecurityLevel.HEStd_256_classic,
}
# How each of OpenFHE's contexts refreshes now, by slots: one context serves all equal parameters.
_SET_UP: Final[WeakKeyDictionary[Any, dict[int, Bootstrapping]]] = WeakKeyDictionary()


class OpenfheContext:
    """An OpenFHE context with the primes of `parameters`.

    `insecure_for_tests` switches OpenFHE's security check off, for rings too small for real data.
    Raise `CompileError` if OpenFHE refuses the parameters, or would take other primes.
    """

    def __init__(
        self, parameters: EncryptionParameters, *, insecure_for_tests: bool = False
    ) -> None:
        keep_freed_memory()
        self.parameters = parameters
        try:
            self.fhe = fhe.GenCryptoContext(_description(parameters, insecure_for_tests))
            for feature in _FEATURES:
                self.fhe.Enable(feature)
        except OPENFHE_ERRORS as error:
            raise _refused(reason(error), parameters) from None
        self._check_primes()
        self._check_bootstrapping()
        self._nominal = [
            self.fhe.GetScalingFactorReal(parameters.top_level - level)
            for level in range(len(parameters.primes))
        ]

    def _check_primes(self) -> None:
        parameters = self.parameters
        if _primes(self.fhe) != parameters.primes:
            raise _refused("it would take other primes", parameters)
        digits = parameters.digits or len(parameters.primes)
        if special_count(parameters.primes, digits) != len(parameters.special_primes):
            raise _refused("it would take other special primes", parameters)

    def _check_bootstrapping(self) -> None:
        """Refuse what would end the process: OpenFHE checks some of this in threads of its own."""
        parameters = self.parameters
        how, slots = parameters.bootstrapping, parameters.slots
        if how is None:
            return
        if round(log2(parameters.primes[0] / parameters.primes[-1])) != 1:
            raise _refused("a bootstrap takes a first prime twice as large as others", parameters)
        layers = max(1, how.slots).bit_length() - 1
        fit = how.slots == 1 << layers and how.slots <= slots and min(how.baby_steps) >= 0
        if not (fit and 1 <= min(how.levels) and max(how.levels) <= layers):
            raise _refused(f"no bootstrap of {how.slots} slots by {how.levels}", parameters)

    def prepare_bootstrap(self) -> None:
        """Encode the matrices of the bootstrap: seconds, and gigabytes on a large ring.

        Nothing happens where they are there already; those of another plan are replaced.
        """
        how = self.parameters.bootstrapping
        if how is None:
            return
        ready = _SET_UP.setdefault(self.fhe, {})
        if ready.pop(how.slots, None) != how:
            levels, baby_steps = list(how.levels), list(how.baby_steps)
            try:
                self.fhe.EvalFEFuncBootstrapSetup(levels, baby_steps, how.slots)
            except OPENFHE_ERRORS as error:
                raise _refused(reason(error), self.parameters) from None
        ready[how.slots] = how

    def degree(self, level: int, scale: float) -> int:
        """Return what OpenFHE calls the degree of a scale at `level`: 2 before a rescaling."""
        if self.parameters.bootstrapping is None:
            return 1
        return max(1, round(log2(scale) / log2(self.nominal(level))))

    def nominal(self, level: int) -> float:
        """Return OpenFHE's own scale at `level`."""
        return float(self._nominal[level])

    def level(self, x: Any) -> int:
        """Return the rescalings left to a ciphertext or plaintext: OpenFHE counts those done."""
        return self.parameters.top_level - int(x.GetLevel())

    def typed(self, x: Any, scale: float) -> Any:
        """Write the true scale on a new ciphertext or plaintext; return it."""
        x.SetScalingFactor(scale)
        x.SetNoiseScaleDeg(self.degree(self.level(x), scale))
        return x

    def encode(self, values: Any, level: int, scale: float) -> Any:
        """Return the plaintext of (ring_slots,) float64 values, those of all images."""
        if not 0 <= level <= self.parameters.top_level:
            raise InvalidProgram(f"OpenFHE cannot encode at level {level}")
        done, slots = self.parameters.top_level - level, self.parameters.ring_slots
        values = values * (scale / self.nominal(level))
        # As if the degree were 1: for higher ones OpenFHE rounds before it multiplies.
        plain = self.fhe.MakeCKKSPackedPlaintext(values, 1, done, None, slots)
        return self.typed(plain, scale)

    def fits(self, largest: float, level: int, scale: float) -> bool:
        """Tell whether the modulus at `level` holds numbers of absolute value `largest`."""
        bits = sum(log2(prime) for prime in self.parameters.primes[: level + 1])
        return largest == 0 or log2(largest) + log2(scale) + 1 < bits


def _description(parameters: EncryptionParameters, insecure: bool) -> Any:
    how, bits = parameters.bootstrapping, [round(log2(p)) for p in parameters.primes]
    scaling = bits[-1] if len(bits) > 1 else bits[0] - 1
    description = fhe.CCParamsCKKSRNS()
    if how is None:
        description.SetSecretKeyDist(fhe.UNIFORM_TERNARY)
        description.SetScalingTechnique(fhe.FIXEDMANUAL)
    else:
        description.SetSecretKeyDist(fhe.SPARSE_ENCAPSULATED)
        description.SetScalingTechnique(fhe.FLEXIBLEAUTO)
        description.SetCKKSDataType(fhe.COMPLEX)  # for pairs of diagonals; bootstraps drop i
    level = fhe.HEStd_NotSet if insecure else _SECURITY.get(parameters.security)
    if level is None:
        raise _refused(f"no level of {parameters.security}-bit security", parameters)
    description.SetSecurityLevel(level)
    description.SetKeySwitchTechnique(fhe.HYBRID)
    description.SetRingDim(parameters.ring_degree)
    description.SetMultiplicativeDepth(parameters.top_level)
    description.SetFirstModSize(bits[0])
    description.SetScalingModSize(scaling)
    description.SetNumLargeDigits(parameters.digits or len(bits))
    return description


def _primes(context: Any) -> tuple[int, ...]:
    """Return the primes that OpenFHE made; only its JSON tells them."""
    found = _search(json.loads(fhe.Serialize(context, fhe.JSON)), "elp")
    entries = found["ptr_wrapper"]["data"]["p"] if found else []
    return tuple(e["ptr_wrapper"]["data"]["value0"]["cm"]["v"] for e in entries)


def _search(tree: Any, name: str) -> Any:
    if isinstance(tree, dict):
        if name in tree:
            return tree[name]
        tree = list(tree.values())
    if isinstance(tree, list):
        return next((found for item in tree if (found := _search(item, name)) is not None), None)
    return None


def _refused(why: str, parameters: EncryptionParameters) -> CompileError:
    return fail(
        f"OpenFHE refuses the encryption parameters: {why}",
        f"ring degree {parameters.ring_degree}, {len(parameters.primes)} primes and"
        f" {len(parameters.special_primes)} special, {parameters.modulus_bits:.0f} bits,"
        f" {parameters.security}-bit security",
        "compile the model again with this version of hec",
    )
