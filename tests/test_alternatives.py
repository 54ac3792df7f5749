"""What is worth trying follows from the network, and each change is what it says it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from hec.compiler import alternatives
from hec.compiler.alternatives import Change, Rule, Subject
from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.pipeline import Compilation, choose
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Array, Linear, Polynomial, TensorGraph
from onnx_oracle import network, node, random
from pooled_networks import pooled, samples
from small_graphs import X, affine, graph

FAST = Target(backend="tenseal", degree=2)


def compiled(model: ModelProto, target: Target = FAST, count: int = 96) -> Compilation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return choose(model, samples(count), target)


@pytest.fixture(scope="module")
def averaging() -> Compilation:
    return compiled(pooled("AveragePool"))


@pytest.fixture(scope="module")
def comparing() -> Compilation:
    return compiled(pooled("MaxPool"), Target(backend="tenseal", degree=2, maxpool="approximate"))


def found(rule: Rule, made: Compilation) -> list[Change]:
    return list(rule(Subject(made)))


def output(graph: TensorGraph, x: Array) -> Array:
    values = evaluate(graph, {"x": x.reshape(len(x), -1).astype(np.float64)})
    result: Array = graph.outputs[0].factor * values[graph.outputs[0].operand]
    return result


def functions(graph: TensorGraph) -> list[str]:
    return [str(x.function) for x in graph.operations if isinstance(x, Activation)]


def reference(model: ModelProto, x: Array) -> Array:
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(model)
    return np.concatenate([session.run(None, {"x": each[None]})[0] for each in x])


def copies(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Return nodes that stay when the graph that holds them is emptied."""
    return [NodeProto.FromString(node.SerializeToString()) for node in nodes]


def assert_becomes(change: Change, model: ModelProto) -> None:
    """The changed graph computes what `model` does."""
    x = samples(5, seed=9)
    assert np.allclose(output(change.graph, x), reference(model, x), rtol=0, atol=1e-5)


def test_averages_replace_maxpool(comparing: Compilation, averaging: Compilation) -> None:
    (change,) = found(alternatives.average_pools, comparing)
    assert (change.what, change.kind) == ("replace MaxPool by AveragePool", "model")
    assert change.target.maxpool == "average"
    assert_becomes(change, pooled("AveragePool"))
    assert not found(alternatives.average_pools, averaging)


def test_smooth_functions_replace_those_with_a_kink(averaging: Compilation) -> None:
    (change,) = found(alternatives.smooth_functions, averaging)
    assert (change.what, change.kind) == ("replace relu by silu", "model")
    assert functions(change.graph) == ["silu"]
    smooth = compiled(pooled("AveragePool", "Tanh"))
    assert not found(alternatives.smooth_functions, smooth)


def test_the_comparisons_of_a_pool_stay(comparing: Compilation) -> None:
    (change,) = found(alternatives.smooth_functions, comparing)
    assert functions(change.graph) == ["silu", "relu", "relu"]
    (change,) = found(alternatives.quadratics, compiled(pooled("MaxPool"), Target(
        backend="tenseal", degree=3, maxpool="approximate")))  # fmt: skip
    assert functions(change.graph) == ["relu", "relu"]


def test_quadratics_are_the_nearest_ones() -> None:
    made = compiled(pooled("AveragePool"), Target(backend="tenseal", degree=3))
    (change,) = found(alternatives.quadratics, made)
    assert change.what == "replace relu by quadratics, such as x * x"
    (position,) = (i for i, x in enumerate(change.graph.operations) if isinstance(x, Polynomial))
    fitted = change.graph.operations[position]
    assert isinstance(fitted, Polynomial)
    x = evaluate(change.graph, made.calibration.samples or {})[fitted.operand].reshape(-1)
    expected = np.polynomial.polynomial.polyfit(x, np.maximum(x, 0), 2)
    assert np.allclose(fitted.coefficients, expected, rtol=0, atol=1e-9)
    assert not found(alternatives.quadratics, compiled(pooled("AveragePool")))  # it has them


def test_without_samples_a_quadratic_is_a_square() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = choose(pooled("AveragePool"), None, Target(backend="tenseal", degree=3))
    (change,) = found(alternatives.quadratics, made)
    fitted = next(x for x in change.graph.operations if isinstance(x, Polynomial))
    assert fitted.coefficients.tolist() == [0.0, 0.0, 1.0]
    for rule in (alternatives.narrower_ranges, alternatives.affine_nodes, alternatives.agreements):
        assert not found(rule, made)


def test_relu_replaces_a_clip_at_zero() -> None:
    model = pooled("AveragePool")
    model.graph.node[1].op_type = "Clip"
    model.graph.node[1].input.extend(["low", "high"])
    low, high = np.array(0, np.float32), np.array(6, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(low, "low"))
    model.graph.initializer.append(numpy_helper.from_array(high, "high"))
    (change,) = found(alternatives.unclipped, compiled(model))
    assert change.what == "replace clip(0, 6) by relu"
    assert_becomes(change, pooled("AveragePool"))


