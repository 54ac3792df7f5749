"""Program: what the server computes, as a flat list of CKKS operations on vectors of ciphertexts.

An operand is the position of an earlier instruction. The type of a value (level, scale, number of
ciphertexts) is computed by `infer_types`, never stored. Level counts the rescalings left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log2
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.layout import Layout
from hec.compiler.record import DEFAULTED

LIMB_BYTES: Final = 8  # in memory: one coefficient modulo one prime


@dataclass(frozen=True)
class Bootstrapping:
    """How an instance refreshes ciphertexts, evaluating a Fourier series on the way (OpenFHE).

    `baby_steps` are those of the two transforms; 0 leaves them to the library. Values repeat
    with period `slots`, and no others can be refreshed.
    """

    levels: tuple[int, int]  # of CoeffsToSlots, and of SlotsToCoeffs, which comes first
    baby_steps: tuple[int, int]
    slots: int


@dataclass(frozen=True)
class EncryptionParameters:
    """The CKKS instance: ring degree N, and the primes of the modulus chain.

    The slots of `batch` images alternate in every ciphertext: slot s of image j is slot
    s * batch + j of the ring, so that a rotation by r is one by r * batch there, still cyclic. A
    Program knows the slots of one image only; what is done to one is done to all.
    """

    ring_degree: int
    primes: tuple[int, ...]  # primes[0] stays at level 0; a rescale at level l drops primes[l]
    special_primes: tuple[int, ...]  # used inside key switching only
    security: int  # bits
    digits: int = 0  # of key switching; 0: one for each prime, as in SEAL
    bootstrapping: Bootstrapping | None = None  # None: ciphertexts cannot be refreshed
    batch: int = field(default=1, metadata=DEFAULTED)  # images that share a ciphertext

    @property
    def slots(self) -> int:
        """Real numbers of each image that one ciphertext holds."""
        return self.ring_degree // (2 * self.batch)

    @property
    def ring_slots(self) -> int:
        """Real numbers that one ciphertext holds, those of all its images."""
        return self.ring_degree // 2

    @property
    def top_level(self) -> int:
        """Rescalings that a fresh ciphertext at the top has left."""
        return len(self.primes) - 1

    @property
    def modulus_bits(self) -> float:
        """log2 of the whole modulus, special prime included: what security depends on."""
        return sum(log2(prime) for prime in (*self.primes, *self.special_primes))


@dataclass(frozen=True, eq=False)
class DiagonalMatrix:
    """A block matrix by its non-zero generalized diagonals.

    Output block o is y_o[s] = sum over its diagonals of values[s mod period] * x_i[s + shift],
    slots counted modulo `slots`.
    """

    slots: int  # of one ciphertext
    out_blocks: int
    in_blocks: int
    index: NDArray[np.int32]  # (diagonals, 3): output block o, input block i, shift
    values: sp.csr_array  # (diagonals, period), float32; period divides slots

    @property
    def period(self) -> int:
        """Slots after which every diagonal repeats."""
        return int(self.values.shape[1])

    def diagonal(self, row: int) -> NDArray[np.float64]:
        """Return the (slots,) values of the diagonal in `index[row]`."""
        dense = np.zeros(self.period)
        start, stop = self.values.indptr[row], self.values.indptr[row + 1]
        dense[self.values.indices[start:stop]] = self.values.data[start:stop]
        return np.tile(dense, self.slots // self.period)


@dataclass(frozen=True, eq=False)
class Input:
    """A tensor that the client packs by `layout` and encrypts at (level, scale)."""

    name: str
    layout: Layout
    level: int
    scale: float
    divisor: float  # the client divides the tensor by this, so that the slots lie in [-1, 1]


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """matrix @ operand, by baby-step giant-step: shift = giant * baby_step + baby."""

    operand: int
    matrix: DiagonalMatrix
    baby_step: int  # babies lie in [baby_start, baby_start + baby_step)
    baby_start: int
    plain_scale: float  # scale at which the diagonals are encoded
    label: str = ""
    twin: int = 0  # slots between the two diagonals of a complex product; 0: products are real


@dataclass(frozen=True, eq=False)
class RotateSum:
    """For each of `steps` in turn: x = x + rotate(x, step)."""

    operand: int
    steps: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AddPlain:
    """Add a known vector, encoded at the operand's own level and scale."""

    operand: int
    values: NDArray[np.float64]  # (blocks, slots)


@dataclass(frozen=True)
class Add:
    """Sum of two values of one level, one scale, one number of ciphertexts."""

    left: int
    right: int


@dataclass(frozen=True)
class Multiply:
    """Slotwise product, relinearized; scales multiply; a square when both operands are one."""

    left: int
    right: int
    label: str = ""


@dataclass(frozen=True, eq=False)
class Polynomial:
    """A Chebyshev series on every slot (in [-1, 1]); expanded by `kernels.polynomial`."""

    operand: int
    coefficients: NDArray[np.float64]  # (degree + 1,), or (degree + 1, blocks, slots)
    scale: float  # of the result
    label: str = ""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Raise the level, evaluating 2 Re(sum_j c_j exp(i pi j x)) on every slot.

    Meant for x in [-1/2, 1/2); the series has period 2. The result is not rescaled.
    """

    operand: int
    coefficients: NDArray[np.float64]  # (2, degree + 1): real and imaginary parts of c_j
    label: str = ""


@dataclass(frozen=True)
class Rescale:
    """Divide by the last prime of the modulus: level - 1, scale / prime."""

    operand: int


@dataclass(frozen=True)
class ModSwitch:
    """Drop primes down to `level`, keeping the scale."""

    operand: int
    level: int


@dataclass(frozen=True, eq=False)
class Output:
    """A value that the client decrypts, unpacks by `layout`, and multiplies by `factor`."""

    operand: int
    name: str
    layout: Layout
    factor: float


Instruction: TypeAlias = (
    Input
    | LinearTransform
    | RotateSum
    | AddPlain
    | Add
    | Multiply
    | Polynomial
    | Bootstrap
    | Rescale
    | ModSwitch
    | Output
)


@dataclass(frozen=True, eq=False)
class Program:
    """Instructions in order of execution, and the parameters under which they make sense."""

    parameters: EncryptionParameters
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class ValueType:
    """What every value of a Program is: `blocks` ciphertexts of one level and one scale."""

    level: int
    scale: float
    blocks: int
