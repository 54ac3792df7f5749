"""What lint finds, in full: messages, places, help, and prices that follow from counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, helper

import hec
from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError
from hec.compiler.findings import Finding, Price, Subject
from hec.compiler.lint import inspect, lint
from hec.compiler.lint_rules import costly_nodes
from hec.compiler.onnx_import import import_onnx, survey_onnx
from hec.compiler.strategies import FUNCTIONAL_BOOTSTRAP
from hec.compiler.target import Target
from lint_cases import UNKNOWN, deep, fitted, image, rules
from onnx_oracle import network, node, random

AGAIN = "export the model again, and check it with onnx.checker.check_model"


def test_a_network_of_squares_has_no_findings() -> None:
    nodes = [node("MatMul", "x,w", "a"), node("Mul", "a,a", "b"), node("MatMul", "b,v")]
    found = inspect(network(nodes, {"x": (1, 4)}, {"w": random(4, 5), "v": random(5, 2)}))
    assert (found.findings, found.levels, found.most_levels) == ((), 3, 40)
    assert found.compiles and found.is_cheap and found.is_leveled


def test_every_node_that_cannot_be_compiled_is_found_at_once() -> None:
    nodes = [
        helper.make_node("GRU", ["x"], ["a"], name="first"),
        helper.make_node("Frobnicate", ["x"], ["b"], name="second"),
        node("Relu", "x", "c"),
        node("Sum", "a,b,c"),
    ]
    model = network(nodes, {"x": (1, 4)})
    found = inspect(model)
    errors = [finding for finding in found.findings if finding.severity == "error"]
    with pytest.raises(CompileError) as caught:
        import_onnx(model, Target())
    assert [(x.message, x.place, x.help) for x in errors] == [
        (x.message, x.place, x.help) for x in caught.value.problems
    ]
    assert len(errors) == 2
    assert (found.levels, found.compiles, found.is_cheap) == (None, False, False)
    assert found.findings[2:] == (fitted(1, "relu", 1), UNKNOWN)


@pytest.mark.parametrize("source", [b"", b"no model", b"\x08\x07"])
def test_what_is_no_model_is_a_finding(source: bytes) -> None:
    found = inspect(source)
    with pytest.raises(CompileError) as caught:
        import_onnx(source, Target())
    problem = caught.value.problems[0]
    assert found.findings == (
        Finding("cannot-compile", "error", problem.message, problem.place, problem.help),
    )
    assert (found.model, found.levels) == ("model", None)


def test_too_many_activations_need_bootstraps() -> None:
    assert "needs-bootstraps" not in rules(deep(9))
    found = inspect(deep(10))
    assert found.levels == 11 + 3 * 10
    assert not found.is_leveled
    assert found.compiles and not found.is_cheap
    assert found.findings == (
        Finding(
            "needs-bootstraps",
            "costly",
            "a leveled program would need 41 levels or more; at 128-bit security a modulus has "
            "room for 40",
            "net: 10 activations",
            "use fewer activations, or compile for OpenFHE, which refreshes ciphertexts",
            Price(bootstraps=10, seconds=10 * FUNCTIONAL_BOOTSTRAP),
        ),
        UNKNOWN,
    )


def test_few_activations_count_for_two_levels_and_more_for_three() -> None:
    assert inspect(deep(4)).levels == 5 + 2 * 4
    assert inspect(deep(5)).levels == 6 + 3 * 5
    assert rules(deep(5))["fitted-functions"] == fitted(5, "relu", 10)


def test_an_activation_alone_has_levels_too() -> None:
    assert inspect(network([node("Relu", "x")], {"x": (1, 4)})).levels == 2


def _twice(second: str) -> ModelProto:
    nodes = [
        node("MatMul", "x,w", "a"),
        node("Relu", "a", "b"),
        helper.make_node(second, ["b"], ["c"], name="again"),
        node("MatMul", "c,w", "d"),
        node("Add", "b,d"),  # reads the inner function, which therefore stays
    ]
    return network(nodes, {"x": (1, 4)}, {"w": random(4, 4)})


def test_an_activation_of_an_activation_is_found() -> None:
    assert rules(_twice("Relu"))["two-in-a-row"] == Finding(
        "two-in-a-row",
        "costly",
        "relu directly after relu, which changes nothing",
        "net: node 'again' -> tensor 'c' of shape (1, 4)",
        "remove it",
        Price(levels=2),
    )
    other = rules(_twice("Tanh"))["two-in-a-row"]
    assert (other.message, other.help) == (
        "tanh directly after relu",
        "use one function that does the work of both, with one fit",
    )


def test_activations_in_a_row_that_become_one_cost_nothing() -> None:
    nodes = [node("Relu", "x", "a"), node("Tanh", "a")]
    assert "two-in-a-row" not in rules(network(nodes, {"x": (1, 4)}))


@pytest.mark.parametrize(("power", "spared"), [(8, 3), (5, 2)])
def test_a_polynomial_of_high_degree_is_found(power: int, spared: int) -> None:
    exponent = {"w": random(4, 4), "e": np.float32(power)}
    nodes = [node("MatMul", "x,w", "a"), helper.make_node("Pow", ["a", "e"], ["y"], name="power")]
    assert rules(network(nodes, {"x": (1, 4)}, exponent))["high-degree"] == Finding(
        "high-degree",
        "costly",
        f"a polynomial of degree {power} takes {spared + 1} levels",
        "net: node 'power' -> tensor 'y' of shape (1, 4)",
        "a polynomial of degree 2 takes one",
        Price(levels=spared),
    )


@pytest.mark.parametrize("power", [2, 3, 4])
def test_a_polynomial_of_low_degree_is_not(power: int) -> None:
    model = network([node("Pow", "x,e")], {"x": (1, 4)}, {"e": np.float32(power)})
    assert "high-degree" not in rules(model)


def test_values_that_no_layer_reads_are_found() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="act"),
        node("Conv", "a,w", strides=[2, 2]),
    ]
    assert rules(image(*nodes, w=random(1, 1, 1, 1)))["unread-values"] == Finding(
        "unread-values",
        "note",
        "relu of 64 values, whose next layers read 16",
        "net: node 'act' -> tensor 'a' of shape (1, 1, 8, 8)",
        "leave the others out before the function, by a stride or a slice: the same results",
        Price(values=48),
    )


def test_values_that_another_layer_or_an_output_reads_are_not_unread() -> None:
    strided = node("Conv", "a,w", "y", strides=[2, 2])
    twice = network(
        [node("Relu", "x", "a"), strided, node("Conv", "a,w", "z")],
        {"x": (1, 1, 8, 8)},
        {"w": random(1, 1, 1, 1)},
        outputs=["y", "z"],
    )
    output = network(
        [node("Relu", "x", "a"), strided],
        {"x": (1, 1, 8, 8)},
        {"w": random(1, 1, 1, 1)},
        outputs=["y", "a"],
    )
    assert "unread-values" not in {**rules(twice), **rules(output)}


def test_a_fixed_batch_is_found() -> None:
    nodes = [node("Relu", "x", "a"), node("MatMul", "a,w")]
    model = network(nodes, {"x": (10, 4)}, {"w": random(4, 3)})
    assert rules(model)["fixed-batch"] == Finding(
        "fixed-batch",
        "costly",
        "the first axis of the input has 10 elements, and so has every output: each prediction "
        "computes 10 samples",
        "net: input 'x' of shape (10, 4)",
        "export with a batch of one, or with a dynamic first axis",
        Price(values=36),
    )
    assert "fixed-batch" not in rules(network(nodes, {"x": ("n", 4)}, {"w": random(4, 3)}))


def test_a_first_axis_that_is_summed_is_no_batch() -> None:
    model = network([node("Relu", "x", "a"), node("ReduceSum", "a", "y")], {"x": (10, 4)})
    assert "fixed-batch" not in rules(model)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Sigmoid", "ArgMax"])
def test_what_the_client_computes_is_told(operator: str) -> None:
    nodes = [node("MatMul", "x,w", "a"), node(operator, "a")]
    (found,) = lint(network(nodes, {"x": (1, 4)}, {"w": random(4, 3)}))
    assert found == Finding(
        "left-to-client",
        "note",
        f"the client computes {operator} after decryption: it costs no level",
        "net: output 'y'",
        price=Price(levels=0),
    )
    assert str(found).endswith("\n  costs at least: nothing")


def test_a_survey_of_a_sound_network_is_its_import() -> None:
    survey, imported = survey_onnx(deep(3), Target()), import_onnx(deep(3), Target())
    assert survey.failures == ()
    assert len(survey.graph.operations) == len(imported.graph.operations)
    assert survey.graph.outputs == imported.graph.outputs


def test_the_facade_has_lint() -> None:
    assert hec.lint(deep(1)) == lint(deep(1))


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (Price(levels=1), "1 level"),
        (Price(levels=12, values=3456), "12 levels, 3,456 values"),
        (Price(bootstraps=2, seconds=4.0), "2 bootstraps, 4 s"),
        (Price(), "nothing"),
    ],
)
def test_a_price_in_words(price: Price, text: str) -> None:
    assert str(price) == text


def test_a_network_of_too_many_operations_has_no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hec.compiler.lint._MOST", 8)
    found = inspect(deep(4))
    assert found.findings == (
        Finding(
            "too-long",
            "costly",
            "10 operations are too many for prices; the limit is 8",
            "net",
            "use a smaller network",
        ),
    )
    assert (found.levels, found.compiles) == (None, True)


@pytest.mark.parametrize(
    ("operator", "help"),
    [
        ("MaxPool", "AveragePool, or a Conv with stride, is one matrix, and merges with its "
         "neighbours"),
        ("LayerNormalization", "BatchNormalization is folded into the layer before, and costs "
         "nothing"),
        ("Softmax", "leave it out, or move it to the end, where the client computes it"),
    ],
)  # fmt: skip
def test_a_node_that_takes_several_functions_in_a_row_is_costly(operator: str, help: str) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="act"),
        helper.make_node("Tanh", ["a"], ["b"], name="inner"),
        helper.make_node("Relu", ["b"], ["y"], name="pool"),
    ]
    survey = survey_onnx(network(nodes, {"x": (1, 4)}), Target())
    alike = tuple(
        replace(x, origin=("pool",)) if getattr(x, "origin", ()) == ("inner",) else x
        for x in survey.graph.operations
    )
    graph = replace(survey.graph, operations=alike)
    survey.model.nodes[2].op_type = operator
    subject = Subject(survey, survey, graph, graph, Calibration(), Target())
    assert list(costly_nodes(subject)) == [
        Finding(
            "costly-operator",
            "costly",
            f"{operator} takes 2 functions one after another",
            "net: node 'pool' -> tensor 'y' of shape (1, 4)",
            help,
            Price(levels=4),
        )
    ]
