"""Compositions of elementwise operations are recognized as one activation, and mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Basis,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
)
from hec.passes import check_normal_form, run_tensor_passes
from hec.passes.activate_polynomials import activate_polynomials
from hec.passes.eliminate_identities import eliminate_identities
from hec.passes.recognize_activations import LONGEST, recognize_activations
from hec.passes.recognize_polynomials import recognize_polynomials
from onnx_oracle import import_graph, network, node, oracle, random
from small_graphs import SEEN, X, affine, apply, graph, kinds

SIGMOID, RELU = Function("sigmoid"), Function("relu")
HALF = {"half": np.float32(0.5), "one": np.float32(1), "root": np.float32(np.sqrt(2))}

COMPOSITIONS: dict[str, tuple[list[NodeProto], dict[str, Any]]] = {
    "silu": ([node("Sigmoid", "x", "s"), node("Mul", "x,s")], {}),
    "silu(1.702)": (
        [node("Mul", "x,c", "t"), node("Sigmoid", "t", "s"), node("Mul", "x,s")],
        {"c": np.float32(1.702)},
    ),
    "gelu": (
        [
            node("Div", "x,root", "t"),
            node("Erf", "t", "e"),
            node("Add", "e,one", "f"),
            node("Mul", "x,f", "g"),
            node("Mul", "g,half"),
        ],
        HALF,
    ),
    "gelu_tanh": (
        [
            node("Pow", "x,three", "p"),
            node("Mul", "p,cube", "q"),
            node("Add", "x,q", "r"),
            node("Mul", "r,pi", "t"),
            node("Tanh", "t", "e"),
            node("Add", "e,one", "f"),
            node("Mul", "x,half", "h"),
            node("Mul", "h,f"),
        ],
        {
            **HALF,
            "three": np.float32(3),
            "cube": np.float32(0.044715),
            "pi": np.float32(np.sqrt(2 / np.pi)),
        },
    ),
    "hard_swish": (
        [node("HardSigmoid", "x", "s", alpha=1 / 6), node("Mul", "x,s")],
        {},
    ),
    "mish": ([node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x,t")], {}),
    "hard_swish of clip": (
        [
            node("Add", "x,three", "t"),
            node("Clip", "t,zero,six", "s"),
            node("Mul", "x,s", "p"),
            node("Div", "p,six"),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
    ),
    "silu of exp": (
        [
            node("Neg", "x", "n"),
            node("Exp", "n", "e"),
            node("Add", "e,one", "d"),
            node("Div", "x,d"),
        ],
        HALF,
    ),
    "sigmoid of exp": (
        [
            node("Neg", "x", "n"),
            node("Exp", "n", "e"),
            node("Add", "one,e", "d"),
            node("Div", "one,d"),
        ],
        HALF,
    ),
    "softplus of log": (
        [node("Exp", "x", "e"), node("Add", "e,one", "d"), node("Log", "d")],
        HALF,
    ),
    "mish of log": (
        [
            node("Exp", "x", "e"),
            node("Add", "e,one", "d"),
            node("Log", "d", "s"),
            node("Tanh", "s", "t"),
            node("Mul", "x,t"),
        ],
        HALF,
    ),
    "softsign of abs": (
        [node("Abs", "x", "a"), node("Add", "a,one", "d"), node("Div", "x,d")],
        HALF,
    ),
    "abs of sqrt": ([node("Mul", "x,x", "q"), node("Sqrt", "q")], {}),
    "composition of tanh, sin, reciprocal": (
        [
            node("Tanh", "x", "t"),
            node("Sin", "x", "s"),
            node("Add", "s,two", "d"),
            node("Div", "t,d"),
        ],
        {"two": np.float32(2)},
    ),
    "clip(0, 6)": (
        [node("Relu", "x", "r"), node("Clip", "r,,six")],
        {"six": np.float32(6)},
    ),
    "composition of tanh, exp": (
        [node("Tanh", "x", "t"), node("Exp", "t", "e"), node("Add", "e,x")],
        {},
    ),
}


def recognized(before: TensorGraph) -> TensorGraph:
    for one in (recognize_polynomials, recognize_activations, eliminate_identities):
        before = one(before, Target(), Calibration(SEEN))
    return before


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_composition_is_one_activation_of_its_name(name: str) -> None:
    nodes, constants = COMPOSITIONS[name]
    dense = {"dense": random(50, 3)}
    chain = [*nodes, node("MatMul", "y,dense", "z")]
    model = network(chain, {"x": (1, 50)}, {**constants, **dense}, outputs=["z"])
    after = recognized(import_graph(model))
    assert kinds(after) == [Input, Activation, Linear]
    activation = after.operations[1]
    assert isinstance(activation, Activation)
    assert str(activation.function) == name.partition(" of ")[0] or name == str(activation.function)
    assert {f"{n.op_type}_{n.output[0]}" for n in nodes} == set(activation.origin)
    x = 3 * random(1, 50)
    found = evaluate(after, {"x": x})[-1]
    np.testing.assert_allclose(found, oracle(model, {"x": x})[0], rtol=0, atol=1e-5)


def test_an_activation_alone_stays_as_it_is() -> None:
    before = graph(X, affine(0, 2 * np.eye(2)), Activation(1, RELU, (1, 2)), affine(2, np.eye(2)))
    after = apply(recognize_activations, before)
    assert kinds(after) == [Input, Linear, Activation, Linear]
    assert [str(op.function) for op in after.operations if isinstance(op, Activation)] == ["relu"]


def test_polynomials_alone_are_no_activation() -> None:
    before = graph(X, Multiply(0, 0, (1, 2)), Multiply(1, 0, (1, 2)))
    assert kinds(apply(recognize_activations, before)) == kinds(before)


def test_what_others_read_stays_and_must_not_be_paid_for_twice() -> None:
    sigmoid, product = Activation(0, SIGMOID, (1, 2)), Multiply(0, 1, (1, 2))
    read_twice = graph(X, sigmoid, product, affine(1, np.array([[1.0, 2.0]])), outputs=(2, 3))
    assert kinds(apply(recognize_activations, read_twice)) == kinds(read_twice)
    is_output = graph(X, sigmoid, product, outputs=(1, 2))
    assert kinds(apply(recognize_activations, is_output)) == kinds(is_output)


def test_elements_that_are_treated_differently_are_no_univariate_function() -> None:
    for scaling in (np.diag([1.0, 2.0]), np.array([[0.0, 1.0], [1.0, 0.0]])):
        before = graph(
            X, affine(0, scaling), Activation(1, SIGMOID, (1, 2)), Multiply(0, 2, (1, 2))
        )
        assert kinds(apply(recognize_activations, before)) == kinds(before)
    shifted = affine(0, np.eye(2), np.array([0.0, 1.0]))
    before = graph(X, shifted, Activation(1, SIGMOID, (1, 2)), Multiply(0, 2, (1, 2)))
    assert kinds(apply(recognize_activations, before)) == kinds(before)


def test_a_product_of_two_tensors_is_no_univariate_function() -> None:
    other = affine(0, np.array([[1.0, 1.0], [1.0, -1.0]]))
    before = graph(X, other, Activation(1, SIGMOID, (1, 2)), Multiply(0, 2, (1, 2)))
    assert kinds(apply(recognize_activations, before)) == kinds(before)


def test_a_composition_has_a_limit() -> None:
    count = LONGEST + 10
    chain = [Activation(i, Function("tanh"), (1, 2)) for i in range(count)]
    after = apply(recognize_activations, graph(X, *chain))
    lengths = [len(op.function.steps) for op in after.operations if isinstance(op, Activation)]
    assert lengths == [LONGEST, 0, count - LONGEST - 1]


def test_every_kind_of_step_means_what_the_operations_mean() -> None:
    bases: tuple[Basis, ...] = ("power", "chebyshev")
    for basis in bases:
        cubic = Polynomial(1, np.array([0.1, 0.2, -0.3, 0.4]), basis, (1, 2))
        before = graph(
            X,
            affine(0, 0.5 * np.eye(2), np.full(2, 0.25)),
            cubic,
            Activation(2, Function("tanh"), (1, 2)),
            Multiply(1, 3, (1, 2)),
        )
        after = apply(recognize_activations, before)
        assert kinds(after) == [Input, Activation]


def test_leveled_silu_needs_one_polynomial_and_no_product() -> None:
    dense = np.random.default_rng(0).normal(size=(4, 2))
    before = graph(
        X,
        affine(0, dense),
        Activation(1, SIGMOID, (1, 4)),
        Multiply(1, 2, (1, 4)),
        affine(3, dense.T),
    )
    samples = {"x": np.random.default_rng(1).normal(size=(300, 2))}
    calibration = Calibration(samples, margin=1.1)
    after = run_tensor_passes(before, Target(degree=7), calibration)
    check_normal_form(after, calibration)
    assert Multiply not in kinds(after) and len(after.operations) == 4


def test_squares_and_polynomials_become_functions_for_bootstraps() -> None:
    own = np.array([[0.1, 0.2], [0.5, -1.0], [0.3, 0.4], [0.25, 0.125]])
    before = graph(
        X,
        Multiply(0, 0, (1, 2)),
        Polynomial(0, np.array([0.1, 0.2, -0.3, 0.4]), "chebyshev", (1, 2)),
        Polynomial(0, own, "chebyshev", (1, 2)),
        outputs=(1, 2, 3),
    )
    after = apply(activate_polynomials, before)
    expected = [Input, Activation, Activation, Activation, Activation, Linear]
    assert kinds(after) == expected
    names = [str(op.function) for op in after.operations if isinstance(op, Activation)]
    degrees = [3, 2, 3]
    assert names == ["power 2", *(f"polynomial of degree {degree}" for degree in degrees)]
