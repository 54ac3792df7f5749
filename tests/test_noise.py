"""The error formulas against the errors themselves, made from random polynomials."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hec.compiler import noise
from hec.compiler.ckks_ir import EncryptionParameters

Array = NDArray[np.float64]
N = 512
TRIES = 400
TOLERANCE = 0.03  # relative


def slots(coefficients: Array) -> Array:
    """Return the real parts of the values at the powers 3**slot of a root of unity."""
    twist = np.exp(-1j * np.pi * np.arange(N) / N)
    powers = np.array([pow(3, slot, 2 * N) for slot in range(N // 2)])
    return np.fft.fft(coefficients * twist, axis=-1).real[:, (powers - 1) // 2]


def times(left: Array, right: Array) -> Array:
    """Return the products modulo X^N + 1."""
    twist = np.exp(-1j * np.pi * np.arange(N) / N)
    product = np.fft.fft(left * twist) * np.fft.fft(right * twist)
    return np.asarray((np.fft.ifft(product) / twist).real)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def fraction(random: np.random.Generator) -> Array:
    return random.uniform(-0.5, 0.5, (TRIES, N))


def secret(random: np.random.Generator) -> Array:
    return random.integers(-1, 2, (TRIES, N)).astype(np.float64)


def assert_deviation(error: Array, predicted: float | Array) -> None:
    """On average over the slots, and, with fewer samples and so less exactly, in each of them."""
    ratio = np.sqrt((slots(error) ** 2).mean(axis=0)) / predicted
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, rel=TOLERANCE)
    np.testing.assert_allclose(ratio, 1, rtol=0.25)


def test_encoding_rounds_every_coefficient(random: np.random.Generator) -> None:
    assert_deviation(fraction(random), noise.encoding(N))


def test_encryption_adds_a_small_polynomial_to_the_rounding(random: np.random.Generator) -> None:
    fresh = np.round(random.normal(0, noise.ERROR_DEVIATION, (TRIES, N)))
    assert_deviation(fresh + fraction(random), noise.encryption(N))


def test_rescaling_rounds_both_polynomials(random: np.random.Generator) -> None:
    error = fraction(random) + times(fraction(random), secret(random))
    assert_deviation(error, noise.rescaling(N))


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("special", [2**20, 2**24])
def test_key_switching_multiplies_digits_by_errors(
    level: int, special: int, random: np.random.Generator
) -> None:
    primes = (2**22, 2**21, 2**20)
    error = fraction(random) + times(fraction(random), secret(random))
    for prime in primes[: level + 1]:
        digit = prime * random.uniform(0, 1, (TRIES, N))
        error = error + times(digit, random.normal(0, 3.2, (TRIES, N))) / special
    parameters = EncryptionParameters(N, primes, (special,), 128)
    assert_deviation(error, noise.key_switching(parameters, level))


def test_the_first_slots_get_most_of_a_key_switch() -> None:
    parameters = EncryptionParameters(N, (2**22,), (2**22,), 128)
    error = noise.key_switching(parameters, 0)
    assert error.shape == (N // 2,)
    assert error.argmax() == 0
    assert error[0] > 10 * np.median(error)
    assert np.sort(error)[-20] < 2 * np.median(error)


def test_errors_grow_with_the_ring() -> None:
    assert noise.encoding(4 * N) == pytest.approx(2 * noise.encoding(N))
    assert noise.encryption(4 * N) == pytest.approx(2 * noise.encryption(N))
    assert noise.rescaling(4 * N) == pytest.approx(4 * noise.rescaling(N), rel=0.01)
