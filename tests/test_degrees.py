"""Degrees: sensitivities are measured, prices follow levels, and the cheapest that will do win."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import pytest
import scipy.sparse as sp

import hec
from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.goals import tells_class
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    EpilogueStep,
    Input,
    Linear,
    Multiply,
    Output,
    Polynomial,
    TensorGraph,
)
from hec.passes import degrees as degrees_module
from hec.passes.approximate_activations import DEGREES, _choices, approximate_activations
from hec.passes.degrees import Choices, cheapest
from hec.passes.prices import Prices, series_levels, series_seconds
from hec.passes.refresh_activations import refresh_activations
from hec.passes.sensitivities import output_error, sensitivity
from hec.passes.stand_in import stand_in
from hec.passes.trials import Limits, Trials
from onnx_oracle import network as onnx_network
from onnx_oracle import node

RELU = Function("relu")
WIDTH = 8


def chain(layers: int, outputs: int = 5, seed: int = 3) -> tuple[TensorGraph, dict[str, Array]]:
    """Return dense layers with ReLU, one after the other, and samples."""
    random = np.random.default_rng(seed)
    operations: list[Input | Linear | Activation] = [Input("x", (1, WIDTH))]
    for layer in range(layers):
        last = len(operations) - 1
        matrix = sp.csr_array(random.normal(size=(WIDTH, WIDTH)) / 2)
        operations.append(Linear((last,), (matrix,), random.normal(size=WIDTH) / 4, (1, WIDTH)))
        operations.append(Activation(last + 1, RELU, (1, WIDTH), (f"act{layer}",)))
    final = sp.csr_array(random.normal(size=(outputs, WIDTH)))
    last = len(operations) - 1
    operations.append(Linear((last,), (final,), np.zeros(outputs), (1, outputs)))
    samples = {"x": random.normal(size=(300, WIDTH))}
    return TensorGraph(tuple(operations), (Output("y", len(operations) - 1),)), samples


def layers_of(graph: TensorGraph) -> list[int]:
    return [i for i, op in enumerate(graph.operations) if isinstance(op, Activation)]


def searched(limits: Limits, layers: int = 3) -> tuple[Trials, Choices]:
    graph, samples = chain(layers)
    search = Trials(graph, Calibration(samples, margin=1.1), stand_in, limits)
    return search, _choices(search, layers_of(graph), Prices(graph, Target()))


# sensitivities


def test_a_sensitivity_is_the_error_of_the_outputs_for_an_error_of_one_layer() -> None:
    graph, samples = chain(2)
    exact = evaluate(graph, samples)
    noise = 1e-3 * np.random.default_rng(0).normal(size=exact[2].shape)
    found = sensitivity(graph, exact, 2, exact[2] + noise)
    hidden = np.maximum((exact[2] + noise) @ graph.operations[3].matrices[0].T.toarray()  # type: ignore[union-attr]
                        + graph.operations[3].bias, 0)  # type: ignore[union-attr]  # fmt: skip
    outputs = hidden @ graph.operations[5].matrices[0].T.toarray()  # type: ignore[union-attr]
    error = np.sqrt(np.mean((outputs - exact[5]) ** 2) / np.mean(exact[5] ** 2))
    assert found.output_error == pytest.approx(error, rel=1e-9)
    assert found.fit_error == pytest.approx(np.sqrt(np.mean(noise**2)))
    assert found.ratio == pytest.approx(error / found.fit_error)


def test_a_layer_that_no_output_reads_has_no_sensitivity() -> None:
    graph, samples = chain(1)
    aside = Activation(1, RELU, (1, WIDTH))
    graph = TensorGraph((*graph.operations, aside), graph.outputs)
    exact = evaluate(graph, samples)
    found = sensitivity(graph, exact, len(graph.operations) - 1, exact[-1] + 1)
    assert (found.fit_error, found.output_error, found.ratio) == (1.0, 0.0, 0.0)
    nothing = sensitivity(graph, exact, 2, exact[2])
    assert nothing.ratio == 0.0


def test_an_output_that_is_no_number_any_more_is_infinitely_wrong() -> None:
    ones = {0: np.ones((2, 2))}
    assert output_error({0: np.full((2, 2), np.nan)}, ones, [0]) == np.inf
    assert output_error({0: 1.5 * np.ones((2, 2))}, ones, [0]) == 0.5


def test_predicted_errors_are_about_those_of_the_whole_network() -> None:
    search, choices = searched(Limits())
    for degree in (3, 7, 15):
        degrees = dict.fromkeys(choices.ladders, degree)
        degrees = {i: d if d in choices.ladders[i] else 4 for i, d in degrees.items()}
        measured = search.error(search.trial(degrees))
        assert 0.5 < choices.error(degrees) / measured < 2


@pytest.mark.parametrize("degree", [7, 15])
def test_every_fit_records_its_own_share_of_the_error(degree: int) -> None:
    graph, samples = chain(2)
    target, calibration = Target(degree=degree), Calibration(samples, margin=1.1)
    for fitted in (approximate_activations, refresh_activations):
        after = fitted(graph, target, calibration)
        fits = [
            op.fit for op in after.operations if not isinstance(op, Input | Linear | Activation)
        ]
        shares = []
        for fit in fits:
            assert fit is not None
            assert fit.sensitivity is not None and fit.sensitivity > 0
            assert fit.at_outputs is not None
            shares.append(fit.at_outputs)
        exact, found = evaluate(graph, samples)[-1], evaluate(after, samples)[-1]
        error = float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))
        assert np.hypot(*shares) == pytest.approx(error, rel=0.5)


# prices


@pytest.mark.parametrize(
    ("degree", "levels"), [(1, 0), (2, 1), (3, 2), (4, 2), (7, 3), (8, 4), (15, 4), (31, 5)]
)
def test_a_square_takes_one_level_and_a_quartic_two(degree: int, levels: int) -> None:
    assert series_levels(degree) == levels
    assert (series_seconds(degree, 6, 16384) > 0) == (degree > 1)
    if levels:
        assert series_seconds(degree, levels, 16384) < series_seconds(degree, 6, 16384)
        assert series_seconds(degree, levels - 1, 16384) == np.inf


def test_a_level_saved_makes_the_layers_before_it_cheaper() -> None:
    graph, _ = chain(3)
    prices, (first, middle, last) = Prices(graph, Target()), layers_of(graph)
    high = {first: 7, middle: 7, last: 7}
    saved = {i: prices.seconds(high) - prices.seconds({**high, i: 3}) for i in high}
    alone = {i: series_seconds(7, level, 16384) for i, level in zip(high, (12, 8, 4), strict=True)}
    assert all(saved[i] > 0 for i in high)
    assert saved[last] > 1.5 * alone[last]
    assert saved[last] / alone[last] > 1.5 * saved[first] / alone[first]


def test_a_level_saved_beside_the_longest_path_saves_only_its_products() -> None:
    graph, _ = chain(2)
    operations = list(graph.operations)
    short = Activation(0, RELU, (1, WIDTH))
    operations[-1:] = [short, Multiply(4, 5, (1, WIDTH))]
    beside = TensorGraph(tuple(operations), (Output("y", 6),))
    prices = Prices(beside, Target())
    base = {2: 7, 4: 7, 5: 7}
    saved = prices.seconds(base) - prices.seconds({**base, 5: 3})
    assert 0 < saved < (prices.seconds(base) - prices.seconds({**base, 4: 3})) / 2


def test_the_layer_after_a_quartic_reads_its_square_and_its_argument_too() -> None:
    graph, _ = chain(1)
    prices = Prices(graph, Target())
    matrix = prices.seconds({2: 4}) - series_seconds(4, 3, 8192)
    assert prices._switches[3] > 0
    assert matrix > prices.seconds({2: 3}) - series_seconds(3, 3, 8192)


def test_products_and_polynomials_of_the_network_have_prices() -> None:
    x = Input("x", (1, 4))
    square = TensorGraph((x, Multiply(0, 0, (1, 4))), (Output("y", 1),))
    cubic = Polynomial(0, np.ones(4), "power", (1, 4))
    for graph, degree in ((square, 2), (TensorGraph((x, cubic), (Output("y", 1),)), 3)):
        seconds = Prices(graph, Target()).seconds({})
        ring = 4096 if degree == 2 else 8192
        assert seconds == series_seconds(degree, series_levels(degree), ring)


def test_more_levels_than_a_ring_holds_take_the_next_ring() -> None:
    graph, _ = chain(3)
    prices, layers = Prices(graph, Target()), layers_of(graph)
    lower = prices.seconds(dict.fromkeys(layers, 7))  # 12 levels with those of the matrices, 13
    higher = prices.seconds({**dict.fromkeys(layers, 7), layers[0]: 15})
    rings = [prices._ring(levels) for levels in (5, 6, 11, 12, 21, 22)]
    assert rings == [8192, 16384, 16384, 32768, 32768, 65536]
    assert higher > lower
    assert Prices(graph, Target(security=256)).seconds({}) > 1.5 * prices.seconds({})
    most = dict.fromkeys(layers, 31)
    less = {**most, layers[0]: 15}
    assert prices.seconds(most) < 2 * prices.seconds(less)  # 19 levels
    deep, _ = chain(4)
    most = dict.fromkeys(layers_of(deep), 31)  # 25 levels
    assert Prices(deep, Target()).seconds(most) > 20 * prices.seconds(less)


# the search


@pytest.mark.parametrize("enumerated", [0, 5**5])
def test_a_front_gets_dearer_and_more_exact(
    enumerated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degrees_module, "ENUMERATED", enumerated)
    _, choices = searched(Limits())
    found = choices.front()
    assert found[0] == {layer: ladder[0] for layer, ladder in choices.ladders.items()}
    assert found[-1] == {layer: ladder[-1] for layer, ladder in choices.ladders.items()}
    for one, other in itertools.pairwise(found):
        assert choices.error(other) < choices.error(one)
        assert choices.prices.seconds(other) > choices.prices.seconds(one)
        if not enumerated:
            assert sum(one[layer] != other[layer] for layer in one) == 1


@pytest.mark.parametrize(("enumerated", "most"), [(0, 1.3), (5**5, 1.1)])
@pytest.mark.parametrize("limit", [0.3, 0.15, 0.08, 0.04])
def test_nothing_much_cheaper_would_do(
    limit: float, enumerated: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 125 choices of degrees are measured: the one that was found is among the best."""
    monkeypatch.setattr(degrees_module, "ENUMERATED", enumerated)
    search, choices = searched(Limits(error=limit))
    found = cheapest(search, choices)
    assert search.error(found) <= limit
    kept = [seconds for seconds, error in every_choice() if error <= limit]
    assert choices.prices.seconds(found.degrees) <= most * min(kept)


