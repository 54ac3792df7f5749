"""Operators of ai.onnx.ml: what the client sees is what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto

from hec.compiler.calibration import Calibration
from hec.compiler.client_steps import Affine, Columns, Label, Normalize
from hec.compiler.errors import CompileError
from hec.compiler.evaluate import evaluate
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Input, inputs
from ml_networks import assert_client_sees_the_same, ml, ml_network, sample, seen_by_client
from onnx_oracle import ONNXRUNTIME, import_graph, node, random

X = sample(1.0, -2.0, 3.0)
ROWS = [0.5, 0.3, 0.1, -0.2, 0.4, 0.1, 0.3, -0.6, -0.2]  # scores 0.2, -0.7, 0.9
THREE: dict[str, Any] = {"coefficients": ROWS, "intercepts": [0.1, 0.2, -0.3]}
ONE: dict[str, Any] = {"coefficients": ROWS[:3], "intercepts": [0.0]}
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX")


def classifier(writes: str = "label,scores", **attributes: Any) -> NodeProto:
    return ml("LinearClassifier", "x", writes, **attributes)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    "labels", [{"classlabels_ints": [7, 3, -5]}, {"classlabels_strings": ["a", "naïve", ""]}]
)
def test_a_classifier_with_a_row_for_each_class(transform: str, labels: dict[str, Any]) -> None:
    model = ml_network(
        [classifier(post_transform=transform, **THREE, **labels)], ("label", "scores")
    )
    for seed in range(4):
        assert_client_sees_the_same(model, {"x": random(1, 3, seed=seed)})


def test_the_first_of_equal_scores_wins() -> None:
    equal = {"coefficients": [1.0, 0.0, 0.0] * 3, "intercepts": [0.0] * 3}
    model = ml_network([classifier("y,scores", classlabels_ints=[4, 5, 6], **equal)])
    graph = assert_client_sees_the_same(model, X)
    assert seen_by_client(graph, X)[0].tolist() == [4]


SIGNS = (X, sample(-1.0, 2.0, -3.0), sample(0.0, 0.0, 0.0))  # the last one scores 0


@pytest.mark.parametrize(
    "labels", [{"classlabels_ints": [7, 3]}, {"classlabels_strings": ["n", "y"]}]
)
def test_a_classifier_with_one_row_decides_by_its_sign(labels: dict[str, Any]) -> None:
    model = ml_network([classifier(**ONE, **labels)], ("label", "scores"))
    for x in SIGNS:
        assert_client_sees_the_same(model, x)


def test_one_row_gives_two_probabilities() -> None:
    """Until some release after 1.23, onnxruntime left out the logistic function here."""
    nodes = [classifier(**ONE, classlabels_ints=[7, 3], post_transform="LOGISTIC")]
    model = ml_network(nodes, ("label", "scores"))
    for x in SIGNS:
        if ONNXRUNTIME >= (1, 32):
            assert_client_sees_the_same(model, x)
        label, shares = seen_by_client(import_graph(model), x)
        score = float(x["x"][0] @ ROWS[:3])
        expected = [1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))]
        np.testing.assert_allclose(shares, [expected], rtol=0, atol=1e-7)
        assert label.tolist() == [3 if score > 0 else 7]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_regressor_with_several_targets(transform: str) -> None:
    model = ml_network([ml("LinearRegressor", "x", targets=3, post_transform=transform, **THREE)])
    assert_client_sees_the_same(model, X)


def test_a_regressor_needs_no_intercept() -> None:
    assert_client_sees_the_same(ml_network([ml("LinearRegressor", "x", coefficients=ROWS[:3])]), X)


@pytest.mark.parametrize(
    "scaling",
    [{"offset": [0.5], "scale": [2.0]}, {"offset": [1.0, -2.0, 0.5], "scale": [2.0, 0.5, 3.0]}],
)
def test_a_scaler_shifts_then_scales(scaling: dict[str, Any]) -> None:
    assert_client_sees_the_same(ml_network([ml("Scaler", "x", **scaling)]), X)


DENSE = [node("MatMul", "n,w", "h"), node("Relu", "h", "y")]
WEIGHTS = {"w": random(3, 4)}
NORMS = ("MAX", "L1", "L2")


@pytest.mark.parametrize("norm", NORMS)
def test_an_input_is_normalized_before_encryption(norm: str) -> None:
    model = ml_network([ml("Normalizer", "x", "n", norm=norm), *DENSE], constants=WEIGHTS)
    for x in (X, sample(0.0, 0.0, 0.0), sample(-4.0, -1.0, -2.0), sample(1e20, 1e19, -3e20)):
        if norm != "L2" or np.abs(x["x"]).max() < 1e10:  # onnxruntime's squares overflow
            graph = assert_client_sees_the_same(model, x)
    (x,) = [operation for _, operation in inputs(graph)]
    assert [step.name for step in x.prologue] == ["normalize"]


def test_the_length_of_large_numbers_does_not_overflow() -> None:
    found = Normalize("l2")(np.array([3e200, -4e200]))
    np.testing.assert_allclose(found, [0.6, -0.8], rtol=1e-15)


def test_what_leads_to_a_normalizer_is_the_clients_too() -> None:
    nodes = [
        ml("Scaler", "x", "a", offset=[1.0, 2.0, 3.0], scale=[2.0, 0.5, 1.0]),
        node("Cast", "a", "b", to=TensorProto.FLOAT),
        ml("ArrayFeatureExtractor", "b,order", "c"),
        ml("Normalizer", "c", "d", norm="L1"),
        node("Neg", "d", "e"),
        ml("Normalizer", "e", "n", norm="L2"),
        *DENSE,
    ]
    model = ml_network(nodes, constants={**WEIGHTS, "order": np.array([2, 0, 1])})
    graph = assert_client_sees_the_same(model, X)
    (x,) = [operation for _, operation in inputs(graph) if operation.prologue]
    names = ["affine", "normalize", "affine", "normalize"]
    assert [step.name for step in x.prologue] == names


def test_calibration_samples_are_normalized_like_inputs() -> None:
    model = ml_network([ml("Normalizer", "x", "n", norm="L2"), *DENSE], constants=WEIGHTS)
    graph = import_graph(model)
    samples = 100 * random(8, 3)
    seen = Calibration.from_samples(graph, samples, Target(), "net")
    assert seen.samples is not None
    np.testing.assert_allclose(np.linalg.norm(seen.samples["x"], axis=1), 1.0)
    expected = [seen_by_client(graph, {"x": row[None]})[0][0] for row in samples]
    found = evaluate(graph, seen.samples)[graph.outputs[0].operand]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::hec.compiler.errors.HecWarning")
def test_a_normalized_input_is_bounded_without_samples() -> None:
    model = ml_network([ml("Normalizer", "x", "y", norm="L1"), node("Neg", "y", "z")], ("z",))
    graph = import_graph(model)
    target = Target(input_range=(-100.0, 100.0))
    ranges = Calibration.from_samples(graph, None, target, "net").ranges(graph)
    assert ranges[0].interval() == (-1.0, 1.0)


def test_the_largest_of_negative_numbers_needs_samples() -> None:
    graph = import_graph(ml_network([ml("Normalizer", "x", "n"), *DENSE], constants=WEIGHTS))
    with pytest.raises(CompileError) as caught:
        Calibration.from_samples(graph, None, Target(), "net")
    assert str(caught.value) == (
        "without calibration data nothing is known of values divided by their largest\n"
        "  --> net: input 'x'\n"
        "  help: pass --calibration with a few hundred real inputs"
    )


def test_one_normalized_form_of_an_input_may_be_read_twice() -> None:
    nodes = [
        ml("Normalizer", "x", "a", norm="L2"),
        ml("Normalizer", "x", "b", norm="L2"),
        node("Add", "a,b", "n"),
        *DENSE,
    ]
    graph = assert_client_sees_the_same(ml_network(nodes, constants=WEIGHTS), X)
    assert [name for _, operation in inputs(graph) for name in [operation.name]] == ["x"]


@pytest.mark.parametrize("other", [node("Neg", "x", "b"), ml("Normalizer", "x", "b", norm="L1")])
def test_an_input_in_two_forms_is_refused(other: NodeProto) -> None:
    nodes = [ml("Normalizer", "x", "a", norm="L2"), other, node("Add", "a,b")]
    with pytest.raises(CompileError) as caught:
        import_graph(ml_network(nodes))
    assert str(caught.value) == (
        "the network reads this input in two forms: normalized, and as it is or otherwise\n"
        "  --> net: input 'x'\n"
        "  help: leave the Normalizer out of the pipeline, and normalize before encryption"
    )


@pytest.mark.parametrize(
    "labels", [{"classlabels_int64s": [0, 1, 5]}, {"classlabels_strings": ["a", "b", "c"]}]
)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_maps_of_probabilities_are_arrays_with_named_columns(
    transform: str, labels: dict[str, Any]
) -> None:
    nodes = [
        classifier("label,s", post_transform=transform, classlabels_ints=[0, 1, 5], **THREE),
        ml("Normalizer", "s", "p", norm="L1"),
        ml("ZipMap", "p", **labels),
    ]
    graph = assert_client_sees_the_same(ml_network(nodes), X)
    last = graph.outputs[0].epilogue[-1]
    assert isinstance(last, Columns)
    assert list(last.classes.names) == next(iter(labels.values()))


def mlp(classes: object, final: tuple[NodeProto, ...]) -> Any:
    """Return the network that skl2onnx writes for an MLPClassifier of these classes."""
    nodes = [
        node("Cast", "x", "x1", to=TensorProto.FLOAT),
        node("MatMul", "x1,w", "h"),
        node("Tanh", "h", "a"),
        node("MatMul", "a,v", "t"),
        node("Add", "t,b", "u"),
        *final,
        node("ArgMax", "p", "i", axis=1),
        ml("ArrayFeatureExtractor", "classes,i", "f"),
        node("Reshape", "f,flat", "g"),
    ]
    few = 1 if final[0].op_type == "Sigmoid" else 3
    constants = {
        "w": random(3, 4), "v": random(4, few), "b": random(few), "one": np.float32(1),
        "classes": classes, "flat": np.array([-1]),
    }  # fmt: skip
    return nodes, constants


PAIR = (
    node("Sigmoid", "u", "q"),
    node("Sub", "one,q", "r"),
    node("Concat", "r,q", "p", axis=1),
)
SHARES = (node("Softmax", "u", "s", axis=1), node("Identity", "s", "p"))


@pytest.mark.parametrize(
    ("final", "classes"),
    [(PAIR, np.array([4, 9], np.int32)), (SHARES, np.array([4, 9, -1], np.int32))],
)
def test_a_perceptron_finds_its_label(
    final: tuple[NodeProto, ...], classes: np.ndarray[Any, Any]
) -> None:
    nodes, constants = mlp(classes, final)
    nodes.append(node("Cast", "g", "y", to=TensorProto.INT64))
    model = ml_network(nodes, ("y", "p"), constants)
    for seed in range(6):
        graph = assert_client_sees_the_same(model, {"x": random(1, 3, seed=seed)})
    names = [type(operation).__name__ for operation in graph.operations]
    assert names.count("Activation") == 1  # the last one is the client's


@pytest.mark.parametrize(
    ("final", "classes"), [(PAIR, ["no", "yes"]), (SHARES, ["setosa", "versicolor", "virginica"])]
)
def test_labels_may_be_texts(final: tuple[NodeProto, ...], classes: list[str]) -> None:
    nodes, constants = mlp(np.array(classes, object), final)
    for to_text in (node("Identity", "g"), node("Cast", "g", to=TensorProto.STRING)):
        model = ml_network([*nodes, to_text], ("y", "p"), constants)
        for seed in range(6):
            assert_client_sees_the_same(model, {"x": random(1, 3, seed=seed)})


def test_whole_labels_become_texts_by_a_cast() -> None:
    nodes, constants = mlp(np.array([4, 9, -1], np.int64), SHARES)
    nodes.append(node("Cast", "g", "y", to=TensorProto.STRING))
    assert_client_sees_the_same(ml_network(nodes, ("y",), constants), X)


def test_columns_are_selected_inside_and_at_the_end() -> None:
    constants = {"two": np.array([[2, 0]]), "last": np.array(2)}
    nodes = [
        ml("ArrayFeatureExtractor", "x,two", "a"),
        ml("LinearRegressor", "a", coefficients=[1.0, 2.0]),
    ]
    assert_client_sees_the_same(ml_network(nodes, constants=constants), X)
    nodes = [
        classifier("label,s", post_transform="SOFTMAX", classlabels_ints=[0, 1, 2], **THREE),
        ml("ArrayFeatureExtractor", "s,last"),
    ]
    assert_client_sees_the_same(ml_network(nodes, constants=constants), X)


def test_one_input_for_each_column_as_for_a_data_frame() -> None:
    shapes = {name: (None, 1) for name in ("age", "height", "weight")}
    nodes = [
        node("Concat", "age,height,weight", "x", axis=1),
        ml("Scaler", "x", "s", offset=[1.0, 2.0, 3.0], scale=[2.0, 0.5, 1.0]),
        ml("LinearClassifier", "s", "label,y", post_transform="SOFTMAX",
           classlabels_strings=["a", "b", "c"], **THREE),
    ]  # fmt: skip
    model = ml_network(nodes, ("label", "y"), shapes=shapes)
    samples = {name: random(1, 1, seed=seed) for seed, name in enumerate(shapes)}
    assert_client_sees_the_same(model, samples)


REARRANGED = [
    [node("Mul", "p,hundred")],
    [node("Div", "p,hundred", "a"), node("Add", "one,a")],
    [node("Neg", "p", "a"), node("Sub", "a,row")],
    [node("Transpose", "p", perm=[1, 0])],
    [node("Slice", "p,first,third,axis", "y")],
    [node("Gather", "p,order", axis=1)],
    [node("Split", "p,sizes", "a,b", axis=1), node("Concat", "b,a,row", axis=1)],
    [node("Reshape", "p,flat", "a"), node("Mul", "a,hundred", "b"), node("Concat", "b,a", axis=0)],
]  # fmt: skip


@pytest.mark.parametrize("nodes", REARRANGED, ids=lambda nodes: "-".join(n.op_type for n in nodes))
def test_probabilities_may_be_moved_and_scaled(nodes: list[NodeProto]) -> None:
    constants = {
        "hundred": np.float32(100), "one": np.float32(1), "row": random(1, 3),
        "axis": np.array([1]), "first": np.array([1]), "third": np.array([3]),
        "order": np.array([2, 0, 0]), "sizes": np.array([1, 2]), "flat": np.array([-1]),
    }  # fmt: skip
    model = ml_network([node("Softmax", "x", "p", axis=1), *nodes], constants=constants)
    graph = assert_client_sees_the_same(model, X)
    assert len(graph.operations) == 1  # all of it is the client's
    steps = graph.outputs[0].epilogue
    assert sum(isinstance(step, Affine) for step in steps) == 1  # they compose


def test_a_sigmoid_that_the_network_needs_stays_in_it() -> None:
    for last in (node("Mul", "x,s"), node("Mul", "s,s"), node("Concat", "x,s", axis=1)):
        graph = assert_client_sees_the_same(ml_network([node("Sigmoid", "x", "s"), last]), X)
        assert isinstance(graph.operations[1], Activation)
        assert graph.outputs[0].epilogue == ()
    first = import_graph(ml_network([node("Sigmoid", "x")])).operations
    assert len(first) == 1 and isinstance(first[0], Input)


def test_a_label_step_knows_its_classes() -> None:
    model = ml_network([classifier("y,scores", classlabels_strings=["a", "b", "c"], **THREE)])
    last = import_graph(model).outputs[0].epilogue[-1]
    assert isinstance(last, Label) and last.classes.names == ("a", "b", "c")
