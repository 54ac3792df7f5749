"""Calibration data is checked with full messages; ranges are right; fits are good and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.polynomial import chebyshev

from hec.compiler.approximation import TAIL, fit, grid, histogram
from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError, HecWarning
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Input,
    Linear,
    Multiply,
    Output,
    Polynomial,
    TensorGraph,
)
from hec.passes.approximate_activations import approximate_activations
from random_graphs import meaning

RELU = Function("relu")
ONE = TensorGraph((Input("x", (1, 2, 3)),), (Output("y", 0),))
TWO = TensorGraph((Input("a", (1, 2)), Input("b", (3,))), (Output("y", 0),))
RANDOM = np.random.default_rng(11)


def message(
    graph: TensorGraph, samples: Array | Mapping[str, Array], target: Target | None = None
) -> str:
    with pytest.raises(CompileError) as caught:
        Calibration.from_samples(graph, samples, target or Target(), "net.onnx")
    return str(caught.value)


# calibration data


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 1, 2, 3)])
def test_samples_may_have_the_batch_axis_or_not(shape: tuple[int, ...]) -> None:
    data = np.arange(30, dtype=np.uint8).reshape(shape)
    calibration = Calibration.from_samples(ONE, data, Target(), "net.onnx")
    assert calibration.samples is not None
    np.testing.assert_array_equal(calibration.samples["x"], np.arange(30.0).reshape(5, 6))
    assert calibration.margin == Target().range_margin


def test_wrong_shape_lists_expected_and_found() -> None:
    assert message(ONE, np.zeros((5, 6))) == (
        "calibration data has shape (5, 6)\n"
        "  --> net.onnx: input 'x' of shape (1, 2, 3)\n"
        "  help: give an array of shape (samples, 1, 2, 3) or (samples, 2, 3)"
    )


def test_all_wrong_inputs_are_listed() -> None:
    data = {"a": np.zeros(4), "b": np.full((4, 3), np.nan)}
    assert message(TWO, data) == (
        "calibration data has shape (4,)\n"
        "  --> net.onnx: input 'a' of shape (1, 2)\n"
        "  help: give an array of shape (samples, 1, 2) or (samples, 2)\n"
        "calibration data has 4 samples with NaN or infinity, first 0\n"
        "  --> net.onnx: input 'b' of shape (3,)\n"
        "  help: remove or repair these samples"
    )


def test_names_must_match() -> None:
    assert message(TWO, {"a": np.zeros((4, 2)), "c": np.zeros((4, 3))}) == (
        "calibration data is for inputs 'a', 'c', not 'a', 'b'\n"
        "  --> net.onnx\n"
        "  help: give one array for each input of the model, under its name"
    )


def test_one_array_serves_one_input() -> None:
    assert message(TWO, np.zeros((4, 2))) == (
        "calibration data is one array, but the model has 2 inputs\n"
        "  --> net.onnx: inputs 'a', 'b'\n"
        "  help: give one array for each input of the model, under its name"
    )


def test_counts_must_agree() -> None:
    assert message(TWO, {"a": np.zeros((4, 2)), "b": np.zeros((5, 3))}) == (
        "calibration data has different numbers of samples: 'a' has 4, 'b' has 5\n"
        "  --> net.onnx\n"
        "  help: give the same number of samples for each input"
    )


def test_type_must_be_real() -> None:
    assert message(ONE, np.array(["zero"])) == (
        "calibration data has type <U4\n"
        "  --> net.onnx: input 'x' of shape (1, 2, 3)\n"
        "  help: convert it to an array of real numbers"
    )


def test_there_must_be_samples() -> None:
    assert message(ONE, np.zeros((0, 2, 3))) == (
        "calibration data has no samples\n"
        "  --> net.onnx: input 'x' of shape (1, 2, 3)\n"
        "  help: give at least one sample"
    )


def test_no_samples_warns_what_it_costs() -> None:
    with pytest.warns(HecWarning) as caught:
        calibration = Calibration.from_samples(ONE, None, Target(input_range=(0, 2)), "net.onnx")
    assert str(caught[0].message) == (
        "no calibration data: all ranges are worst cases, which costs precision, and fitted "
        "activations get higher degrees\n"
        "  --> net.onnx: inputs assumed to lie in [0, 2]\n"
        "  help: pass --calibration with a few hundred real inputs"
    )
    assert calibration.ranges(ONE)[0].interval() == (0.0, 2.0)


def test_input_range_must_be_an_interval() -> None:
    with pytest.raises(CompileError) as caught:
        Calibration.from_samples(ONE, None, Target(input_range=(1, 1)), "net.onnx")
    assert str(caught.value) == (
        "the input range (1, 1) is not an interval\n"
        "  --> net.onnx\n"
        "  help: give a finite lower end, then a larger upper end"
    )


def test_large_graphs_use_fewer_samples_spread_over_all() -> None:
    large = TensorGraph((Input("x", (1, 600_000)),), ())
    data = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 600_000))
    calibration = Calibration.from_samples(large, data, Target(), "net.onnx")
    assert calibration.samples is not None
    first = calibration.samples["x"][:, 0]
    assert (len(first), first[0], first[-1]) == (80, 0.0, 199.0)


# ranges


def test_sound_ranges_are_tight_where_interval_arithmetic_is_exact() -> None:
    matrix = sp.csr_array(np.array([[1.0, -2.0], [0.0, 3.0]]))
    graph = TensorGraph(
        (
            Input("x", (2,), divisor=2.0),
            Linear((0,), (matrix,), np.array([1.0, 0.0]), (2,)),
            Multiply(1, 1, (2,)),
            Activation(1, RELU, (2,)),
            Polynomial(1, np.array([0.0, 0.0, 1.0]), "power", (2,)),
        ),
        (),
    )
    ranges = Calibration(None, (-2.0, 2.0)).ranges(graph)
    bounds = [(list(one.low), list(one.high)) for one in ranges]
    assert bounds[1] == ([-2.0, -3.0], [4.0, 3.0])
    assert bounds[2] == ([0.0, 0.0], [16.0, 9.0])
    assert bounds[3] == ([0.0, 0.0], [4.0, 3.0])
    np.testing.assert_allclose(ranges[4].high, [16.0, 9.0])


def test_margin_widens_about_the_centre() -> None:
    seen = Calibration({"x": np.array([[0.0, 1.0], [3.0, 4.0]])}).ranges(
        TensorGraph((Input("x", (2,)),), ())
    )[0]
    assert seen.interval() == (0.0, 4.0)
    assert seen.interval(1.5) == (-1.0, 5.0)
    assert seen.magnitude(1.5) == 6.0


def test_a_stray_sample_does_not_set_the_scale() -> None:
    samples = np.ones((100, 3))
    samples[7, 1] = -1e6
    seen = Calibration({"x": samples}).ranges(TensorGraph((Input("x", (1, 3)),), ()))[0]
    assert seen.magnitude() == 4.0  # four times the upper quartile of the samples' largest values
    assert seen.interval() == (-1e6, 1.0)  # a fitted polynomial still has to cover it
    samples[7, 1] = -3.5
    assert (
        Calibration({"x": samples}).ranges(TensorGraph((Input("x", (1, 3)),), ()))[0].magnitude()
        == 3.5
    )


# fits


def test_polynomials_are_fitted_exactly() -> None:
    exact = np.array([0.5, -1.0, 0.25, 2.0])
    t = np.clip(RANDOM.normal(size=5000) / 4, -1, 1)
    values = np.asarray(chebyshev.chebval(grid(), exact), np.float64)
    density = histogram(t, np.asarray(chebyshev.chebval(t, exact), np.float64))
    np.testing.assert_allclose(fit(values, None, 3), exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fit(values, density, 3), exact, rtol=0, atol=1e-4)


def test_error_falls_with_the_degree() -> None:
    values = np.maximum(grid(), 0.0)
    fitted = [fit(values, None, degree) for degree in (2, 4, 8, 16, 32)]
    errors = [np.abs(chebyshev.chebval(grid(), one) - values).max() for one in fitted]
    assert all(later < 0.7 * earlier for earlier, later in pairwise(errors))


@pytest.mark.parametrize("degree", [2, 3, 7, 15, 31])
def test_weighted_fit_beats_uniform_where_inputs_fall_and_stays_bounded(degree: int) -> None:
    values = np.maximum(grid(), 0.0)
    t = RANDOM.normal(size=20_000) / 10
    weighted = fit(values, histogram(t, np.maximum(t, 0.0)), degree)
    uniform = fit(values, None, degree)

    def rms(coefficients: Array) -> float:
        return float(np.sqrt(np.mean((chebyshev.chebval(t, coefficients) - np.maximum(t, 0)) ** 2)))

    def worst(coefficients: Array) -> float:
        return float(np.abs(chebyshev.chebval(grid(), coefficients) - values).max())

    assert rms(weighted) < 0.8 * rms(uniform)
    assert worst(weighted) <= TAIL * worst(uniform) * (1 + 1e-9)


# approximate_activations


def network(function: Function = RELU, layers: int = 2) -> tuple[TensorGraph, dict[str, Array]]:
    """Return a small random network, and samples for it."""
    random = np.random.default_rng(3)
    operations: list[Input | Linear | Activation] = [Input("x", (1, 8))]
    for layer in range(layers):
        matrix = sp.csr_array(random.normal(size=(8, 8)) / np.sqrt(4))
        last = len(operations) - 1
        operations.append(Linear((last,), (matrix,), random.normal(size=8) / 4, (1, 8)))
        operations.append(Activation(last + 1, function, (1, 8), (f"act{layer}",)))
    last_matrix = sp.csr_array(random.normal(size=(3, 8)))
    operations.append(Linear((len(operations) - 1,), (last_matrix,), np.zeros(3), (1, 3)))
    samples = {"x": random.normal(size=(600, 8))}
    return TensorGraph(tuple(operations), (Output("y", len(operations) - 1),)), samples


def fits(graph: TensorGraph) -> list[Polynomial]:
    return [operation for operation in graph.operations if isinstance(operation, Polynomial)]


def relative_error(graph: TensorGraph, after: TensorGraph, samples: dict[str, Array]) -> float:
    exact, fitted = meaning(graph, samples)[0], meaning(after, samples)[0]
    return float(np.sqrt(np.mean((fitted - exact) ** 2) / np.mean(exact**2)))


def test_forced_degree_is_used_and_recorded() -> None:
    graph, samples = network()
    calibration = Calibration(samples, margin=1.1)
    after = approximate_activations(graph, Target(degree=5), calibration)
    assert not any(isinstance(operation, Activation) for operation in after.operations)
    values = evaluate(after, samples)
    for polynomial, name in zip(fits(after), ["act0", "act1"], strict=True):
        record = polynomial.fit
        assert record is not None
        assert (record.function, record.degree, polynomial.origin) == ("relu", 5, (name,))
        assert polynomial.coefficients.shape == (6, 8)  # every neuron has its own
        assert record.interval[0] < record.observed[0] < 0 < record.observed[1] < record.interval[1]
        assert np.abs(values[polynomial.operand]).max() <= 1
    before = evaluate(graph, samples)
    first = after.operations.index(fits(after)[0]) + 1  # the affine correction's values
    rms = np.sqrt(np.mean((values[first] - before[2]) ** 2))
    record = fits(after)[0].fit
    assert record is not None and record.error == pytest.approx(rms)


def test_channels_with_a_shared_polynomial_have_no_mean_error() -> None:
    image = (1, 2, 4)
    graph = TensorGraph(
        (Input("x", image), Activation(0, Function("relu"), image)), (Output("y", 1),)
    )
    samples = {"x": np.random.default_rng(3).normal(size=(100, 8)) * np.repeat([1.0, 3.0], 4)}
    after = approximate_activations(graph, Target(degree=5), Calibration(samples))
    assert fits(after)[0].coefficients.shape == (6,)
    errors = meaning(after, samples)[0] - meaning(graph, samples)[0]
    np.testing.assert_allclose(errors.reshape(100, 2, 4).mean(axis=(0, 2)), 0, atol=1e-12)
    assert np.abs(errors).max() > 1e-3


def test_error_at_the_outputs_falls_with_the_degree() -> None:
    graph, samples = network()
    calibration = Calibration(samples, margin=1.1)
    errors = [
        relative_error(
            graph, approximate_activations(graph, Target(degree=d), calibration), samples
        )
        for d in (2, 4, 7, 15, 31)
    ]
    assert all(later < 0.85 * earlier for earlier, later in pairwise(errors)), errors


@pytest.mark.parametrize("limit", [0.3, 0.1, 0.035])
def test_error_target_is_met_with_no_layer_lowerable(limit: float) -> None:
    graph, samples = network()
    calibration = Calibration(samples, margin=1.1)
    after = approximate_activations(graph, Target(max_error=limit), calibration)
    assert relative_error(graph, after, samples) <= limit
    degrees = [polynomial.fit.degree for polynomial in fits(after) if polynomial.fit]
    uniform_lower = {0.3: 2, 0.1: 4, 0.035: 7}[limit]
    coarse = approximate_activations(graph, Target(degree=uniform_lower), calibration)
    assert max(degrees) == uniform_lower or relative_error(graph, coarse, samples) > limit


def test_layers_that_hardly_matter_get_lower_degrees() -> None:
    graph, samples = network(layers=1)
    operations = list(graph.operations)
    small = sp.csr_array(np.eye(8) * 1e-3)
    branch = Linear((0,), (sp.csr_array(np.eye(8)),), np.zeros(8), (1, 8))
    operations[3:] = [branch, Activation(3, RELU, (1, 8))]
    both = Linear((2, 4), (sp.csr_array(np.eye(8)), small), np.zeros(8), (1, 8))
    graph = TensorGraph((*operations, both), (Output("y", 5),))
    calibration = Calibration(samples, margin=1.1)
    after = approximate_activations(graph, Target(max_error=0.05), calibration)
    degrees = [polynomial.fit.degree for polynomial in fits(after) if polynomial.fit]
    assert degrees[0] > 2 and degrees[1] == 2


def test_quadratics_have_coefficients_per_channel() -> None:
    random = np.random.default_rng(0)
    image = (1, 2, 4, 4)
    graph = TensorGraph((Input("x", image), Activation(0, RELU, image)), (Output("y", 1),))
    samples = {"x": random.normal(size=(50, 32)) + np.repeat([0.0, 5.0], 16)}
    after = approximate_activations(graph, Target(degree=2), Calibration(samples, margin=1.1))
    coefficients = fits(after)[0].coefficients
    assert coefficients.shape == (3, 32)
    assert (coefficients[:, :16] == coefficients[:, :1]).all()
    assert abs(coefficients[2, 31]) < 0.02 < abs(coefficients[2, 0])  # all positive: linear


def test_a_target_out_of_reach_warns() -> None:
    graph, samples = network()
    with pytest.warns(HecWarning) as caught:
        approximate_activations(graph, Target(max_error=1e-9), Calibration(samples, margin=1.1))
    lines = str(caught[0].message).splitlines()
    assert lines[0].startswith("fitted activations change the outputs by 0.0")
    assert lines[0].endswith(" of their root mean square, more than the 1e-09 asked for")
    assert lines[1] == "  --> 2 activations, of degree 31 at most"
    start = "  help: raise --max-error, calibrate on more samples, or fine-tune: 'act"
    assert lines[2].startswith(start) and len(lines) == 3


def test_without_samples_the_fit_covers_the_sound_interval() -> None:
    graph, samples = network(Function("sigmoid"))
    calibration = Calibration(None, (-1.0, 1.0))
    after = approximate_activations(graph, Target(degree=7), calibration)
    for polynomial, sound in zip(fits(after), (1, 3), strict=True):
        record = polynomial.fit
        assert record is not None
        if sound == 1:
            assert record.interval == calibration.ranges(graph)[sound].interval()
        assert calibration.ranges(after)[polynomial.operand].magnitude() <= 1 + 1e-12
    clipped = {"x": np.clip(samples["x"], -1, 1)}
    assert relative_error(graph, after, clipped) < 0.05


def test_constant_inputs_are_fitted() -> None:
    graph = TensorGraph((Input("x", (1, 2)), Activation(0, RELU, (1, 2))), (Output("y", 1),))
    samples = {"x": np.zeros((100, 2))}
    for degree in (2, 7):
        after = approximate_activations(graph, Target(degree=degree), Calibration(samples))
        np.testing.assert_allclose(meaning(after, samples)[0], 0, atol=1e-3)


def test_intervals_hold_samples_yet_to_come() -> None:
    random = np.random.default_rng(1)
    image = (1, 4, 8, 8)
    graph = TensorGraph((Input("x", image), Activation(0, RELU, image)), (Output("y", 1),))
    samples = {"x": random.laplace(size=(40, 256)) * np.repeat([1.0, 2.0, 0.01, 3.0], 64)}
    after = approximate_activations(graph, Target(degree=15), Calibration(samples, margin=1.1))
    later = {"x": random.laplace(size=(1000, 256)) * np.repeat([1.0, 2.0, 0.01, 3.0], 64)}
    record = fits(after)[0].fit
    assert record is not None
    scaled = evaluate(after, later)[fits(after)[0].operand] / record.radius
    assert np.abs(scaled).max() < 1.2
    reach = np.abs(scaled).max(axis=0).reshape(4, 64).max(axis=1)
    assert (reach[[0, 1, 3]] > 0.5).all()  # each channel has an interval of its own
    assert reach[2] < 0.2  # but none much narrower than the widest: they share the polynomial


def test_nearly_centred_intervals_need_no_shift() -> None:
    for centre, shifted in ((0.3, False), (5.0, True)):
        image = (1, 1, 2)  # one channel: one polynomial for both elements
        graph = TensorGraph(
            (Input("x", image), Activation(0, Function("sigmoid"), image)), (Output("y", 1),)
        )
        samples = {"x": centre + np.random.default_rng(2).uniform(-1, 1, (200, 2))}
        after = approximate_activations(graph, Target(degree=5), Calibration(samples))
        scaling = after.operations[1]
        assert isinstance(scaling, Linear)
        assert scaling.bias.any() == shifted
