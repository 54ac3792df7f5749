"""What each primitive step costs, and a counter that adds the steps up.

The seconds come from a `CostTable`: the reference machine's, unless a caller has another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hec.compiler.bootstrap_keys import rotation_steps
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.errors import InvalidProgram
from hec.compiler.openfhe_costs import OpenfheCosts
from hec.compiler.rotation_routes import route


class Costs(Protocol):
    """Seconds of the primitive steps of a backend; `limbs` is level + 1."""

    def decompose(self, limbs: int) -> float:
        """What hoisted rotations of one ciphertext share."""
        ...

    def hoisted_rotation(self, limbs: int) -> float:
        """One rotation of a ciphertext that is decomposed already."""
        ...

    def key_switch(self, limbs: int) -> float:
        """One rotation, or one relinearization."""
        ...

    def multiply_plain(self, limbs: int) -> float:
        """One product with an encoded plaintext."""
        ...

    def encode(self, limbs: int) -> float:
        """One plaintext made, where it is not kept."""
        ...

    def add(self, limbs: int) -> float:
        """One sum of ciphertexts."""
        ...

    def add_plain(self, limbs: int) -> float:
        """One sum of a ciphertext and an encoded plaintext."""
        ...

    def multiply(self, limbs: int) -> float:
        """One product of ciphertexts, without its relinearization."""
        ...

    def rescale(self, limbs: int) -> float:
        """One rescaling."""
        ...

    def load(self, limbs: int) -> float:
        """One ciphertext of a request."""
        ...

    def save(self, limbs: int) -> float:
        """One ciphertext of the reply."""
        ...


def costs_of(parameters: EncryptionParameters, table: CostTable = REFERENCE) -> Costs:
    """Return the costs of the backend that `parameters` are made for."""
    if parameters.digits:
        return openfhe_costs(parameters, table)
    return table.seal_steps(parameters.ring_degree)


def openfhe_costs(parameters: EncryptionParameters, table: CostTable = REFERENCE) -> OpenfheCosts:
    """Return the costs on OpenFHE."""
    return OpenfheCosts(parameters, table.openfhe_steps(parameters.ring_degree))


@dataclass(frozen=True)
class Counted:
    """A ciphertext, as far as costs and errors of steps depend on it."""

    level: int
    scale: float


@dataclass
class CostCounter:
    """A backend that runs nothing and adds up seconds and steps."""

    ring_degree: int
    primes: tuple[int, ...]
    parameters: EncryptionParameters | None = None  # None: SEAL's
    table: CostTable = REFERENCE
    seconds: float = 0.0
    key_switches: int = 0
    key_switch_limbs: int = 0  # of all key switches: what each costs grows with its limbs
    plain_products: int = 0
    products: int = 0  # of ciphertexts
    rescalings: int = 0
    plaintexts: int = 0
    plaintext_limbs: int = 0
    costs: Costs = field(init=False)

    def __post_init__(self) -> None:
        if self.parameters is None:
            self.costs = self.table.seal_steps(self.ring_degree)
        else:
            self.costs = costs_of(self.parameters, self.table)

    @classmethod
    def of(cls, parameters: EncryptionParameters, table: CostTable = REFERENCE) -> CostCounter:
        """Return a counter of the backend that `parameters` are made for."""
        return cls(parameters.ring_degree, parameters.primes, parameters, table)

    def encode(self, values: NDArray[np.float64], level: int, scale: float) -> float:
        """Count a plaintext; return its scale."""
        self.plaintexts += 1
        self.plaintext_limbs += level + 1
        return scale

    def rotate(self, x: Counted, steps: int) -> Counted:
        """Count a key switch, or all that a rotation without a key of its own is composed of."""
        hops = 1
        if self.parameters is not None and (available := composed_of(self.parameters)):
            hops = len(route(steps, available, self.parameters.slots))
        self.key_switches += hops
        self.key_switch_limbs += hops * (x.level + 1)
        self.seconds += hops * self.costs.key_switch(x.level + 1)
        return x

    def multiply_plain(self, x: Counted, y: float) -> Counted:
        """Count a product with a plaintext."""
        self.plain_products += 1
        self.seconds += self.costs.multiply_plain(x.level + 1)
        return Counted(x.level, x.scale * y)

    def add_plain(self, x: Counted, y: float) -> Counted:
        """Count a sum."""
        self.seconds += self.costs.add_plain(x.level + 1)
        return x

    def add(self, x: Counted, y: Counted) -> Counted:
        """Count a sum."""
        self.seconds += self.costs.add(x.level + 1)
        return x

    def multiply(self, x: Counted, y: Counted) -> Counted:
        """Count a product and its key switch."""
        limbs = x.level + 1
        self.products += 1
        self.key_switches += 1
        self.key_switch_limbs += limbs
        self.seconds += self.costs.multiply(limbs) + self.costs.key_switch(limbs)
        return Counted(x.level, x.scale * y.scale)

    def bootstrap(self, parameters: EncryptionParameters, degree: int) -> None:
        """Count a functional bootstrap of a series of `degree`."""
        self.seconds += bootstrap_seconds(parameters, degree, self.table)

    def rescale(self, x: Counted) -> Counted:
        """Count a rescaling."""
        self.rescalings += 1
        self.seconds += self.costs.rescale(x.level + 1)
        return Counted(x.level - 1, x.scale / self.primes[x.level])

    def mod_switch(self, x: Counted, level: int) -> Counted:
        """Dropping limbs costs next to nothing."""
        return Counted(level, x.scale)

    def level(self, x: Counted) -> int:
        """Return the rescalings left."""
        return x.level

    def scale(self, x: Counted) -> float:
        """Return the scale."""
        return x.scale


def bootstrap_seconds(
    parameters: EncryptionParameters, degree: int, table: CostTable = REFERENCE
) -> float:
    """Return the seconds of a functional bootstrap of one ciphertext."""
    if parameters.bootstrapping is None or not parameters.digits:
        raise InvalidProgram("the parameters are not made for bootstraps")
    return openfhe_costs(parameters, table).bootstrap(parameters.bootstrapping, degree)


@lru_cache(maxsize=16)
def _steps_of(ring_degree: int, how: Bootstrapping) -> frozenset[int]:
    return rotation_steps(ring_degree, how)


def composed_of(parameters: EncryptionParameters) -> frozenset[int]:
    """Return the steps that all rotations are composed of; none: each has a key of its own."""
    how = parameters.bootstrapping
    return _steps_of(parameters.ring_degree, how) if how is not None else frozenset()
