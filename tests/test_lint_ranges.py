"""What lint finds in the ranges of activations, given samples."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from hec.compiler.errors import CompileError
from hec.compiler.findings import Price
from hec.compiler.lint import inspect, lint
from lint_cases import deep, rules
from onnx_oracle import network, node


def _narrow(function: str = "Sigmoid") -> ModelProto:
    nodes = [node("MatMul", "x,w", "a"), helper.make_node(function, ["a"], ["b"], name="act"),
             node("MatMul", "b,w")]  # fmt: skip
    return network(nodes, {"x": (1, 4)}, {"w": np.eye(4)})


def test_a_wide_range_is_found_by_samples_with_the_degree_it_costs() -> None:
    source = np.random.default_rng(0)
    assert set(rules(_narrow(), source.uniform(-2, 2, (256, 4)))) == {"fitted-functions"}
    wide = rules(_narrow(), source.uniform(-16, 16, (256, 4)))["wide-range"]
    assert wide.message == "the inputs of sigmoid lie in [-15.9, 15.9]: degree 15 instead of 7"
    assert wide.place == "net: node 'act' -> tensor 'b' of shape (1, 4)"
    assert wide.help == (
        "inputs half as wide would do with a lower degree: normalise before the function"
    )
    assert wide.price == Price(levels=1)


def test_stray_values_are_found_by_samples() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (2048, 4))
    assert "wide-range" not in rules(_narrow("Relu"), samples)
    samples[7, 2] = 40.0
    wide = rules(_narrow("Relu"), samples)["wide-range"]
    assert wide.message == (
        "the inputs of relu lie in [-1, 40], 99.9 % of them in [-0.999, 0.999]: degree 15 instead "
        "of 7"
    )
    assert wide.help == "regularise the layer before, or limit its outputs in training"
    assert wide.price == Price(levels=1)


def test_inputs_that_are_all_alike_have_no_range() -> None:
    assert "wide-range" not in rules(_narrow(), np.zeros((8, 4)))


def test_samples_that_do_not_fit_are_an_error_of_the_user() -> None:
    with pytest.raises(CompileError) as caught:
        lint(_narrow(), np.zeros((8, 5)))
    assert str(caught.value) == (
        "calibration data has shape (8, 5)\n"
        "  --> net: input 'x' of shape (1, 4)\n"
        "  help: give an array of shape (samples, 1, 4) or (samples, 4)"
    )


def test_weights_that_overflow_in_products_make_no_warning() -> None:
    nodes = [node("Mul", "x,s", "a"), node("Mul", "a,a", "b"), node("Mul", "b,s")]
    model = network(nodes, {"x": (1, 4)})
    double = helper.make_tensor("s", TensorProto.DOUBLE, [4], [1e300] * 4)
    model.graph.initializer.append(double)
    assert inspect(model).compiles


def test_values_that_overflow_on_samples_have_no_range() -> None:
    nodes = [node("MatMul", "x,w", "a"), node("Relu", "a", "b"), node("MatMul", "b,w", "c"),
             node("Relu", "c", "d"), node("MatMul", "d,w")]  # fmt: skip
    model = network(nodes, {"x": (1, 4)})
    large = helper.make_tensor("w", TensorProto.DOUBLE, [4, 4], [1e200] * 16)
    model.graph.initializer.append(large)
    assert "wide-range" not in rules(model, np.random.default_rng(0).uniform(-1, 1, (64, 4)))


def test_series_of_bootstraps_have_other_degrees_than_polynomials() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (2048, 4))
    samples[7, 2] = 40.0
    assert "wide-range" not in rules(deep(10), samples)


def test_exact_polynomials_have_no_range() -> None:
    nodes = [node("MatMul", "x,w", "a"), node("Pow", "a,e", "b"), node("MatMul", "b,w")]
    model = network(nodes, {"x": (1, 4)}, {"w": np.eye(4), "e": np.float32(3)})
    samples = np.random.default_rng(0).uniform(-1, 1, (2048, 4))
    samples[7, 2] = 40.0
    assert lint(model, samples) == ()


def test_inputs_that_are_alike_but_for_a_stray_one_have_no_range() -> None:
    samples = np.zeros((2048, 4))
    samples[7, 2] = 40.0
    assert "wide-range" not in rules(_narrow("Relu"), samples)