def test_other_functions_are_not_unclipped(averaging: Compilation) -> None:
    assert not found(alternatives.unclipped, averaging)


def test_functions_move_behind_averages(averaging: Compilation, comparing: Compilation) -> None:
    (change,) = found(alternatives.functions_after_pools, averaging)
    assert (change.what, change.kind) == ("average first, then apply relu", "model")
    later = pooled("AveragePool")
    act, pool = later.graph.node[1], later.graph.node[2]
    pool.input[0], pool.output[0], act.input[0], act.output[0] = "c", "a", "a", "p"
    order = copies([later.graph.node[0], pool, act, *later.graph.node[3:]])
    del later.graph.node[:]
    later.graph.node.extend(order)
    assert_becomes(change, later)
    assert not found(alternatives.functions_after_pools, comparing)


def test_a_function_stays_before_a_matrix_that_is_no_pool(averaging: Compilation) -> None:
    subject = Subject(averaging)
    assert list(alternatives.functions_after_pools(subject))
    subject.operators = dict.fromkeys(subject.operators, "Conv")
    assert not list(alternatives.functions_after_pools(subject))


def test_a_function_that_is_read_twice_stays() -> None:
    model = pooled("AveragePool")
    twice = helper.make_node("Add", ["p", "q"], ["s"], "sum")
    other = helper.make_node("AveragePool", ["a"], ["q"], "other", kernel_shape=[2, 2],
                             strides=[2, 2])  # fmt: skip
    nodes = list(model.graph.node)
    nodes[3].input[0] = "s"
    changed = copies(nodes)
    del model.graph.node[:]
    model.graph.node.extend([*changed[:3], other, twice, *changed[3:]])
    assert not found(alternatives.functions_after_pools, compiled(model))


def test_a_norm_becomes_the_best_affine_layer() -> None:
    constants = {"w": random(4, 6), "s": np.ones(6, np.float32), "v": random(6, 2, seed=1)}
    nodes = [
        node("MatMul", "x,w", "a", name="first"),
        node("LayerNormalization", "a,s", "b", name="norm"),
        node("MatMul", "b,v", "y", name="last"),
    ]
    model = network(nodes, {"x": (1, 4)}, constants)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = choose(model, random(64, 4), Target(backend="openfhe"))
    (change,) = found(alternatives.affine_nodes, made)
    assert change.what == "replace LayerNormalization inside the network by BatchNormalization"
    assert not functions(change.graph)
    assert all(isinstance(x, Linear) for x in change.graph.operations[1:] if hasattr(x, "bias"))
    raw = made.calibration.samples or {}
    exact = evaluate(made.imported.graph, raw)[made.imported.graph.outputs[0].operand]
    near = evaluate(change.graph, raw)[change.graph.outputs[0].operand]
    assert np.corrcoef(exact.reshape(-1), near.reshape(-1))[0, 1] > 0.8
    assert np.allclose(near.mean(axis=0), exact.mean(axis=0), rtol=0, atol=1e-9)


