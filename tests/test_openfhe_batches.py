"""Batches on OpenFHE: answers, rotations of images, sums of both kinds, products that wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from batch_networks import SAMPLES, exact, plan
from fhe_sessions import LEVELED, MANIFEST, Session, leveled_part
from hec.compiler.errors import CompileError
from hec.compiler.key_manifest import KeyManifest
from hec.runtime import openfhe_sums, openfhe_threads
from hec.runtime.client import Client
from hec.runtime.images import interleaved, separated
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear, run_simulated

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

BATCH = replace(LEVELED, batch=64)
ONE_SLOT = replace(LEVELED, batch=LEVELED.ring_slots)
RANDOM = np.random.default_rng(5)
SCALE = 2.0**28
TOLERANCE = 1e-3  # of 28-bit scales


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(leveled_part(KeyManifest((), True), ONE_SLOT), tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize(("batch", "images"), [(4, 3), (10**6, 300)])
def test_the_answers_are_those_of_the_images(batch: int, images: int) -> None:
    shared = plan(batch, "openfhe")
    client = Client(shared)
    server = Server(shared, client.evaluation_keys())
    x = SAMPLES[:images]
    answer = np.asarray(client.decrypt(server.run(client.encrypt(x))))
    assert answer.shape == (images, 4)
    assert np.abs(answer - exact(x)).max() < 2.0**-shared.client.precision
    clear = run_clear(shared, x).outputs["y"]
    simulated = run_simulated(shared, x).outputs["y"] - clear
    measured, predicted = (np.sqrt(np.mean(e**2)) for e in (answer - clear, simulated))
    assert measured < 3 * predicted  # of a dozen values, under one key


def test_a_rotation_turns_the_slots_of_every_image(tmp_path: Path) -> None:
    turning = Session(leveled_part(KeyManifest((1, 5, 61), False), BATCH), tmp_path)
    images = RANDOM.uniform(-1, 1, (64, 1, 64))
    x = turning.encrypted(interleaved(images, 64)[0], 1)
    one = turning.backend.rotate(x, 5)
    each = [one, *turning.backend.rotate_each(x, (1, 61))]
    for steps, turned in zip((5, 1, 61), each, strict=True):
        found = separated(turning.decrypted(turned)[None], 64, 64)
        np.testing.assert_allclose(found, np.roll(images, -steps, axis=2), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dense", [False, True])
def test_both_kinds_of_sums_are_right(
    session: Session, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openfhe_sums, "NUMBER_PRODUCT", np.inf if dense else 0.0)
    backend, level, scale = session.backend, 2, 2.0**24
    fresh = [session.fresh_all(level) for _ in range(5)]
    weights = RANDOM.integers(-(2**24), 2**24, (3, 5))
    weights[1] = -np.abs(weights[1]) - 1
    weights[2, 1:4] = 0
    sums = backend.weighted_sums([x for _, x in fresh], sp.csr_array(weights), scale)
    values = np.stack([value for value, _ in fresh])
    assert [backend.scale(y) for y in sums] == [SCALE * scale] * 3
    found = np.stack([session.decrypted(backend.rescale(y)) for y in sums])
    np.testing.assert_allclose(found, weights / scale @ values, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dense", [False, True])
def test_sums_of_products_are_relinearized_once(
    session: Session, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openfhe_sums, "NUMBER_PRODUCT", np.inf if dense else 0.0)
    backend, scale = session.backend, 2.0**10
    fresh = [session.fresh_all(3) for _ in range(4)]
    squares = [backend.multiply_only(x, x) for _, x in fresh]
    assert {x.NumberCiphertextElements() for x in squares} == {3}
    weights = RANDOM.integers(-(2**10), 2**10, (2, 4))
    sums = backend.weighted_sums(squares, sp.csr_array(weights), scale)
    found = [backend.rescale(backend.relinearize(y)) for y in sums]
    assert {x.NumberCiphertextElements() for x in found} == {2}
    values = np.stack([value for value, _ in fresh])
    result = np.stack([session.decrypted(y) for y in found])
    np.testing.assert_allclose(result, weights / scale @ values**2, rtol=0, atol=TOLERANCE)


def test_a_relinearization_needs_its_key(tmp_path: Path) -> None:
    without = Session(leveled_part(replace(MANIFEST, relinearization=False)), tmp_path)
    _, x = without.fresh(1)
    with pytest.raises(CompileError) as caught:
        without.backend.relinearize(without.backend.multiply_only(x, x))
    assert str(caught.value).startswith("The evaluation keys have no key for a product")


def test_threads_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    items = list(range(100))
    assert openfhe_threads.threads() == 2
    assert openfhe_threads.each(lambda i: 2 * i, items) == [2 * i for i in items]
    assert openfhe_threads.few(lambda i: 2 * i, items[:3]) == [0, 2, 4]
