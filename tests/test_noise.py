"""The error formulas against the errors themselves, made from random polynomials."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import parameters
from hec.compiler import noise
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters

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


def encoded(values: Array) -> Array:
    """Return the coefficients of the polynomials that have real `values` in the slots."""
    powers = np.array([pow(3, slot, 2 * N) for slot in range(N // 2)])
    return values @ np.cos(np.pi * np.outer(powers, np.arange(N)) / N) * 2 / N


def roundings(random: np.random.Generator, repeats: int = 1) -> Array:
    values = np.tile(random.uniform(-1, 1, (TRIES, N // 2 // repeats)), repeats) * 1e6
    exact = encoded(values)
    np.testing.assert_allclose(slots(exact), values, atol=1e-3)
    return np.round(exact) - exact


@pytest.mark.parametrize("repeats", [1, 4])
def test_encoding_rounds_every_coefficient_that_is_not_zero(
    repeats: int, random: np.random.Generator
) -> None:
    """As vectors are real, so are their errors."""
    predicted = noise.encoding(N) / np.sqrt(repeats)
    found = np.sqrt((slots(roundings(random, repeats)) ** 2).mean())
    assert found == pytest.approx(predicted, rel=TOLERANCE)


def test_encryption_adds_a_small_polynomial_to_the_rounding(random: np.random.Generator) -> None:
    fresh = np.round(random.normal(0, noise.ERROR_DEVIATION, (TRIES, N)))
    assert_deviation(fresh + roundings(random), noise.encryption(N))


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


# Arguments' errors in slots, measured with OpenFHE 1.6.1, 2026-11-24: log2 of the ring degree and
# of the slots, bits of scale, depth, digits.
BOOTSTRAPS = [
    (15, 14, 33, 22, 8, 2.9e-4),
    (15, 14, 31, 23, 8, 3.5e-3),
    (15, 8, 33, 20, 7, 2.0e-4),
    (15, 8, 32, 20, 7, 4.6e-4),
    (15, 8, 31, 20, 7, 2.9e-3),
    (14, 8, 31, 20, 3, 1.7e-3),
    (14, 8, 35, 20, 3, 7.9e-5),
    (13, 12, 33, 22, 8, 1.3e-4),
    (13, 8, 31, 20, 3, 5.3e-4),
    (13, 8, 32, 20, 3, 9.3e-5),
    (12, 11, 28, 22, 8, 1.1e-3),
    (12, 11, 33, 22, 8, 1.1e-4),
    (12, 11, 35, 22, 8, 1.0e-5),
    (12, 11, 40, 22, 8, 7.4e-7),
    (12, 11, 45, 22, 8, 5.3e-8),
]


@pytest.mark.parametrize(
    ("log_degree", "log_slots", "bits", "depth", "digits", "error"), BOOTSTRAPS
)
def test_the_error_of_a_bootstrap_is_what_was_measured(
    log_degree: int, log_slots: int, bits: int, depth: int, digits: int, error: float
) -> None:
    how = Bootstrapping((3, 2), (0, 0), 2**log_slots)
    found = noise.bootstrapping(parameters(log_degree, bits, depth, digits, how))
    assert abs(np.log2(found / error)) < 0.5


@pytest.mark.parametrize(
    ("log_degree", "log_slots", "degree", "error"),
    [(12, 11, 15, 1.55e-5), (12, 11, 31, 4.0e-6), (12, 11, 7, 6.2e-5), (12, 8, 15, 5.9e-6)],
)
def test_the_error_of_a_result_is_what_was_measured_where_the_series_is_flat(
    log_degree: int, log_slots: int, degree: int, error: float
) -> None:
    how = Bootstrapping((3, 2), (0, 0), 2**log_slots)
    found = noise.bootstrap_result(parameters(log_degree, how=how), degree)
    assert abs(np.log2(found / error)) < 0.3


@pytest.mark.parametrize("level", [0, 3])
def test_hybrid_key_switching_multiplies_digits_by_errors_and_rounds_down(
    level: int, random: np.random.Generator
) -> None:
    primes, special = (2**12, 2**11, 2**10, 2**11), 2**24
    down = fraction(random) - 0.5
    error = down + times(fraction(random) - 0.5, secret(random))
    digits = (2.0**12,) if level == 0 else (2.0**23, 2.0**21)
    for digit in digits:
        part = digit * random.uniform(0, 1, (TRIES, N))
        error = error + times(part, random.normal(0, 3.2, (TRIES, N))) / special
    chosen = EncryptionParameters(N, primes, (special,), 128, digits=2)
    assert_deviation(error, noise.key_switching(chosen, level))
