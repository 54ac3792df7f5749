"""ReLU6 and its like: told from ReLU, and fitted as whichever comes closer on the samples."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler.calibration import Calibration, Range
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Array, Bootstrap, Input, Output, TensorGraph
from hec.passes.intervals import homogeneity
from hec.passes.near_zero import closest, relu_near_zero
from hec.passes.refresh_activations import refresh_activations
from hec.passes.series_stand_in import series_stand_in
from hec.passes.stand_in import stand_in
from hec.passes.trials import Maker

RELU6 = Function("clip", (0.0, 6.0))
SHAPE = (1, 2, 8)


@pytest.mark.parametrize(
    ("function", "largest", "near"),
    [
        (RELU6, 20.0, Function("relu")),
        (RELU6, 200.0, None),  # a twentieth of it is beyond 6
        (Function("clip", (-1.0, 1.0)), 5.0, Function("leaky_relu", (1.0,))),
        (Function("relu"), 5.0, None),  # it is one
        (Function("leaky_relu", (0.1,)), 5.0, None),
        (Function("silu"), 5.0, None),
        (Function("hard_sigmoid", (1 / 6, 0.5)), 5.0, None),
        (RELU6, 0.0, None),
    ],
)
def test_what_a_function_is_near_zero(
    function: Function, largest: float, near: Function | None
) -> None:
    assert relu_near_zero(function, largest) == near


def test_relu6_is_not_homogeneous_and_relu_is() -> None:
    assert homogeneity(RELU6) is None
    assert homogeneity(Function("relu")) == 1


def inputs(factors: tuple[float, float]) -> Array:
    """Return samples whose two channels have a deviation of one times each factor."""
    normal = np.random.default_rng(0).standard_normal((400, 2, 8))
    return np.asarray((normal * np.array(factors)[:, None]).reshape(400, -1), np.float64)


def error(make: Maker, x: Array, function: Function) -> float:
    seen = Range(x.min(axis=0), x.max(axis=0), x)
    made = make(Activation(0, function, SHAPE), seen, RELU6(x), 15, 1.0)
    wanted, found = (values.reshape(-1, 2, 8) for values in (RELU6(x), made.values(x)))
    shares = np.square(found - wanted).mean(axis=(0, 2)) / np.square(wanted).mean(axis=(0, 2))
    return float(shares.mean())  # for layers to come may make small channels as large as others


@pytest.mark.parametrize("make", [series_stand_in, stand_in])
@pytest.mark.parametrize(("factors", "is_relu"), [((0.1, 1.5), True), ((6.0, 6.0), False)])
def test_the_closer_of_the_two_is_taken(
    make: Maker, factors: tuple[float, float], is_relu: bool
) -> None:
    x = inputs(factors)
    own, relu = error(make, x, RELU6), error(make, x, Function("relu"))
    assert (relu < own) == is_relu
    assert error(closest(make), x, RELU6) == min(own, relu)


def test_the_record_keeps_the_name_of_the_function() -> None:
    before = TensorGraph((Input("x", SHAPE), Activation(0, RELU6, SHAPE)), (Output("y", 1),))
    samples = {"x": inputs((0.1, 1.5))}
    after = refresh_activations(before, Target(degree=15), Calibration(samples))
    fits = [x.fit for x in after.operations if isinstance(x, Bootstrap)]
    assert [fit.function for fit in fits if fit] == ["clip(0, 6)"]
