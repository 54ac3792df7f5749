"""What lint finds about pools: what MaxPool costs, and functions that could come after one."""

from __future__ import annotations

from onnx import ModelProto, helper

from hec.compiler.calibration import Calibration
from hec.compiler.findings import Finding, Price, Subject
from hec.compiler.lint import inspect, lint
from hec.compiler.lint_rules import max_pool_price
from hec.compiler.onnx_import import survey_onnx
from hec.compiler.strategies import FUNCTIONAL_BOOTSTRAP
from hec.compiler.target import Target
from lint_cases import UNKNOWN, fitted, image, rules
from onnx_oracle import node, random


def _max_pools() -> ModelProto:
    return image(
        node("Conv", "x,w", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        helper.make_node("MaxPool", ["b"], ["c"], name="pool", kernel_shape=[2, 2], strides=[2, 2],
                         storage_order=0),
        helper.make_node("GlobalMaxPool", ["c"], ["d"], name="global"),
        node("Relu", "d", "y"),
        w=random(2, 1, 3, 3),
    )  # fmt: skip


def test_the_price_of_max_pools_is_their_rounds_and_the_rest_is_looked_at() -> None:
    found = inspect(_max_pools())
    pools = [finding for finding in found.findings if finding.severity == "error"]
    assert [(x.place.partition(" -> ")[0], x.price) for x in pools] == [
        ("net: node 'pool'", Price(levels=2 * 2)),  # two rounds for 4 values, degree 3 or more
        ("net: node 'global'", Price(levels=2 * 4)),  # four rounds for 16 values
    ]
    assert found.findings[2:] == (fitted(2, "relu", 2), UNKNOWN)
    assert not found.compiles


def test_a_max_pool_of_one_value_has_no_price() -> None:
    pool = node("MaxPool", "x", kernel_shape=[1, 1])
    survey = survey_onnx(image(pool), Target())
    graph = survey.graph
    subject = Subject(survey, survey, graph, graph, Calibration(), Target())
    assert max_pool_price(subject, pool) is None


def test_a_malformed_max_pool_is_found_once() -> None:
    found = lint(image(node("MaxPool", "x", kernel_shape=[2, 2, 2])))
    assert [finding.rule for finding in found] == ["cannot-compile"]


def _pooled(size: int, function: str = "Relu") -> ModelProto:
    return image(
        node("Conv", "x,w", "a", pads=[1, 1, 1, 1]),
        helper.make_node(function, ["a"], ["b"], name="act"),
        node("AveragePool", "b", kernel_shape=[2, 2], strides=[2, 2]),
        size=size,
        w=random(4, 1, 3, 3),
    )


def test_a_function_before_a_pool_is_found_with_the_values_it_is_computed_on() -> None:
    assert rules(_pooled(8))["function-before-pool"] == Finding(
        "function-before-pool",
        "note",
        "relu of 256 values, of which AveragePool makes 64",
        "net: node 'act' -> tensor 'b' of shape (1, 4, 8, 8)",
        "average first, then apply relu: another network, for the two do not commute exactly, "
        "so train it that way",
        Price(values=192),
    )


def test_it_is_costly_where_it_takes_more_ciphertexts() -> None:
    assert rules(_pooled(64))["function-before-pool"].severity == "note"  # 16,384 slots hold it
    assert rules(_pooled(66))["function-before-pool"].severity == "costly"


def test_a_function_after_a_pool_is_not_found() -> None:
    nodes = [node("AveragePool", "x", "a", kernel_shape=[2, 2], strides=[2, 2]), node("Relu", "a")]
    assert "function-before-pool" not in rules(image(*nodes))


def test_a_pool_whose_input_others_read_is_not_found() -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("GlobalAveragePool", "a", "b"),
        node("Add", "a,b"),
    ]
    assert "function-before-pool" not in rules(image(*nodes))


def _deep_image(size: int) -> ModelProto:
    """Ten activations, the last before a pool."""
    nodes, name = [], "x"
    for layer in range(10):
        nodes.append(node("Conv", f"{name},w", f"c{layer}", pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", f"c{layer}", f"r{layer}"))
        name = f"r{layer}"
    nodes.append(node("AveragePool", name, "y", kernel_shape=[2, 2], strides=[2, 2]))
    return image(*nodes, size=size, w=random(1, 1, 3, 3))


def test_where_only_bootstraps_will_do_they_are_the_price() -> None:
    assert rules(_deep_image(8))["function-before-pool"].price == Price(values=48)
    found = rules(_deep_image(182))  # 33,124 values, and 32,768 slots
    assert found["function-before-pool"].price == Price(
        values=24_843, bootstraps=1, seconds=FUNCTIONAL_BOOTSTRAP
    )
    assert found["needs-bootstraps"].price == Price(
        bootstraps=20, seconds=20 * FUNCTIONAL_BOOTSTRAP
    )


def test_a_failure_beside_a_max_pool_leaves_the_rest_as_it_is() -> None:
    model = image(
        node("MaxPool", "x", "a", kernel_shape=[2, 2]),
        node("Relu", "a", "b"),
        node("GRU", "x", "c"),
        node("Sum", "b,c"),
    )
    assert [finding.rule for finding in lint(model)] == ["cannot-compile", "cannot-compile"]


def test_a_finding_prints_in_the_parts_of_an_error() -> None:
    assert str(rules(_pooled(8))["function-before-pool"]).splitlines() == [
        "note: relu of 256 values, of which AveragePool makes 64",
        "  --> net: node 'act' -> tensor 'b' of shape (1, 4, 8, 8)",
        "  help: average first, then apply relu: another network, for the two do not commute "
        "exactly, so train it that way",
        "  costs at least: 192 values",
    ]