def test_an_inner_softmax_becomes_a_scaling_and_a_last_one_stays() -> None:
    constants = {"w": random(4, 6), "v": random(6, 2, seed=1)}
    nodes = [
        node("MatMul", "x,w", "a", name="first"),
        node("Softmax", "a", "b", name="inner"),
        node("MatMul", "b,v", "c", name="second"),
        node("Softmax", "c", "y", name="last"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = choose(network(nodes, {"x": (1, 4)}, constants), random(64, 4), Target("openfhe"))
    (change,) = found(alternatives.affine_nodes, made)
    assert change.what == "replace Softmax inside the network by a scaling of its inputs"
    assert not functions(change.graph)
    assert [step.name for step in change.graph.outputs[0].epilogue] == ["softmax"]  # type: ignore[union-attr]


def test_no_affine_layer_replaces_what_is_none(averaging: Compilation) -> None:
    assert not found(alternatives.affine_nodes, averaging)


def test_lower_degrees_are_tried_and_a_higher_one_where_classes_are_lost() -> None:
    made = compiled(pooled("AveragePool"), Target(backend="tenseal"))
    fits = [x.fit.degree for x in made.chosen.graph.operations
            if isinstance(x, Polynomial) and x.fit]  # fmt: skip
    highest = max(fits, default=2)
    wanted = [change.target.degree for change in found(alternatives.degrees, made)]
    assert wanted == [d for d in (31, 15, 7, 3, 2) if d < highest]
    for change in found(alternatives.degrees, made):
        assert change.what == (
            f"fit polynomials of degree {change.target.degree} (--degree {change.target.degree})"
        )
        assert (change.target.max_error, change.target.min_agreement) == (None, None)
    known = made.chosen.calibrated
    assert known is not None
    higher = [d for d in (2, 3, 7, 15, 31) if d > highest][:1]
    assert higher
    for agreement, more in ((0.9, higher), (1.0, []), (None, [])):
        chosen = replace(made.chosen, calibrated=replace(known, agreement=agreement))
        changes = found(alternatives.degrees, replace(made, chosen=chosen))
        assert [x.target.degree for x in changes] == [*wanted, *more]
    assert not found(alternatives.degrees, compiled(pooled("AveragePool")))  # the user chose one


def test_a_goal_is_only_proposed_where_none_was_given(averaging: Compilation) -> None:
    assert not found(alternatives.agreements, averaging)
    made = compiled(pooled("AveragePool"), Target(backend="tenseal"))
    (change,) = found(alternatives.agreements, made)
    assert change.target.min_agreement == 0.99
    assert change.what == "judge fits by their classes alone (--min-agreement 0.99)"


def test_no_goal_of_classes_is_proposed_where_none_are_told() -> None:
    constants = {"w": random(4, 3), "v": random(3, 1, seed=1)}
    nodes = [
        node("MatMul", "x,w", "a"),
        node("Relu", "a", "b"),
        node("MatMul", "b,v", "c"),
        node("Sigmoid", "c", "y"),
    ]
    tell = {}
    for last in ("c", "y"):
        model = network(
            nodes if last == "y" else nodes[:3], {"x": (1, 4)}, constants, outputs=(last,)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = choose(model, random(64, 4), Target(backend="tenseal"))
        tell[last] = len(found(alternatives.agreements, made))
    assert tell == {"c": 0, "y": 1}


def test_less_precision_is_tried(averaging: Compilation) -> None:
    (change,) = found(alternatives.precisions, averaging)
    bits = averaging.chosen.choice.precision
    assert change.target.precision == pytest.approx(bits - 2, abs=0.05)
    now, later = 2.0**-bits, 2.0**-change.target.precision
    assert later == pytest.approx(4 * now, rel=0.05)
    option = f"(--precision {change.target.precision:g})"
    assert change.what == f"allow outputs an error of {later:.2g} instead of {now:.2g} {option}"


def test_the_other_library_is_tried(averaging: Compilation) -> None:
    (change,) = found(alternatives.backends, averaging)
    assert change.target.backend == "openfhe"
    assert change.what == "run on OpenFHE, two threads (--backend openfhe)"
    there = replace(averaging, chosen=replace(averaging.chosen, backend="openfhe"))
    (change,) = found(alternatives.backends, there)
    assert (change.target.backend, change.what) == (
        "tenseal",
        "run a leveled program on SEAL (--backend tenseal)",
    )


def test_narrower_ranges_leave_out_the_most_extreme_samples(averaging: Compilation) -> None:
    (change,) = found(alternatives.narrower_ranges, averaging)
    assert (change.kind, change.what) == (
        "data",
        "keep activations in the range of 95 % of the samples (regularise)",
    )
    assert change.calibration.samples is not None and averaging.calibration.samples is not None
    kept = change.calibration.samples["x"]
    assert len(kept) == 91  # of 96
    graph = Subject(averaging).recognized
    position = next(x.operand for x in graph.operations if isinstance(x, Activation))
    reach = [np.abs(evaluate(graph, each)[position]).max()
             for each in (change.calibration.samples, averaging.calibration.samples)]  # fmt: skip
    assert reach[0] < reach[1]


def test_extremes_are_those_of_what_is_usual_for_each_activation() -> None:
    relu = Function("relu")
    large, small = affine(0, np.array([[100.0, 0.0]])), affine(0, np.array([[0.0, 1.0]]))
    recognized = graph(X, large, small, Activation(1, relu, (1, 1)), Activation(2, relu, (1, 1)))
    x = np.ones((21, 2))
    x[3, 0], x[7, 1] = 1.5, 10.0
    subject = SimpleNamespace(
        made=SimpleNamespace(calibration=Calibration({"x": x})),
        recognized=recognized,
        activations=lambda: [(i, recognized.operations[i]) for i in (3, 4)],
        changed=lambda what, kind, calibration: calibration,
    )
    (fewer,) = alternatives.narrower_ranges(subject)  # type: ignore[arg-type]
    np.testing.assert_array_equal(fewer.samples["x"], np.delete(x, 7, axis=0))  # type: ignore[attr-defined]


def test_all_rules_are_asked(averaging: Compilation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noted(rule: Rule) -> Rule:
        def note(subject: Subject) -> Sequence[Change]:
            asked.append(rule.__name__)
            return list(rule(subject))

        return note  # type: ignore[return-value]

    rules = tuple(map(noted, alternatives.RULES))
    monkeypatch.setattr(alternatives, "RULES", rules)
    changes: Callable[[Compilation], list[Change]] = alternatives.changes
    assert len(changes(averaging)) >= 5
    assert len(asked) == len(rules) == 11
