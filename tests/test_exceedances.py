"""`hec check` counts the samples that left the interval of each fitted activation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto

import bootstrap_plans
import hec
from hec.compiler import cli_check
from hec.compiler.check import ActivationCheck, CheckData, check
from hec.compiler.clear_model import ClearModel
from hec.compiler.errors import CompileError
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanFit
from hec.compiler.tensor_ir import Fit
from hec.runtime.simulate import run_clear, run_simulated
from onnx_oracle import network, node
from sample_plans import deep_program, plan_of

RANDOM = np.random.default_rng(8)
WEIGHTS = {"w1": RANDOM.normal(size=(6, 5)).astype(np.float32), "w2": np.eye(5, dtype=np.float32)}


def model(function: str) -> ModelProto:
    nodes = [node("MatMul", "x,w1", "a"), node(function, "a", "b"), node("MatMul", "b,w2", "y")]
    return network(nodes, {"x": (1, 6)}, WEIGHTS)


def samples(count: int, scale: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return scale * np.random.default_rng(9).normal(size=(count, 1, 6)).astype(np.float32)


@pytest.mark.parametrize("degree", [3, 7])
def test_samples_outside_are_those_of_the_clear_activation(degree: int) -> None:
    """Forty samples are too few for intervals of their own: all elements share one."""
    plan = hec.compile(model("Tanh"), samples(40), hec.Target(degree=degree, backend="tenseal"))
    (item,) = plan.server.fits
    low, high = item.fit.interval
    far = samples(300, 5.0)
    entering = far[:, 0] @ WEIGHTS["w1"]
    outside = int(((entering < low) | (entering > high)).any(axis=1).sum())
    assert item.fit.bounded is not None
    low, high = item.fit.bounded
    unbounded = int(((entering < low) | (entering > high)).any(axis=1).sum())
    assert 0 < unbounded < outside < 300
    assert run_clear(plan, far).exceedances == ((outside, unbounded),)
    found = run_simulated(plan, far).exceedances[0]
    assert found == pytest.approx((outside, unbounded), abs=1)  # the noise may push one across
    assert run_clear(plan, samples(40)).exceedances == ((0, 0),)


def test_squares_count_what_is_larger_than_in_calibration() -> None:
    plan = hec.compile(model("Relu"), samples(400), hec.Target(degree=2, backend="tenseal"))
    assert run_clear(plan, samples(400)).exceedances == ((0, 0),)
    outside, unbounded = run_clear(plan, samples(400, 3.0)).exceedances[0] or (0, 0)
    assert 0 < unbounded < outside < 400


def test_check_tells_each_activation() -> None:
    target = hec.Target(degree=7, backend="tenseal")
    plan = hec.compile(model("Tanh"), samples(40), target)
    found = check(plan, ClearModel.of_plan(plan), CheckData(samples(100, 5.0)))
    (told,) = found.activations
    fit = plan.server.fits[0].fit
    assert (told.function, told.interval, told.bounded) == ("tanh", fit.interval, fit.bounded)
    assert told.outside is not None and told.unbounded is not None
    assert 0 < told.unbounded < told.outside < 100
    told = replace(told, nodes="act", interval=(-1.0, 2.0), bounded=(-1.6, 3.2004))
    row = ("act", "tanh", "[-1, 2]", str(told.outside), "[-1.6, 3.2]", str(told.unbounded))
    assert cli_check._activations(replace(found, activations=(told,))) == [row]
    unknown = ActivationCheck("act", "relu", (0.0, 1.0), None, None, None)
    row = ("act", "relu", "[0, 1]", "-", "-", "-")
    assert cli_check._activations(replace(found, activations=(unknown,))) == [row]


FIT = Fit("relu", 15, (-2.0, 2.0), (-1.5, 1.5), 0.01, bounded=(-3.2, 3.2))


def refreshing(used: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Plan:
    plan = plan_of(bootstrap_plans.refreshing_program(bootstrap_plans.parameters(15)))
    fits = (PlanFit("relu1", FIT, 0, used, 0.5), PlanFit("relu2", FIT))
    return Plan(plan.client, replace(plan.server, fits=fits))


def test_only_slots_that_hold_elements_count_and_an_unknown_value_is_not_counted() -> None:
    chosen = bootstrap_plans.parameters(15)
    used = np.zeros((1, chosen.slots), np.uint8)
    used[0, :4] = 1
    x = np.full((5, 8), 0.2)
    x[1, 2], x[2, 3], x[3, 6], x[4, 0] = 0.6, -0.9, 0.9, 0.79
    assert run_clear(refreshing(used), x).exceedances == ((3, 1), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 12}, "there is no value 12"),
        ({"value": -1}, "there is no value -1"),
        ({"used": np.ones((1, 4096), np.uint8)}, "its slots are not those of its value"),
        ({"radius": 0.0}, "the radius of an interval is not positive"),
        ({"fit": replace(FIT, bounded=(1.0, -1.0))}, "an interval is upside down"),
        ({"fit": replace(FIT, interval=(1.0, -1.0))}, "an interval is upside down"),
        ({"fit": replace(FIT, observed=(1.0, -1.0))}, "an interval is upside down"),
    ],
)
def test_a_fit_that_does_not_suit_its_program_is_refused(
    change: dict[str, object], message: str
) -> None:
    plan = plan_of(deep_program())
    item = PlanFit("tanh", FIT, 5, np.ones((2, 4096), np.uint8), 0.8)
    assert Plan.of(plan.client, replace(plan.server, fits=(item,))).server.fits == (item,)
    changed = replace(item, **change)  # type: ignore[arg-type]
    with pytest.raises(CompileError) as caught:
        Plan.of(plan.client, replace(plan.server, fits=(changed,)))
    assert f"The file is damaged: {message}" in str(caught.value)
    assert "the new plan: fit of 'tanh'" in str(caught.value)
