"""Rotations on OpenFHE: by keys of their own, or, with the keys of a bootstrap, composed of them.

The ring of the plan with bootstraps is insecure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fhe_sessions import STEPS, Session, leveled_part, refreshing_part
from hec.compiler.errors import CompileError
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.rotation_routes import route
from hec.runtime.openfhe_backend import OpenfheBackend
from hec.runtime.openfhe_keys import EvaluationKeys

pytestmark = [pytest.mark.openfhe, pytest.mark.encrypted]

Array = NDArray[np.float64]
SCALE = 2.0**36
TOLERANCE = 1e-5  # a rotation's error has a peak in the first slots: 2e-6 of deviation
COMPOSED = (17, 100, 129, 255, 300, 511)  # without keys of their own in 512 slots


@pytest.fixture(scope="module")
def leveled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    yield Session(leveled_part(), tmp_path_factory.mktemp("leveled"))


@pytest.fixture(scope="module")
def refreshing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    yield Session(refreshing_part(), tmp_path_factory.mktemp("refreshing"))


class Recorder:
    """OpenFHE's context, and the rotations that it was asked for."""

    def __init__(self, fhe: Any) -> None:
        self._fhe = fhe
        self.steps: list[int] = []
        self.hoisted: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fhe, name)

    def EvalRotate(self, x: Any, step: int) -> Any:  # noqa: N802
        self.steps.append(step)
        return self._fhe.EvalRotate(x, step)

    def EvalFastRotation(self, x: Any, step: int, *others: Any) -> Any:  # noqa: N802
        self.hoisted.append(step)
        return self._fhe.EvalFastRotation(x, step, *others)


def close(session: Session, x: object, values: Array, steps: int) -> None:
    assert (session.backend.level(x), session.backend.scale(x)) == (1, SCALE)
    expected = np.roll(values, -steps)
    np.testing.assert_allclose(session.decrypted(x), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("steps", [0, 1, 5, -3, 4093, 4096, 4097])
def test_a_rotation_turns_left(steps: int, leveled: Session) -> None:
    values, x = leveled.fresh(1, SCALE)
    close(leveled, leveled.backend.rotate(x, steps), values, steps)


@pytest.mark.parametrize("steps", [0, 1, -1, 16, *COMPOSED, 512, 529])
def test_the_keys_of_a_bootstrap_compose_to_any_rotation(steps: int, refreshing: Session) -> None:
    values, x = refreshing.fresh(1, SCALE)
    close(refreshing, refreshing.backend.rotate(x, steps), values, steps)


def test_a_rotation_takes_the_fewest_keys(
    refreshing: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, x = refreshing.backend, refreshing.fresh(1, SCALE)[1]
    for steps in (1, *COMPOSED):
        recorder = Recorder(refreshing.context.fhe)
        monkeypatch.setattr(backend, "_fhe", recorder)
        backend.rotate(x, steps)
        assert tuple(recorder.steps) == route(steps, backend.keys.rotations, 512)
        assert recorder.hoisted == []


@pytest.mark.parametrize("steps", [(1, 5, 4093), (5, 5, 0, -3), (), (0,)])
def test_rotations_together_are_those_one_by_one(steps: tuple[int, ...], leveled: Session) -> None:
    values, x = leveled.fresh(1, SCALE)
    rotated = leveled.backend.rotate_each(x, steps)
    assert len(rotated) == len(steps)
    for y, step in zip(rotated, steps, strict=True):
        close(leveled, y, values, step)


def test_composed_rotations_together_are_those_one_by_one(refreshing: Session) -> None:
    values, x = refreshing.fresh(1, SCALE)
    steps = (*COMPOSED, 0, 1, 2, 16, -1)
    for y, step in zip(refreshing.backend.rotate_each(x, steps), steps, strict=True):
        close(refreshing, y, values, step)


def test_rotations_on_the_way_to_others_are_made_once_and_share_a_decomposition(
    refreshing: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, x = refreshing.backend, refreshing.fresh(1, SCALE)[1]
    keys = {step: route(step, backend.keys.rotations, 512) for step in COMPOSED}
    ways = {keys[step][: length + 1] for step in COMPOSED for length in range(len(keys[step]))}
    recorder = Recorder(refreshing.context.fhe)
    monkeypatch.setattr(backend, "_fhe", recorder)
    backend.rotate_each(x, COMPOSED)
    assert len(recorder.steps) + len(recorder.hoisted) == len({sum(way) % 512 for way in ways})
    assert len(recorder.hoisted) > 0


def test_without_bootstraps_a_rotation_takes_exactly_the_key_of_its_step(leveled: Session) -> None:
    x = leveled.fresh(1)[1]
    for rotate in (leveled.backend.rotate, lambda x, step: leveled.backend.rotate_each(x, (step,))):
        with pytest.raises(CompileError) as caught:
            rotate(x, 6)  # 1 + 5 would do, at twice the time
        assert str(caught.value) == (
            "The evaluation keys have no key for a rotation by 6 slots\n"
            "  help: make the keys again with this plan: they hold exactly the keys that it needs"
        )


def test_a_rotation_that_no_keys_compose_to_is_refused(refreshing: Session) -> None:
    few = OpenfheBackend(refreshing.context, EvaluationKeys("nobody", frozenset({4}), True))
    with pytest.raises(CompileError) as caught:
        few.rotate_each(refreshing.fresh(1)[1], (4, 3))
    assert str(caught.value) == (
        "The evaluation keys have no key for a rotation by 3 slots\n"
        "  help: make the keys again with this plan: they hold exactly the keys that it needs"
    )


def test_the_keys_are_exactly_those_of_the_manifest(leveled: Session) -> None:
    assert leveled.backend.has_exactly(KeyManifest(STEPS, True))
    for steps, products in ((STEPS[:-1], True), ((*STEPS, 4095), True), (STEPS, False)):
        assert not leveled.backend.has_exactly(KeyManifest(steps, products))


def test_a_bootstrap_needs_its_own_keys_and_one_for_products(refreshing: Session) -> None:
    keys = refreshing.backend.keys
    assert refreshing.backend.has_exactly(refreshing.part.keys)
    for other in (
        EvaluationKeys(keys.tag, keys.rotations, False),
        EvaluationKeys("nobody", keys.rotations, True),
    ):
        assert not OpenfheBackend(refreshing.context, other).has_exactly(refreshing.part.keys)
