"""What lint finds, in full: messages, places, help, and prices that follow from counting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

import hec
from hec.compiler.calibration import Calibration
from hec.compiler.errors import CompileError
from hec.compiler.findings import Finding, Price, Subject
from hec.compiler.lint import inspect, lint
from hec.compiler.lint_rules import costly_nodes, max_pool_price
from hec.compiler.onnx_import import import_onnx, survey_onnx
from hec.compiler.strategies import FUNCTIONAL_BOOTSTRAP
from hec.compiler.target import Target
from onnx_oracle import network, node, random

AGAIN = "export the model again, and check it with onnx.checker.check_model"
UNKNOWN = Finding(
    "ranges-unknown",
    "note",
    "how wide the inputs of activations are is not known, nor what that costs",
    "net",
    "give --calibration with a few hundred real inputs",
)


def _fitted(count: int, names: str, levels: int) -> Finding:
    many = f"{count} activations are replaced by fitted polynomials"
    one = "1 activation is replaced by a fitted polynomial"
    return Finding(
        "fitted-functions",
        "note",
        f"{many if count > 1 else one}: {names}",
        "net",
        "a square (x * x) is exact and takes one level, where training tolerates it",
        Price(levels=levels),
    )


def _rules(model: ModelProto, samples: Any = None) -> Mapping[str, Finding]:
    return {finding.rule: finding for finding in lint(model, samples)}


def _image(*nodes: Any, channels: int = 1, size: int = 8, **constants: Any) -> ModelProto:
    return network(list(nodes), {"x": (1, channels, size, size)}, constants)


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
    assert found.findings[2:] == (_fitted(1, "relu", 1), UNKNOWN)


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


def _max_pools() -> ModelProto:
    return _image(
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
    assert found.findings[2:] == (_fitted(2, "relu", 2), UNKNOWN)
    assert not found.compiles


def test_a_max_pool_of_one_value_has_no_price() -> None:
    pool = node("MaxPool", "x", kernel_shape=[1, 1])
    survey = survey_onnx(_image(pool), Target())
    graph = survey.graph
    subject = Subject(survey, survey, graph, graph, Calibration(), Target())
    assert max_pool_price(subject, pool) is None


def test_a_malformed_max_pool_is_found_once() -> None:
    found = lint(_image(node("MaxPool", "x", kernel_shape=[2, 2, 2])))
    assert [finding.rule for finding in found] == ["cannot-compile"]


def _deep(count: int, width: int = 4) -> ModelProto:
    nodes, name = [], "x"
    for layer in range(count):
        nodes += [node("MatMul", f"{name},w", f"m{layer}"), node("Relu", f"m{layer}", f"r{layer}")]
        name = f"r{layer}"
    nodes.append(node("MatMul", f"{name},w", "y"))
    return network(nodes, {"x": (1, width)}, {"w": random(width, width)})


def test_too_many_activations_need_bootstraps() -> None:
    assert "needs-bootstraps" not in _rules(_deep(9))
    found = inspect(_deep(10))
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
    assert inspect(_deep(4)).levels == 5 + 2 * 4
    assert inspect(_deep(5)).levels == 6 + 3 * 5
    assert _rules(_deep(5))["fitted-functions"] == _fitted(5, "relu", 10)


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
    assert _rules(_twice("Relu"))["two-in-a-row"] == Finding(
        "two-in-a-row",
        "costly",
        "relu directly after relu, which changes nothing",
        "net: node 'again' -> tensor 'c' of shape (1, 4)",
        "remove it",
        Price(levels=2),
    )
    other = _rules(_twice("Tanh"))["two-in-a-row"]
    assert (other.message, other.help) == (
        "tanh directly after relu",
        "use one function that does the work of both, with one fit",
    )


def test_activations_in_a_row_that_become_one_cost_nothing() -> None:
    nodes = [node("Relu", "x", "a"), node("Tanh", "a")]
    assert "two-in-a-row" not in _rules(network(nodes, {"x": (1, 4)}))


@pytest.mark.parametrize(("power", "spared"), [(8, 3), (5, 2)])
def test_a_polynomial_of_high_degree_is_found(power: int, spared: int) -> None:
    exponent = {"w": random(4, 4), "e": np.float32(power)}
    nodes = [node("MatMul", "x,w", "a"), helper.make_node("Pow", ["a", "e"], ["y"], name="power")]
    assert _rules(network(nodes, {"x": (1, 4)}, exponent))["high-degree"] == Finding(
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
    assert "high-degree" not in _rules(model)


def _pooled(size: int, function: str = "Relu") -> ModelProto:
    return _image(
        node("Conv", "x,w", "a", pads=[1, 1, 1, 1]),
        helper.make_node(function, ["a"], ["b"], name="act"),
        node("AveragePool", "b", kernel_shape=[2, 2], strides=[2, 2]),
        size=size,
        w=random(4, 1, 3, 3),
    )


def test_a_function_before_a_pool_is_found_with_the_values_it_is_computed_on() -> None:
    assert _rules(_pooled(8))["function-before-pool"] == Finding(
        "function-before-pool",
        "note",
        "relu of 256 values, of which AveragePool makes 64",
        "net: node 'act' -> tensor 'b' of shape (1, 4, 8, 8)",
        "average first, then apply relu: another network, for the two do not commute exactly, "
        "so train it that way",
        Price(values=192),
    )


def test_it_is_costly_where_it_takes_more_ciphertexts() -> None:
    assert _rules(_pooled(64))["function-before-pool"].severity == "note"  # 16,384 slots hold it
    assert _rules(_pooled(66))["function-before-pool"].severity == "costly"


def test_a_function_after_a_pool_is_not_found() -> None:
    nodes = [node("AveragePool", "x", "a", kernel_shape=[2, 2], strides=[2, 2]), node("Relu", "a")]
    assert "function-before-pool" not in _rules(_image(*nodes))


def test_a_pool_whose_input_others_read_is_not_found() -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("GlobalAveragePool", "a", "b"),
        node("Add", "a,b"),
    ]
    assert "function-before-pool" not in _rules(_image(*nodes))


def test_values_that_no_layer_reads_are_found() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="act"),
        node("Conv", "a,w", strides=[2, 2]),
    ]
    assert _rules(_image(*nodes, w=random(1, 1, 1, 1)))["unread-values"] == Finding(
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
    assert "unread-values" not in {**_rules(twice), **_rules(output)}


def test_a_fixed_batch_is_found() -> None:
    nodes = [node("Relu", "x", "a"), node("MatMul", "a,w")]
    model = network(nodes, {"x": (10, 4)}, {"w": random(4, 3)})
    assert _rules(model)["fixed-batch"] == Finding(
        "fixed-batch",
        "costly",
        "the first axis of the input has 10 elements, and so has every output: each prediction "
        "computes 10 samples",
        "net: input 'x' of shape (10, 4)",
        "export with a batch of one, or with a dynamic first axis",
        Price(values=36),
    )
    assert "fixed-batch" not in _rules(network(nodes, {"x": ("n", 4)}, {"w": random(4, 3)}))


def test_a_first_axis_that_is_summed_is_no_batch() -> None:
    model = network([node("Relu", "x", "a"), node("ReduceSum", "a", "y")], {"x": (10, 4)})
    assert "fixed-batch" not in _rules(model)


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


def _narrow(function: str = "Sigmoid") -> ModelProto:
    nodes = [node("MatMul", "x,w", "a"), helper.make_node(function, ["a"], ["b"], name="act"),
             node("MatMul", "b,w")]  # fmt: skip
    return network(nodes, {"x": (1, 4)}, {"w": np.eye(4)})


def test_a_wide_range_is_found_by_samples_with_the_degree_it_costs() -> None:
    source = np.random.default_rng(0)
    assert set(_rules(_narrow(), source.uniform(-2, 2, (256, 4)))) == {"fitted-functions"}
    wide = _rules(_narrow(), source.uniform(-16, 16, (256, 4)))["wide-range"]
    assert wide.message == "the inputs of sigmoid lie in [-15.9, 15.9]: degree 15 instead of 7"
    assert wide.place == "net: node 'act' -> tensor 'b' of shape (1, 4)"
    assert wide.help == (
        "inputs half as wide would do with a lower degree: normalise before the function"
    )
    assert wide.price == Price(levels=1)


def test_stray_values_are_found_by_samples() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (2048, 4))
    assert "wide-range" not in _rules(_narrow("Relu"), samples)
    samples[7, 2] = 40.0
    wide = _rules(_narrow("Relu"), samples)["wide-range"]
    assert wide.message == (
        "the inputs of relu lie in [-1, 40], 99.9 % of them in [-0.999, 0.999]: degree 15 instead "
        "of 7"
    )
    assert wide.help == "regularise the layer before, or limit its outputs in training"
    assert wide.price == Price(levels=1)


def test_inputs_that_are_all_alike_have_no_range() -> None:
    assert "wide-range" not in _rules(_narrow(), np.zeros((8, 4)))


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
    assert "wide-range" not in _rules(model, np.random.default_rng(0).uniform(-1, 1, (64, 4)))


def test_a_survey_of_a_sound_network_is_its_import() -> None:
    survey, imported = survey_onnx(_deep(3), Target()), import_onnx(_deep(3), Target())
    assert survey.failures == ()
    assert len(survey.graph.operations) == len(imported.graph.operations)
    assert survey.graph.outputs == imported.graph.outputs


def test_the_facade_has_lint() -> None:
    assert hec.lint(_deep(1)) == lint(_deep(1))


def test_a_finding_prints_in_the_parts_of_an_error() -> None:
    assert str(_rules(_pooled(8))["function-before-pool"]).splitlines() == [
        "note: relu of 256 values, of which AveragePool makes 64",
        "  --> net: node 'act' -> tensor 'b' of shape (1, 4, 8, 8)",
        "  help: average first, then apply relu: another network, for the two do not commute "
        "exactly, so train it that way",
        "  costs at least: 192 values",
    ]


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
    found = inspect(_deep(4))
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


def _deep_image(size: int) -> ModelProto:
    """Ten activations, the last before a pool."""
    nodes, name = [], "x"
    for layer in range(10):
        nodes.append(node("Conv", f"{name},w", f"c{layer}", pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", f"c{layer}", f"r{layer}"))
        name = f"r{layer}"
    nodes.append(node("AveragePool", name, "y", kernel_shape=[2, 2], strides=[2, 2]))
    return _image(*nodes, size=size, w=random(1, 1, 3, 3))


def test_where_only_bootstraps_will_do_they_are_the_price() -> None:
    assert _rules(_deep_image(8))["function-before-pool"].price == Price(values=48)
    found = _rules(_deep_image(182))  # 33,124 values, and 32,768 slots
    assert found["function-before-pool"].price == Price(
        values=24_843, bootstraps=1, seconds=FUNCTIONAL_BOOTSTRAP
    )
    assert found["needs-bootstraps"].price == Price(
        bootstraps=20, seconds=20 * FUNCTIONAL_BOOTSTRAP
    )


def test_series_of_bootstraps_have_other_degrees_than_polynomials() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (2048, 4))
    samples[7, 2] = 40.0
    assert "wide-range" not in _rules(_deep(10), samples)


def test_exact_polynomials_have_no_range() -> None:
    nodes = [node("MatMul", "x,w", "a"), node("Pow", "a,e", "b"), node("MatMul", "b,w")]
    model = network(nodes, {"x": (1, 4)}, {"w": np.eye(4), "e": np.float32(3)})
    samples = np.random.default_rng(0).uniform(-1, 1, (2048, 4))
    samples[7, 2] = 40.0
    assert lint(model, samples) == ()


def test_inputs_that_are_alike_but_for_a_stray_one_have_no_range() -> None:
    samples = np.zeros((2048, 4))
    samples[7, 2] = 40.0
    assert "wide-range" not in _rules(_narrow("Relu"), samples)


def test_a_failure_beside_a_max_pool_leaves_the_rest_as_it_is() -> None:
    model = _image(
        node("MaxPool", "x", "a", kernel_shape=[2, 2]),
        node("Relu", "a", "b"),
        node("GRU", "x", "c"),
        node("Sum", "b,c"),
    )
    assert [finding.rule for finding in lint(model)] == ["cannot-compile", "cannot-compile"]
