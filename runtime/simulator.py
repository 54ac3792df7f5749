"""What encryption will do to many samples, in seconds and without a key.

The simulator is the cleartext backend plus, at every primitive step, an independent Gaussian error
of the size that `noise` predicts, and a count of the values that the modulus could not hold. A
whole matrix is one sparse product, with the errors of its steps added up.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from hec.compiler import fourier, noise
from hec.compiler.ckks_ir import EncryptionParameters, LinearTransform
from hec.compiler.many_samples import times_samples
from hec.compiler.pairing import products
from hec.compiler.schedule import Split
from hec.runtime.cleartext import Cleartext, Plain, Slots
from hec.runtime.whole_matrix import whole_matrix

Array = NDArray[np.float64]
_POOL = 2**23  # errors drawn once: 32 MiB
_WRAPPED = 2.0**20  # values of a lost sample, where the modulus could hold even larger ones
_TABLE_POINTS = 2**16  # of a period; a series of degree 63 is exact to 2e-6 between them
_FEWEST_OFFSETS = 2**16  # a batch must be able to start at this many places of the pool


class Simulator(Cleartext):
    """Evaluates with the errors of CKKS, and counts what goes wrong.

    `overflows` counts values beyond the modulus. `wrapped` tells which samples of the batch since
    `start_batch` had one that entered a bootstrap beyond every series' reach: such a value is lost.
    """

    def __init__(self, parameters: EncryptionParameters, seed: int = 0) -> None:
        super().__init__(parameters)
        self._random = np.random.default_rng(seed)
        self._pool = self._random.standard_normal(_POOL, np.float32)
        self.overflows = 0
        self.wrapped = np.zeros(0, np.bool_)
        self._tables: dict[int, _Table] = {}

    def start_batch(self, samples: int) -> None:
        """Forget which samples were lost."""
        self.wrapped = np.zeros(samples, np.bool_)

    def encrypt(self, values: Array, level: int, scale: float) -> Slots:
        """Return (samples, slots) values with a fresh encryption's error."""
        fresh = Slots(values, level, scale)
        return self._noisy(fresh, noise.encryption(self.parameters.ring_degree))

    def encode(self, values: Array, level: int, scale: float) -> Plain:
        """Round as the encoder does; a single number is rounded in one coefficient only."""
        values = np.asarray(values, np.float64)
        if values.ndim == 0:
            return Plain(np.round(values * scale) / scale, scale)
        deviation = noise.encoding(self.parameters.ring_degree) / scale
        return Plain(values + self._random.standard_normal(values.shape) * deviation, scale)

    def rotate(self, x: Slots, steps: int) -> Slots:
        """Rotate, with a key switch's error."""
        return self._noisy(super().rotate(x, steps), self._switching(x.level))

    def multiply(self, x: Slots, y: Slots) -> Slots:
        """Multiply, with a relinearization's error."""
        return self._fitting(self._noisy(super().multiply(x, y), self._switching(x.level)))

    def rescale(self, x: Slots) -> Slots:
        """Rescale, with its rounding error."""
        rounding = noise.rescaling(self.parameters.ring_degree)
        return self._noisy(super().rescale(self._fitting(x)), rounding)

    def mod_switch(self, x: Slots, level: int) -> Slots:
        """Drop to `level`, where the values must still fit."""
        return self._fitting(super().mod_switch(x, level))

    def bootstrap(self, x: Slots, coefficients: Array) -> Slots:
        """Evaluate the series of the noisy argument, with the error of the result.

        OpenFHE refreshes the slots after which a ciphertext repeats: copies get the same errors.
        """
        level, scale = self._refreshed(coefficients.shape[1] - 1)
        lost = np.abs(x.values) > fourier.LOST
        if lost.any():
            self._lose(np.any(lost, axis=1))
        errors = self._repeated_errors(x.values.shape)
        argument = errors * np.float32(noise.bootstrapping(self.parameters)) + x.values
        values = self._table(coefficients)(argument)
        flat = noise.bootstrap_result(self.parameters, coefficients.shape[1] - 1)
        values += self._repeated_errors(values.shape) * np.float32(flat)
        return Slots(values, level, scale)

    def _repeated_errors(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return (samples, slots) errors that repeat as the slots of a bootstrap do."""
        how, (samples, slots) = self.parameters.bootstrapping, shape
        period = slots if how is None else how.slots
        return np.tile(self._errors((samples, period)), slots // period)

    def _lose(self, samples: NDArray[np.bool_]) -> None:
        if self.wrapped.shape != samples.shape:
            self.start_batch(len(samples))
        self.wrapped |= samples

    def _table(self, coefficients: Array) -> _Table:
        if id(coefficients) not in self._tables:
            self._tables[id(coefficients)] = _Table(coefficients)
        return self._tables[id(coefficients)]

    def linear_kernel(
        self, instruction: LinearTransform, level: int
    ) -> Callable[[list[Slots]], list[Slots]]:
        """Return matrix @ operand as one sparse product, with the steps' errors added up."""
        matrix, slots = whole_matrix(instruction.matrix), instruction.matrix.slots
        period = instruction.matrix.period
        switch = self._switching(level)
        entering, turns = _entering(instruction, switch**2), _turns(instruction)
        rounded = _rounded(instruction)
        rounding = noise.encoding(self.parameters.ring_degree) / instruction.plain_scale
        if period == 1:  # one coefficient is rounded, however many images
            rounding /= sqrt(self.parameters.batch)

        def kernel(blocks: list[Slots]) -> list[Slots]:
            x, scale = np.concatenate([b.values for b in blocks], axis=1), blocks[0].scale
            product = times_samples(matrix.rows, x)
            product_scale = scale * instruction.plain_scale
            mean_square = (x**2).mean(axis=1)[:, None]
            results = []
            for block in range(instruction.matrix.out_blocks):
                variance = entering[block] / scale**2
                variance = variance + turns[block] * (switch / product_scale) ** 2
                values = product[:, block * slots : (block + 1) * slots]
                encoded = rounding * np.sqrt(rounded[block] * mean_square)
                values = values + self._errors(values.shape) * np.sqrt(variance)
                repeats = self._errors((len(values), period)) * encoded  # with the diagonals
                values = values + np.tile(repeats, slots // period)
                results.append(self._fitting(Slots(values, level, product_scale)))
            return results

        return kernel

    def _switching(self, level: int) -> Array:
        return noise.usual_key_switching(self.parameters, level)

    def _noisy(self, x: Slots, deviation: float | Array) -> Slots:
        """Add an error of `deviation` (before division by the scale) to every slot."""
        error = self._errors(x.values.shape) * (deviation / x.scale)
        return Slots(x.values + error, x.level, x.scale)

    def _errors(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return standard normal numbers, cut from one pool: drawing them would take most time."""
        count = int(np.prod(shape))
        if count > self._pool.size - _FEWEST_OFFSETS:
            return self._random.standard_normal(shape, np.float32)
        start = int(self._random.integers(self._pool.size - count))
        return self._pool[start : start + count].reshape(shape)

    def _fitting(self, x: Slots) -> Slots:
        """Count the values beyond half the modulus; a sample that has one is lost.

        Coefficients wrap around, which reaches every slot: nothing of the sample is left.
        """
        log_modulus = sum(np.log2(prime) for prime in self.parameters.primes[: x.level + 1])
        limit = 2.0 ** (log_modulus - 1 - np.log2(x.scale))
        beyond = ~(np.abs(x.values) <= limit)
        if not beyond.any():
            return x
        self.overflows += int(np.count_nonzero(beyond))
        values = x.values.copy()
        lost = beyond.any(axis=1)
        values[lost] = self._random.uniform(-1, 1, values[lost].shape) * min(limit, _WRAPPED)
        return Slots(values, x.level, x.scale)


class _Table:
    """A Fourier series in single precision, interpolated between points of its period."""

    def __init__(self, coefficients: Array) -> None:
        self.coefficients = coefficients  # kept, so that no other array gets its id
        points = np.linspace(0.0, 2.0, _TABLE_POINTS + 1)
        values = fourier.series(coefficients, points)
        self._values = values[:-1].astype(np.float32)
        self._slopes = np.diff(values).astype(np.float32)

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return the series at `x`, any shape."""
        place = np.asarray(x, np.float64) * (_TABLE_POINTS / 2)
        whole = np.floor(place)
        rest = (place - whole).astype(np.float32)
        index = whole.astype(np.int64) & (_TABLE_POINTS - 1)
        return np.asarray(self._values[index] + rest * self._slopes[index], np.float64)


def _entering(instruction: LinearTransform, switch: Array) -> Array:
    """Return (out_blocks, slots) variances that the key switches of baby steps leave.

    `switch` is that of one in every slot. A giant step turns the slots in which it is large.
    """
    matrix = instruction.matrix
    giant, baby = _shifts(instruction, matrix.index[:, 2])
    found, count = np.zeros((matrix.out_blocks, matrix.slots)), matrix.out_blocks * matrix.period
    for turn in np.unique(giant[baby != 0]):
        chosen = np.flatnonzero((giant == turn) & (baby != 0))
        terms = matrix.values[chosen]
        block = np.repeat(matrix.index[chosen, 0] * matrix.period, np.diff(terms.indptr))
        powers = np.bincount(block + terms.indices, np.square(terms.data, dtype=np.float64), count)
        tiled = np.tile(powers.reshape(matrix.out_blocks, -1), matrix.slots // matrix.period)
        found += tiled * np.roll(switch, -int(turn))
    return found


def _turns(instruction: LinearTransform) -> list[int]:
    """Return the giant steps of each output block."""
    index = products(instruction.matrix, instruction.twin).index
    giant, _ = _shifts(instruction, index[:, 2])
    turned = giant != 0
    pairs = np.unique(np.stack([index[turned, 0], giant[turned]]), axis=1)
    return [int(count) for count in np.bincount(pairs[0], minlength=instruction.matrix.out_blocks)]


def _rounded(instruction: LinearTransform) -> list[float]:
    """Return the products of each output block; of one that repeats, a share is rounded."""
    matrix = instruction.matrix
    index = products(matrix, instruction.twin).index
    share = matrix.period / matrix.slots
    return [share * int(count) for count in np.bincount(index[:, 0], minlength=matrix.out_blocks)]


def _shifts(
    instruction: LinearTransform, shift: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return giant and baby step of each shift."""
    split = Split(instruction.baby_step, instruction.baby_start)
    return split.apply(shift.astype(np.int64))