@lru_cache
def every_choice() -> list[tuple[float, float]]:
    """Return the predicted seconds and the measured error of all choices."""
    search, choices = searched(Limits())
    found, last = list[tuple[float, float]](), None
    for degrees in itertools.product(*choices.ladders.values()):
        last = search.trial(dict(zip(choices.ladders, degrees, strict=True)), last)
        found.append((choices.prices.seconds(last.degrees), search.error(last)))
    return found


def test_the_nearest_is_taken_where_none_will_do() -> None:
    search, choices = searched(Limits(error=1e-6), 2)
    found = cheapest(search, choices)
    assert set(found.degrees.values()) == {DEGREES[-1]}


def test_values_of_an_earlier_trial_are_taken_over() -> None:
    search, choices = searched(Limits())
    one = search.trial(dict.fromkeys(choices.ladders, 7))
    last = max(choices.ladders)
    changed = {**one.degrees, last: 15}
    fresh, taken = search.trial(changed), search.trial(changed, one)
    assert taken.excess == fresh.excess
    for left, right in zip(fresh.values, taken.values, strict=True):
        np.testing.assert_array_equal(left, right)
    assert taken.places == fresh.places and set(taken.made) == set(fresh.made)
    same = search.trial(one.degrees, one)
    assert same.excess == one.excess and len(same.rebuilt.operations) == len(one.rebuilt.operations)


