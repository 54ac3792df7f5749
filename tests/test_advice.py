"""Where an error target is missed the warning says which activation, and what would change it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp

from hec.compiler.calibration import Calibration
from hec.compiler.errors import HecWarning
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Array, Input, Linear, Output, TensorGraph
from hec.passes.advice import advice
from hec.passes.approximate_activations import approximate_activations
from hec.passes.refresh_activations import refresh_activations
from hec.passes.stand_in import stand_in
from hec.passes.trials import Trials

NUMBER = r"(-?[0-9.e-]+)"


def network(function: Function, heavy: bool = False, outputs: int = 3) -> TensorGraph:
    """Return a layer that the outputs read a thousandth of, and beside it one that they read."""
    random = np.random.default_rng(0)
    shape = (1, 6)
    weights = sp.csr_array(random.normal(size=(6, 6)))
    last = sp.csr_array(random.normal(size=(outputs, 6)))
    return TensorGraph(
        (
            Input("x", shape),
            Linear((0,), (weights,), np.zeros(6), shape),
            Activation(1, function, shape, ("small",)),
            Activation(0, function, shape, ("large", "norm")),
            Linear((2, 3), (1e-3 * last, last), np.zeros(outputs), (1, outputs)),
        ),
        (Output("y", 4),),
    )


def samples(heavy: bool) -> dict[str, Array]:
    random = np.random.default_rng(1)
    values = random.standard_t(3, (400, 6)) if heavy else random.uniform(-3, 3, (400, 6))
    return {"x": values}


def told(function: Function, heavy: bool, degree: int = 7) -> str:
    graph = network(function)
    trials = Trials(graph, Calibration(samples(heavy), margin=1.1), stand_in)
    return advice(trials, trials.trial({2: degree, 3: degree}))


def test_the_worst_layer_is_named_with_its_range_and_its_share() -> None:
    text = told(Function("relu"), heavy=False)
    found = re.match(rf"'large \+ norm' \(relu on \[{NUMBER}, {NUMBER}\]\) alone changes them by "
                     rf"{NUMBER}", text)  # fmt: skip
    assert found is not None, text
    low, high, share = map(float, found.groups())
    assert low < -2.9 and 2.9 < high
    graph, seen = network(Function("relu")), samples(heavy=False)
    after = approximate_activations(graph, Target(degree=7), Calibration(seen, margin=1.1))
    exact, fitted = evaluate(graph, seen)[-1], evaluate(after, seen)[-1]
    error = float(np.sqrt(np.mean((fitted - exact) ** 2) / np.mean(exact**2)))
    assert share == pytest.approx(error, rel=0.15)


def test_a_narrower_range_is_told_where_few_values_make_it_wide() -> None:
    heavy, flat = told(Function("relu"), heavy=True), told(Function("relu"), heavy=False)
    assert "kept in" not in flat
    found = re.search(rf"alone changes them by {NUMBER}; with its inputs kept in \[{NUMBER}, "
                      rf"{NUMBER}\], where 99 % of them are, by {NUMBER}", heavy)  # fmt: skip
    assert found is not None, heavy
    harm, low, high, narrow = map(float, found.groups())
    quantiles = np.quantile(samples(heavy=True)["x"], (0.005, 0.995))
    np.testing.assert_allclose((low, high), quantiles, rtol=0.3)
    clipped = {"x": np.clip(samples(heavy=True)["x"], low, high)}
    trials = Trials(network(Function("relu")), Calibration(clipped, margin=1.1), stand_in)
    assert narrow < 0.8 * harm
    assert trials.error(trials.trial({2: 7, 3: 7})) == pytest.approx(narrow, rel=0.5)


def test_a_smooth_function_is_told_where_it_is_fitted_better() -> None:
    found = re.search(rf"by {NUMBER}; with silu in its place, by {NUMBER}$",
                      told(Function("relu"), heavy=False))  # fmt: skip
    assert found is not None
    assert float(found[2]) < 0.2 * float(found[1])
    assert "in its place" not in told(Function("silu"), heavy=False)


def test_without_samples_only_the_layer_is_known() -> None:
    trials = Trials(network(Function("relu")), Calibration(None, (-2.0, 2.0)), stand_in)
    text = advice(trials, trials.trial({2: 7, 3: 7}))
    assert re.fullmatch(rf"'large \+ norm' \(relu on \[-2, 2\]\) alone changes them by {NUMBER}",
                        text)  # fmt: skip


def test_a_missed_error_is_told_in_three_parts() -> None:
    calibration = Calibration(samples(heavy=False), margin=1.1)
    for fitted, degree in ((approximate_activations, 31), (refresh_activations, 63)):
        with pytest.warns(HecWarning) as caught:
            fitted(network(Function("relu")), Target(max_error=1e-7), calibration)
        lines = str(caught[0].message).splitlines()
        problem = rf"fitted activations change the outputs by {NUMBER} of their root mean square, "
        assert re.fullmatch(problem + "more than the 1e-07 asked for", lines[0])
        assert lines[1] == f"  --> 2 activations, of degree {degree} at most"
        start = "  help: raise --max-error, calibrate on more samples, or fine-tune: 'large + norm'"
        assert lines[2].startswith(start)


def test_a_missed_agreement_is_told_in_three_parts() -> None:
    calibration = Calibration(samples(heavy=True), margin=1.1)
    with pytest.warns(HecWarning) as caught:
        approximate_activations(network(Function("relu")), Target(min_agreement=1.0), calibration)
    lines = str(caught[0].message).splitlines()
    assert re.fullmatch(rf"fitted activations change the top-1 of {NUMBER} % of the samples, "
                        r"more than the 0 % allowed", lines[0])  # fmt: skip
    assert lines[1] == "  --> 2 activations, of degree 31 at most"
    start = "  help: lower --min-agreement, calibrate on more samples, or fine-tune: 'large + norm'"
    assert lines[2].startswith(start)
