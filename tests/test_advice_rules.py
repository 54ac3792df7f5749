"""What advice passes over, compares and keeps: its rules alone, with nothing compiled."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hec.compiler import advice as module
from hec.compiler.alternative import Alternative, Kind
from hec.compiler.alternatives import Change
from hec.compiler.calibration import Calibration
from hec.compiler.errors import HecWarning, fail
from hec.compiler.target import Target
from small_graphs import SEEN, X, affine, graph

TARGET = Target(backend="tenseal", maxpool="approximate")
FOUND = Alternative(
    "replace MaxPool by AveragePool", "model", "tenseal", -14, 0, 1.5, 3.1, 10**9, 2.0, 256, 0.994,
    0.991, 0.05, 0.06,
)  # fmt: skip


def test_a_network_whose_values_grow_out_of_bounds_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def grown(factor: float, kind: Kind = "model", seen: object = SEEN) -> Change:
        network = graph(X, affine(0, factor * np.eye(2)), affine(1, factor * np.eye(2)))
        return Change("grow", kind, network, TARGET, Calibration(seen))  # type: ignore[arg-type]

    compiled: list[Change] = []

    def tried(change: Change) -> list[Change]:
        made = SimpleNamespace(chosen=None, libraries=None)
        monkeypatch.setattr(module, "changes", lambda made: [change])
        monkeypatch.setattr(module, "_Measure", lambda made: SimpleNamespace(costs=lambda x: None))
        monkeypatch.setattr(module, "_compiled", lambda change, known: compiled.append(change))
        monkeypatch.setattr(module, "_is_gain", lambda found: False)
        monkeypatch.setattr(module, "_compared", lambda *arguments: None)
        compiled.clear()
        assert module.advice_on(made) == ()  # type: ignore[arg-type]
        return compiled

    assert not tried(grown(1e20)) and not tried(grown(np.nan)) and not tried(grown(1e200))
    for change in (grown(1e10), grown(1e20, "option"), grown(1e20, seen=None)):
        assert tried(change) == [change]


def test_what_fails_is_passed_over_and_what_is_late_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = graph(X, affine(0, np.eye(2)))
    wanted = [Change(f"change {i}", "option", network, TARGET, Calibration(SEEN)) for i in range(5)]
    clock, told = iter((100.0, 100.0, 120.0, 140.0, 150.1)), list[tuple[str, int, int]]()

    def compiled(change: Change, known: object) -> Change:
        if change is wanted[0]:
            raise fail("it cannot be run", "here", "change it")
        if change is wanted[1]:
            raise np.linalg.LinAlgError
        return change

    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module, "changes", lambda made: wanted)
    monkeypatch.setattr(module, "_Measure", lambda made: SimpleNamespace(costs=lambda x: None))
    monkeypatch.setattr(module, "_compiled", compiled)
    monkeypatch.setattr(
        module, "_compared", lambda change, *rest: replace(FOUND, change=change.what)
    )
    made = SimpleNamespace(chosen=None, libraries=None, imported=SimpleNamespace(name="a.onnx"))
    with pytest.warns(HecWarning) as warned:
        found = module.advice_on(made, lambda *each: told.append(each), 50.0)  # type: ignore[arg-type]
    assert [each.change for each in found] == ["change 2"]
    assert told == [("change 0", 0, 5), ("change 1", 1, 5), ("change 2", 2, 5)]
    assert [str(x.message) for x in warned] == [
        "time was up after 50 s: 2 of 5 changes were not tried\n"
        "  --> a.onnx\n"
        "  help: compile on an idle machine, or with fewer calibration samples"
    ]


def test_costs_are_compared_with_those_before() -> None:
    change = Change("it", "data", graph(X), TARGET, Calibration(SEEN))
    before = module._Costs(10, 3, 6.0, 4000, 256, 0.99, 0.05)
    after = module._Costs(7, 1, 2.0, 1000, 256, 0.98, 0.06)
    chosen = SimpleNamespace(backend="openfhe")
    assert module._compared(change, chosen, before, after) == Alternative(  # type: ignore[arg-type]
        "it", "data", "openfhe", -3, -2, 2.0, 3.0, 1000, 4.0, 256, 0.99, 0.98, 0.05, 0.06
    )


def test_outputs_are_compared_in_their_own_units() -> None:
    network = graph(X, affine(0, np.eye(2)))
    scaled = replace(network, outputs=(replace(network.outputs[0], factor=4.0),))
    (found,) = module._outputs(scaled, SEEN)
    np.testing.assert_array_equal(found, 4 * SEEN["x"])


def test_what_another_change_beats_is_left_out() -> None:
    faster = replace(FOUND, change="another", seconds_ratio=3.5)
    assert module._is_better(faster, FOUND)
    assert not module._is_better(FOUND, faster)
    assert not module._is_better(replace(faster, kind="option"), FOUND)
    assert not module._is_better(replace(faster, agreement_after=0.98), FOUND)
    assert not module._is_better(replace(faster, memory_ratio=1.0), FOUND)
    assert not module._is_better(FOUND, FOUND)
    assert module._is_better(replace(FOUND, agreement_after=0.995), FOUND)
    untrained = replace(faster, agreement_before=1.0, agreement_after=0.97)
    tuned = replace(FOUND, agreement_before=0.98, agreement_after=0.97)
    assert untrained.needs_tuning and not tuned.needs_tuning
    assert not module._is_better(untrained, tuned)
    unclassed = replace(FOUND, agreement_before=None, agreement_after=None)
    assert module._is_better(replace(unclassed, error_after=0.01), unclassed)


def test_an_option_must_not_cost_the_agreement() -> None:
    lost = replace(FOUND, agreement_after=0.9)
    assert module._is_gain(lost)
    assert not module._is_gain(replace(lost, kind="option"))
    assert not module._is_gain(replace(FOUND, seconds_ratio=1.0, memory_ratio=1.0))
    assert module._is_gain(replace(FOUND, seconds_ratio=1.0))  # it takes less memory
    assert module._is_gain(replace(FOUND, memory_ratio=1.0))  # it is faster
    slower = replace(FOUND, seconds_ratio=0.8, memory_ratio=1.0, agreement_after=1.0)
    assert module._is_gain(slower)  # it is more exact
