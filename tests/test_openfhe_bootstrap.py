"""The functional bootstrap of OpenFHE: its series, its error, levels and scales.

All rings here are insecure; `test_openfhe_secure` has a bootstrap that is not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import parameters
from fhe_sessions import REFRESHING, Session, leveled_part, refreshing_part
from hec.compiler import fourier, noise
from hec.compiler.bootstrap_keys import rotation_steps
from hec.compiler.bootstrapping import level_scales, result_level
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.errors import CompileError, InvalidProgram
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_primes import chain

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

Array = NDArray[np.float64]
ERROR_BITS = 1.5  # between the error that is measured and the one that is predicted
FUNCTIONS = {"relu": lambda x: np.maximum(x, 0), "identity": lambda x: x}
CHOICES = {  # ring degree 2^n, parameters, degrees of series
    "10 full": (REFRESHING, (7, 15)),
    "10 two stages": (parameters(10, how=Bootstrapping((2, 2), (0, 0), 512)), (31,)),
    "11 sparse": (parameters(11, how=Bootstrapping((3, 2), (0, 0), 128)), (15,)),
    "12 full": (parameters(12), (15,)),
}
TOLERANCE = {"10 full": 2.5e-4, "10 two stages": 2.5e-4, "11 sparse": 3e-4, "12 full": 8e-4}
COEFFICIENTS = fourier.fitted(FUNCTIONS["relu"], 15)


@pytest.fixture(scope="module", params=CHOICES)
def choice(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Session]]:
    chosen, _ = CHOICES[request.param]
    yield request.param, Session(refreshing_part(chosen), tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    yield Session(refreshing_part(), tmp_path_factory.mktemp("keys"))


def arguments(session: Session) -> Array:
    """Return values in the half period, with the period of the slots that are refreshed."""
    how = session.parameters.bootstrapping
    assert how is not None
    return np.resize(session.random.uniform(-0.5, 0.5, how.slots), session.parameters.slots)


def refreshed(session: Session, x: Array, coefficients: Array, level: int = 3) -> Array:
    """Return the error of a bootstrap; check its level and scale."""
    backend, chosen = session.backend, session.parameters
    how, scales = chosen.bootstrapping, level_scales(chosen.primes)
    assert how is not None
    y = backend.bootstrap(session.encrypted(x, level), coefficients)
    found = result_level(chosen, how, coefficients.shape[1] - 1)
    assert (backend.level(y), backend.scale(y)) == (found, pytest.approx(scales[found] ** 2))
    assert y.GetSlots() == chosen.slots
    z = backend.rescale(y)
    assert (backend.level(z), backend.scale(z)) == (found - 1, pytest.approx(scales[found - 1]))
    return session.decrypted(z) - fourier.series(coefficients, x)


def bits(error: Array, predicted: float) -> float:
    return float(np.log2(np.sqrt(np.mean(error**2)) / predicted))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_bootstrap_is_its_series_with_the_error_that_noise_predicts(
    function: str, choice: tuple[str, Session]
) -> None:
    name, session = choice
    for degree in CHOICES[name][1]:
        coefficients, x = fourier.fitted(FUNCTIONS[function], degree), arguments(session)
        error = refreshed(session, x, coefficients)
        assert np.abs(error).max() < TOLERANCE[name]
        argument = noise.bootstrapping(session.parameters) * fourier.slope(coefficients, x)
        flat = noise.bootstrap_result(session.parameters, degree)
        assert abs(bits(error, np.sqrt(np.mean(argument**2) + flat**2))) < ERROR_BITS


def test_where_the_series_is_flat_the_error_is_no_more_than_that_of_the_result(
    choice: tuple[str, Session],
) -> None:
    name, session = choice
    for degree in CHOICES[name][1]:
        x = -np.abs(arguments(session)) * 0.7 - 0.1  # in [-0.45, -0.1], where ReLU is 0
        coefficients = fourier.fitted(FUNCTIONS["relu"], degree)
        error = refreshed(session, x, coefficients)
        argument = noise.bootstrapping(session.parameters) * fourier.slope(coefficients, x)
        flat = noise.bootstrap_result(session.parameters, degree)
        assert bits(error, np.sqrt(np.mean(argument**2) + flat**2)) < ERROR_BITS


@pytest.mark.parametrize("level", [3, 4, 10, 22])
def test_a_ciphertext_of_any_level_from_the_lowest_can_be_refreshed(
    level: int, session: Session
) -> None:
    x = arguments(session)
    assert np.abs(refreshed(session, x, COEFFICIENTS, level)).max() < TOLERANCE["10 full"]


def test_bootstraps_follow_each_other(session: Session) -> None:
    backend, x = session.backend, arguments(session)
    y = session.encrypted(x, 3)
    for _ in range(2):
        y = backend.rescale(backend.bootstrap(y, COEFFICIENTS))
    expected = fourier.series(COEFFICIENTS, fourier.series(COEFFICIENTS, x))
    np.testing.assert_allclose(session.decrypted(y), expected, rtol=0, atol=2.5e-4)


def test_the_operand_is_not_changed(session: Session) -> None:
    x = session.encrypted(arguments(session), 3)
    scale, slots = session.backend.scale(x), x.GetSlots()
    data = session.evaluator.save(x, 3, scale)
    session.backend.bootstrap(x, COEFFICIENTS)
    assert (session.evaluator.save(x, 3, scale), x.GetSlots()) == (data, slots)


def test_what_cannot_be_refreshed_is_refused(session: Session) -> None:
    backend = session.backend
    low, square = session.fresh(2)[1], backend.multiply(*[session.fresh(3)[1]] * 2)
    for x, level in ((low, 2), (square, 3)):
        with pytest.raises(InvalidProgram) as caught:
            backend.bootstrap(x, COEFFICIENTS)
        assert str(caught.value) == f"OpenFHE cannot refresh a ciphertext at level {level}"


def test_a_plan_without_bootstraps_cannot_refresh(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    leveled = Session(leveled_part(), tmp_path_factory.mktemp("keys"))
    with pytest.raises(InvalidProgram) as caught:
        leveled.backend.bootstrap(leveled.fresh(4)[1], COEFFICIENTS)
    assert str(caught.value) == "OpenFHE cannot refresh a ciphertext at level 4"


def test_plans_that_refresh_in_other_ways_do_not_disturb_each_other(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """OpenFHE has one context for all of them, which holds the matrices of one."""
    ways = (((3, 2), (4, 4)), ((3, 2), (0, 16)), ((2, 2), (0, 0)))
    sessions = [
        Session(
            refreshing_part(parameters(10, how=Bootstrapping(*way, 512))),
            tmp_path_factory.mktemp("keys"),
        )
        for way in ways
    ]
    assert len({session.context.fhe for session in sessions}) == 1
    for session in (*sessions, *sessions[::-1]):
        error = refreshed(session, arguments(session), COEFFICIENTS)
        assert np.abs(error).max() < TOLERANCE["10 full"]


@pytest.mark.parametrize("slots", [512, 64])
@pytest.mark.parametrize("way", [((3, 2), (0, 16)), ((2, 2), (0, 0)), ((4, 3), (4, 4))])
def test_the_rotation_keys_are_those_that_the_cost_model_counts(
    way: tuple[tuple[int, int], tuple[int, int]],
    slots: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    how = Bootstrapping(*way, slots)
    chosen = parameters(10, depth=24, digits=5, how=how)
    session = Session(refreshing_part(chosen), tmp_path_factory.mktemp("keys"))
    assert session.backend.keys.rotations == rotation_steps(1024, how)


@pytest.mark.parametrize(
    ("levels", "baby_steps", "slots"),
    [
        ((3, 2), (0, 0), 3),
        ((3, 2), (0, 0), 0),
        ((3, 2), (0, 0), -512),
        ((3, 2), (0, 0), 1024),
        ((0, 2), (0, 0), 512),
        ((3, -1), (0, 0), 512),
        ((10, 2), (0, 0), 512),
        ((3, 2), (-1, 0), 512),
    ],
)
def test_an_absurd_bootstrap_is_refused(
    levels: tuple[int, int], baby_steps: tuple[int, int], slots: int
) -> None:
    absurd = parameters(10, how=Bootstrapping(levels, baby_steps, slots))
    with pytest.raises(CompileError) as caught:
        OpenfheContext(absurd, insecure_for_tests=True)
    assert str(caught.value) == (
        f"OpenFHE refuses the encryption parameters: no bootstrap of {slots} slots by {levels}\n"
        "  --> ring degree 1024, 23 primes and 2 special, 880 bits, 128-bit security\n"
        "  help: compile the model again with this version of hec"
    )


def test_a_first_prime_of_another_size_is_refused() -> None:
    primes = chain(1024, [36, *[33] * 22], 8, True)
    with pytest.raises(CompileError) as caught:
        OpenfheContext(
            EncryptionParameters(1024, *primes, 128, 8, REFRESHING.bootstrapping),
            insecure_for_tests=True,
        )
    assert str(caught.value) == (
        "OpenFHE refuses the encryption parameters: "
        "a bootstrap takes a first prime twice as large as others\n"
        "  --> ring degree 1024, 23 primes and 2 special, 882 bits, 128-bit security\n"
        "  help: compile the model again with this version of hec"
    )
