"""What a backend must offer: the primitive steps of CKKS on single ciphertexts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Ciphertext = TypeVar("Ciphertext")
Plaintext = TypeVar("Plaintext")
Item = TypeVar("Item")
Result = TypeVar("Result")
Plaintext_co = TypeVar("Plaintext_co", covariant=True)


class Backend(Protocol[Ciphertext, Plaintext]):
    """Evaluate on ciphertexts; operands are never changed."""

    def encode(self, values: NDArray[np.float64], level: int, scale: float) -> Plaintext:
        """Encode (slots,) values, or one number for all, for use with a ciphertext at `level`.

        What rounds to zero must not be encoded as zero where the product with it would no longer be
        encrypted.
        """
        ...

    def rotate(self, x: Ciphertext, steps: int) -> Ciphertext:
        """Rotate the slots left: result[s] = x[(s + steps) mod slots]."""
        ...

    def multiply_plain(self, x: Ciphertext, y: Plaintext) -> Ciphertext:
        """Multiply slotwise; scales multiply; not rescaled."""
        ...

    def add_plain(self, x: Ciphertext, y: Plaintext) -> Ciphertext:
        """Add slotwise; levels and scales must be equal."""
        ...

    def add(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        """Add slotwise; levels and scales must be equal."""
        ...

    def multiply(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        """Multiply slotwise and relinearize; not rescaled; a square when x is y."""
        ...

    def rescale(self, x: Ciphertext) -> Ciphertext:
        """Divide by the last prime: level - 1."""
        ...

    def mod_switch(self, x: Ciphertext, level: int) -> Ciphertext:
        """Drop primes until `level`; the scale stays."""
        ...

    def level(self, x: Ciphertext) -> int:
        """Return the rescalings left."""
        ...

    def scale(self, x: Ciphertext) -> float:
        """Return the factor by which slots are multiplied inside."""
        ...


@runtime_checkable
class Refreshes(Protocol[Ciphertext]):
    """A backend that can bootstrap."""

    def bootstrap(self, x: Ciphertext, coefficients: NDArray[np.float64]) -> Ciphertext:
        """Refresh, evaluating a Fourier series of (2, degree + 1) coefficients; not rescaled."""
        ...


@runtime_checkable
class Pairs(Protocol[Ciphertext, Plaintext_co]):
    """A backend whose slots can hold complex numbers."""

    def encode_pair(
        self, real: NDArray[np.float64], imaginary: NDArray[np.float64], level: int, scale: float
    ) -> Plaintext_co:
        """Encode (slots,) complex values, as `Backend.encode` does real ones."""
        ...

    def times_i(self, x: Ciphertext) -> Ciphertext:
        """Multiply by the imaginary unit, exactly: level and scale stay."""
        ...


@runtime_checkable
class SumsWeighted(Protocol[Ciphertext]):
    """A backend with a way of its own to many sums of ciphertexts times numbers."""

    def weighted_sums(
        self, blocks: Sequence[Ciphertext], weights: sp.csr_array, scale: float
    ) -> list[Ciphertext]:
        """Return weights @ blocks, not rescaled: int64 weights, meant divided by `scale`."""
        ...


@runtime_checkable
class DefersRelinearization(Protocol[Ciphertext]):
    """A backend that can rescale and add products before it relinearizes them."""

    def multiply_only(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        """Multiply slotwise; the product must be relinearized before it is multiplied again."""
        ...

    def relinearize(self, x: Ciphertext) -> Ciphertext:
        """Return what `multiply_only` made, or a sum of such, as `Backend.multiply` would."""
        ...


@runtime_checkable
class WorksOnMany(Protocol):
    """A backend whose steps on several ciphertexts may go on at once."""

    def each(self, action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return what `action` makes of every item, in their order."""
        ...


@runtime_checkable
class Accumulates(Protocol[Ciphertext]):
    """A backend that can reuse the memory of a sum's first term."""

    def accumulate(self, total: Ciphertext, x: Ciphertext) -> Ciphertext:
        """Add `x` to `total`, which nobody else reads any more; return the sum."""
        ...


@runtime_checkable
class Hoists(Protocol[Ciphertext]):
    """A backend that makes several rotations of one ciphertext cheaper than one by one."""

    def rotate_each(self, x: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """Return `x` rotated left by each of `steps`."""
        ...
