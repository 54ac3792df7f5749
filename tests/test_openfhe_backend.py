"""Every primitive step on OpenFHE against numpy, with bootstrapping and without.

The ring of the plan with bootstraps is insecure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fhe_sessions import Session, leveled_part, refreshing_part
from hec.compiler.errors import CompileError, InvalidProgram
from hec.runtime.openfhe_backend import OpenfheBackend
from hec.runtime.openfhe_keys import EvaluationKeys

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

Array = NDArray[np.float64]
TOLERANCE = {False: 1e-4, True: 3e-7}  # by bootstrapping: scales of 28 and 33 bits, values to 1


@pytest.fixture(scope="module", params=["leveled", "refreshing"])
def session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    part = leveled_part() if request.param == "leveled" else refreshing_part()
    yield Session(part, tmp_path_factory.mktemp("keys"))


def close(session: Session, x: object, expected: Array) -> None:
    atol = TOLERANCE[session.part.keys.bootstrapping]
    np.testing.assert_allclose(session.decrypted(x), expected, rtol=0, atol=atol)


def assert_type(session: Session, x: object, level: int, scale: float) -> None:
    found = (session.backend.level(x), session.backend.scale(x))
    assert found == (level, pytest.approx(scale, rel=1e-12))


def refusal(step: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(InvalidProgram) as caught:
        step(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(("level", "bits"), [(0, 32), (2, 33), (2, 40), (2, 66), (4, 35), (4, 50)])
def test_decryption_undoes_encryption(level: int, bits: int, session: Session) -> None:
    scale = 2.0**bits
    values, x = session.fresh(level, scale)
    assert_type(session, x, level, scale)
    close(session, x, values)


@pytest.mark.parametrize("bits", [0, 3, 9])
def test_multiply_plain_then_rescale_divides_by_the_prime(bits: int, session: Session) -> None:
    backend, plain_scale = session.backend, session.parameters.primes[3] * 2.0**bits
    values, x = session.fresh(3)
    weights = session.random.uniform(-1, 1, len(values))
    product = backend.multiply_plain(x, backend.encode(weights, 3, plain_scale))
    assert_type(session, product, 3, backend.scale(x) * plain_scale)
    y = backend.rescale(product)
    assert_type(session, y, 2, backend.scale(x) * 2.0**bits)
    close(session, y, values * weights)


@pytest.mark.parametrize("bits", [33, 40, 50, 66])
def test_a_vector_is_added_as_exactly_as_its_scale_allows(bits: int, session: Session) -> None:
    values, x = session.fresh(3, 2.0**bits)
    y = session.backend.add_plain(x, session.backend.encode(-values, 3, 2.0**bits))
    assert_type(session, y, 3, 2.0**bits)
    close(session, y, np.zeros_like(values))


def test_one_number_stands_for_all_slots(session: Session) -> None:
    values, x = session.fresh(2)
    plain = session.backend.encode(np.asarray(-0.25), 2, session.backend.scale(x))
    close(session, session.backend.add_plain(x, plain), values - 0.25)
    product = session.backend.rescale(session.backend.multiply_plain(x, plain))
    close(session, product, values * -0.25)


@pytest.mark.parametrize("value", [0.0, 1e-12, -1e-12])
def test_a_product_with_zero_stays_encrypted_and_is_zero(value: float, session: Session) -> None:
    values, x = session.fresh(2)
    for zero in (np.asarray(value), np.full(len(values), value)):
        plain = session.backend.encode(zero, 2, session.backend.scale(x))
        product = session.backend.multiply_plain(x, plain)
        data = session.evaluator.save(product, 2, session.backend.scale(product))
        assert any(data[len(data) // 2 :])
        close(session, session.backend.rescale(product), np.zeros_like(values))


def test_values_of_mean_zero_that_round_to_zero_stay_encrypted(session: Session) -> None:
    values, x = session.fresh(2)
    tiny = 0.1 / session.backend.scale(x) * np.resize([1.0, -1.0], len(values))
    product = session.backend.multiply_plain(
        x, session.backend.encode(tiny, 2, session.backend.scale(x))
    )
    data = session.evaluator.save(product, 2, session.backend.scale(product))
    assert any(data[len(data) // 2 :])


def test_add_plain_adds(session: Session) -> None:
    values, x = session.fresh(2)
    bias = session.random.uniform(-1, 1, len(values))
    y = session.backend.add_plain(x, session.backend.encode(bias, 2, session.backend.scale(x)))
    assert_type(session, y, 2, session.backend.scale(x))
    close(session, y, values + bias)


def test_add_adds_rescaled_values_and_products(session: Session) -> None:
    values, x = session.fresh(2)
    others, y = session.fresh(2)
    total = session.backend.add(x, y)
    assert_type(session, total, 2, session.backend.scale(x))
    close(session, total, values + others)
    products = [session.backend.multiply(x, y), session.backend.multiply(x, x)]
    total = session.backend.add(*products)
    assert_type(session, total, 2, session.backend.scale(x) ** 2)
    close(session, session.backend.rescale(total), values * others + values * values)


def test_add_tolerates_what_float64_rounds_and_no_more(session: Session) -> None:
    backend, scale = session.backend, 2.0**33
    values, x = session.fresh(2, scale)
    others, y = session.fresh(2, scale * (1 + 1e-12))
    close(session, backend.add(x, y), values + others)
    assert (backend.scale(x), backend.scale(y)) == (scale, scale * (1 + 1e-12))
    other = session.fresh(2, scale * 1.0001)[1]
    assert refusal(backend.add, x, other) == (
        "OpenFHE cannot add scales 8589934592 and 8590793585.46"
    )


def test_operands_of_other_levels_are_refused(session: Session) -> None:
    backend, x, y = session.backend, session.fresh(2)[1], session.fresh(3)[1]
    plain = backend.encode(np.ones(session.parameters.slots), 3, backend.scale(x))
    message = "OpenFHE cannot combine levels 2 and 3"
    assert refusal(backend.add, x, y) == message
    assert refusal(backend.multiply, x, y) == message
    assert refusal(backend.add_plain, x, plain) == message
    assert refusal(backend.multiply_plain, x, plain) == message


def test_multiply_and_square_are_relinearized(session: Session) -> None:
    backend = session.backend
    values, x = session.fresh(2)
    others, y = session.fresh(2)
    product, square = backend.multiply(x, y), backend.multiply(x, x)
    for z, expected in ((product, values * others), (square, values * values)):
        assert z.NumberCiphertextElements() == 2
        assert_type(session, z, 2, backend.scale(x) ** 2)
        rescaled = backend.rescale(z)
        assert_type(session, rescaled, 1, backend.scale(x) ** 2 / session.parameters.primes[2])
        close(session, rescaled, expected)


def test_products_of_other_scales_multiply_them(session: Session) -> None:
    (values, x), (others, y) = session.fresh(3, 2.0**34), session.fresh(3, 2.0**36)
    product = session.backend.multiply(x, y)
    assert_type(session, product, 3, 2.0**70)
    close(session, session.backend.rescale(product), values * others)


def test_operands_are_never_changed(session: Session) -> None:
    backend = session.backend
    values, x = session.fresh(2)
    scale, data = backend.scale(x), session.evaluator.save(x, 2, backend.scale(x))
    plain = backend.encode(values, 2, scale)
    backend.rotate(x, 1)
    backend.rotate_each(x, (1, 5))
    backend.multiply(x, x)
    backend.rescale(x)
    backend.mod_switch(x, 0)
    backend.multiply_plain(x, plain)
    backend.add_plain(x, plain)
    backend.add(x, x)
    assert_type(session, x, 2, scale)
    assert session.evaluator.save(x, 2, scale) == data
    assert (backend.level(plain), backend.scale(plain)) == (2, scale)


@pytest.mark.parametrize("level", [0, 1, 3, 4])
def test_mod_switch_keeps_scale_and_values(level: int, session: Session) -> None:
    values, x = session.fresh(4, 2.0**33)
    y = session.backend.mod_switch(x, level)
    assert_type(session, y, level, 2.0**33)
    close(session, y, values)


def test_mod_switch_keeps_the_scale_of_a_product(session: Session) -> None:
    values, x = session.fresh(4)
    y = session.backend.mod_switch(session.backend.multiply(x, x), 2)
    assert_type(session, y, 2, session.backend.scale(x) ** 2)
    close(session, session.backend.rescale(y), values * values)


def test_level_0_has_no_prime_to_drop(session: Session) -> None:
    message = "OpenFHE cannot rescale at level 0"
    assert refusal(session.backend.rescale, session.fresh(0, 2.0**30)[1]) == message


def test_what_the_modulus_cannot_hold_is_refused(session: Session) -> None:
    backend, slots = session.backend, session.parameters.slots
    x = session.fresh(0, 2.0**30)[1]
    message = "OpenFHE cannot multiply: the scale is out of bounds"
    assert refusal(backend.multiply, x, x) == message
    assert refusal(backend.multiply_plain, x, backend.encode(np.ones(slots), 0, 2.0**20)) == message
    message = "OpenFHE cannot encode 1e+09 at level 0"
    assert refusal(backend.encode, np.full(slots, 1e9), 0, 2.0**30) == message


@pytest.mark.parametrize("level", [-1, 99])
def test_a_level_outside_of_the_chain_is_refused(level: int, session: Session) -> None:
    message = f"OpenFHE cannot encode at level {level}"
    assert (
        refusal(session.backend.encode, np.zeros(session.parameters.slots), level, 4.0) == message
    )


def test_a_product_without_a_key_is_refused(session: Session) -> None:
    bare = OpenfheBackend(session.context, EvaluationKeys("nobody", frozenset(), False))
    x = session.fresh(1)[1]
    with pytest.raises(CompileError) as caught:
        bare.multiply(x, x)
    assert str(caught.value) == (
        "The evaluation keys have no key for a product of ciphertexts\n"
        "  help: make the keys again with this plan: they hold exactly the keys that it needs"
    )