# goals


@pytest.mark.parametrize(("agreement", "most"), [(0.7, 4), (0.9, 15), (0.97, 31)])
def test_agreement_on_the_samples_is_reached_and_not_much_more(agreement: float, most: int) -> None:
    graph, samples = chain(2)
    calibration = Calibration(samples, margin=1.1)
    after = approximate_activations(graph, Target(min_agreement=agreement), calibration)
    classes = [evaluate(of, samples)[-1].argmax(axis=1) for of in (graph, after)]
    assert (classes[0] == classes[1]).mean() >= agreement
    degrees = [op.fit.degree for op in after.operations if isinstance(op, Polynomial) and op.fit]
    assert max(degrees) <= most


def test_a_refreshing_network_reaches_an_agreement_too() -> None:
    graph, samples = chain(2)
    calibration = Calibration(samples, margin=1.1)
    found = []
    for agreement in (0.5, 0.98):
        after = refresh_activations(graph, Target(min_agreement=agreement), calibration)
        classes = [evaluate(of, samples)[-1].argmax(axis=1) for of in (graph, after)]
        assert (classes[0] == classes[1]).mean() >= agreement
        fits = [op.fit for op in after.operations if isinstance(op, Bootstrap) and op.fit]
        found.append(max(fit.degree for fit in fits))
    assert found[0] <= found[1]


def test_one_number_is_a_class_only_before_a_sigmoid() -> None:
    graph, samples = chain(1, outputs=1)
    (output,) = graph.outputs
    assert not tells_class(graph, output)
    binary = Output("y", output.operand, epilogue=(EpilogueStep("sigmoid"),))
    graph = TensorGraph(graph.operations, (binary,))
    assert tells_class(graph, binary)
    calibration = Calibration(samples, margin=1.1)
    after = approximate_activations(graph, Target(min_agreement=0.95), calibration)
    signs = [evaluate(of, samples)[-1] > 0 for of in (graph, after)]
    assert 0.95 <= (signs[0] == signs[1]).mean()


def regression() -> bytes:
    weights = {"w": np.ones((3, 1), np.float32)}
    nodes = [node("Tanh", "x", "a"), node("MatMul", "a,w", "y")]
    model: bytes = onnx_network(nodes, {"x": (1, 3)}, weights).SerializeToString()
    return model


def test_a_network_without_classes_cannot_agree() -> None:
    with pytest.raises(CompileError) as caught:
        hec.compile(regression(), np.zeros((4, 1, 3)), Target(min_agreement=0.99))
    assert str(caught.value) == (
        "no output tells a class, so that predictions cannot agree or disagree\n"
        "  --> net: outputs 'y'\n"
        "  help: use --max-error instead of --min-agreement"
    )


def test_an_agreement_needs_samples() -> None:
    with pytest.raises(CompileError) as caught:
        hec.compile(regression(), None, Target(min_agreement=0.99))
    assert str(caught.value) == (
        "an agreement is measured on samples, and there are none\n"
        "  --> --min-agreement 0.99\n"
        "  help: pass --calibration with a few hundred real inputs, or use --max-error"
    )
