"""The full text of what the import says about operators of ai.onnx.ml."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from hec.compiler.errors import CompileError
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from ml_networks import ml, ml_network
from onnx_oracle import node, random

AGAIN = "export the model again, and check it with onnx.checker.check_model"
SHORT = "export the model again with short texts or whole numbers"
ON_CLIENT = "do this on the client after decryption"
ROWS: dict[str, Any] = {"coefficients": [1.0, 2.0, 3.0] * 2, "intercepts": [0.0, 1.0]}
ONE: dict[str, Any] = {"coefficients": [1.0, 2.0, 3.0], "intercepts": [0.0]}
PAIR: dict[str, Any] = {**ROWS, "classlabels_ints": [0, 1]}


def refusal(model: ModelProto) -> str:
    with pytest.raises(CompileError) as caught:
        import_onnx(model, Target())
    return str(caught.value)


def classifier(**attributes: Any) -> NodeProto:
    return ml("LinearClassifier", "x", "y,scores", **attributes)


NODES: list[tuple[NodeProto, str, str]] = [
    (
        classifier(**PAIR, post_transform="PROBIT"),
        "LinearClassifier with post_transform 'PROBIT' is not supported",
        "use NONE, LOGISTIC or SOFTMAX",
    ),
    (
        classifier(**PAIR, post_transform="SOFTMAX_ZERO"),
        "LinearClassifier with post_transform 'SOFTMAX_ZERO' is not supported",
        "use NONE, LOGISTIC or SOFTMAX",
    ),
    (
        classifier(**ONE, classlabels_ints=[0, 1], post_transform="SOFTMAX"),
        "LinearClassifier with one row of coefficients and SOFTMAX is not supported",
        "use LOGISTIC, or a row of coefficients for each class",
    ),
    (
        classifier(**ROWS, classlabels_ints=[0, 1, 2]),
        "LinearClassifier with 2 scores has 3 class labels",
        AGAIN,
    ),
    (
        classifier(**ONE, classlabels_ints=[4]),
        "LinearClassifier with 1 scores has 1 class labels",
        AGAIN,
    ),
    (classifier(**ROWS), "there are no class labels", SHORT),
    (
        classifier(**PAIR, classlabels_strings=["a", "b"]),
        "class labels are both numbers and texts",
        SHORT,
    ),
    (
        classifier(**ROWS, classlabels_strings=["a", "b" * 1001]),
        "a class label is longer than 1,000 characters",
        SHORT,
    ),
    (
        classifier(**ROWS, classlabels_strings=["a", "b\0"]),
        "a class label is no text that could be written",
        SHORT,
    ),
    (
        classifier(**ROWS, classlabels_strings=[b"a", b"\xff"]),
        "LinearClassifier has class labels that are not UTF-8",
        AGAIN,
    ),
    (
        classifier(coefficients=[1.0] * 5, intercepts=[0.0, 0.0], classlabels_ints=[0, 1]),
        "LinearClassifier with 5 coefficients and 2 intercepts does not fit 3 features",
        AGAIN,
    ),
    (
        classifier(coefficients=[1.0] * 6, classlabels_ints=[0, 1]),
        "LinearClassifier with 6 coefficients and 0 intercepts does not fit 3 features",
        AGAIN,
    ),
    (
        classifier(
            coefficients=[1.0, 2.0, float("nan")], intercepts=[0.0], classlabels_ints=[0, 1]
        ),
        "its weights divide by zero or overflow",
        "check that training did not diverge, and export again",
    ),
    (
        classifier(**{**PAIR, "post_transform": 3}),
        "the attribute 'post_transform' has the wrong type",
        AGAIN,
    ),
    (
        ml("LinearRegressor", "x", targets=-1, coefficients=[1.0]),
        "LinearRegressor with 1 coefficients and 0 intercepts does not fit 3 features",
        AGAIN,
    ),
    (
        ml("LinearRegressor", "x", coefficients=[1.0] * 3, post_transform="LOGISTIC"),
        "LinearRegressor with one target and a post_transform is not supported: "
        "onnxruntime ignores it",
        "remove the post_transform, or write it as an operator of its own",
    ),
    (
        ml("Scaler", "x", offset=[1.0, 2.0], scale=[1.0, 2.0]),
        "Scaler with 2 offsets and 2 scales does not fit an input of shape (1, 3)",
        AGAIN,
    ),
    (
        ml("Scaler", "x", scale=[1.0]),
        "Scaler with 0 offsets and 1 scales does not fit an input of shape (1, 3)",
        AGAIN,
    ),
    (
        ml("Normalizer", "x", norm="L3"),
        "Normalizer with norm 'L3' of an input of shape (1, 3)",
        AGAIN,
    ),
    (
        ml("ZipMap", "x", classlabels_int64s=[1, 2]),
        "ZipMap of an input of shape (1, 3) has 2 class labels",
        AGAIN,
    ),
    (
        ml("FeatureVectorizer", "x,x", inputdimensions=[3, 2]),
        "FeatureVectorizer of shapes [(1, 3), (1, 3)] with inputdimensions [3, 2] is not supported",
        "give each input as (1, n), with n as stated",
    ),
    (
        ml("TreeEnsembleRegressor", "x"),
        "TreeEnsembleRegressor is not supported",
        "trees compare, and encrypted numbers cannot be compared; use a linear model or an MLP",
    ),
    (
        ml("SVMClassifier", "x"),
        "SVMClassifier is not supported",
        "with a linear kernel use LinearSVC, LinearSVR or SGDClassifier, which export as one "
        "matrix; other kernels have no polynomial form here",
    ),
    (
        ml("OneHotEncoder", "x"),
        "OneHotEncoder is not supported",
        "look up and encode categories before encryption, and export with a float input",
    ),
    (ml("Imputer", "x"), "Imputer is not supported", "fill in missing values before encryption"),
    (
        ml("Binarizer", "x"),
        "Binarizer is not supported",
        "encrypted numbers cannot be compared; do this on the client",
    ),
    (
        ml("Unheard", "x"),
        "Unheard is not supported",
        "export with operators of the standard ONNX set only",
    ),
]


@pytest.mark.parametrize(
    ("proto", "message", "help"), NODES, ids=lambda x: getattr(x, "op_type", "")
)
def test_a_node_that_cannot_be_used_is_named(proto: NodeProto, message: str, help: str) -> None:
    found = refusal(ml_network([proto]))
    name = f"{proto.op_type}_y"
    place = f"net: node '{name}' -> tensor 'y'"
    assert found == f"{message}\n  --> {place}\n  help: {help}"


DEEP = [node("MatMul", "x,w", "h"), node("Relu", "h", "r")]
LOOKUPS: dict[str, tuple[object, str, str]] = {
    "too few": (np.array([1, 2]), "2 class labels do not fit 3 classes", AGAIN),
    "NaN": (
        np.array([1.0, np.inf, 3.0], np.float32),
        "class labels that are no whole numbers are not supported",
        AGAIN,
    ),
    "fractions": (
        np.array([1.0, 2.5, 3.0], np.float32),
        "class labels that are no whole numbers are not supported",
        AGAIN,
    ),
    "booleans": (
        np.array([True, False, True]),
        "class labels of type bool are not supported",
        AGAIN,
    ),
    "long": (
        np.array(["a", "b", "c" * 1001], object),
        "a class label is longer than 1,000 characters",
        SHORT,
    ),
    "none": (np.zeros(0, np.int64), "there are no class labels", SHORT),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_labels_that_cannot_be_looked_up_are_named(name: str) -> None:
    table, message, help = LOOKUPS[name]
    nodes = [node("ArgMax", "x", "i", axis=1), ml("ArrayFeatureExtractor", "table,i")]
    found = refusal(ml_network(nodes, constants={"table": table}))
    place = "net: node 'ArrayFeatureExtractor_y' -> tensor 'y'"
    assert found == f"{message}\n  --> {place}\n  help: {help}"


@pytest.mark.parametrize(
    ("nodes", "message", "help"),
    [
        (
            [*DEEP, ml("Normalizer", "r", "n"), node("Neg", "n", "m"), node("Relu", "m")],
            "Normalizer inside the network is not supported",
            "normalize the one input of the network, where the client does it before encryption",
        ),
        (
            [classifier(**PAIR), node("Relu", "scores", "z")],
            "LinearClassifier inside the network is not supported",
            "let its outputs be the network's, so that the client finds the label",
        ),
        (
            [ml("ZipMap", "x", classlabels_int64s=[1, 2, 3]), node("Relu", "y", "z")],
            "ZipMap inside the network is not supported",
            "keep it as the last operator",
        ),
        (
            [
                ml("LinearRegressor", "x", targets=2, post_transform="SOFTMAX", **ROWS),
                node("Relu", "y", "z"),
            ],
            "LinearRegressor with a post_transform inside the network is not supported",
            "write the post_transform as an operator of its own",
        ),
        (
            [ml("ArrayFeatureExtractor", "three,x", "y"), node("Relu", "y", "z")],
            "ArrayFeatureExtractor with encrypted positions is not supported",
            "use it after an ArgMax at the end, where the client looks up the class label",
        ),
        (
            [ml("ArrayFeatureExtractor", "x,three")],
            "ArrayFeatureExtractor: columns do not fit an input of shape (1, 3)",
            AGAIN,
        ),
        (
            [ml("ArrayFeatureExtractor", "x,real")],
            "ArrayFeatureExtractor without whole numbers of columns",
            AGAIN,
        ),
        (
            [node("ArgMax", "x", "i", axis=1), node("Add", "i,one")],
            "Add of classes is not supported",
            ON_CLIENT,
        ),
        (
            [classifier(**{**ROWS, "classlabels_strings": ["a", "b"]}),
             node("Cast", "y", "z", to=TensorProto.INT64)],
            "Cast of texts to numbers is not supported",
            "keep the labels as texts",
        ),
        (
            [node("Sigmoid", "x", "s"), node("Cast", "s", to=TensorProto.STRING)],
            "Cast of an encrypted tensor to string is not supported",
            AGAIN,
        ),
        (
            [node("Sigmoid", "x", "s"), node("Cast", "s", "c", to=TensorProto.FLOAT),
             node("Concat", "s,c", axis=1)],
            "Concat of tensors that the client finishes in different ways is not supported",
            ON_CLIENT,
        ),
        (
            [node("Softmax", "x", "s"), node("Concat", "s,s", "d", axis=1),
             node("Transpose", "d", "e"), node("Concat", "e,e", axis=3)],
            "Concat cannot be computed: ",
            AGAIN,
        ),
    ],
)  # fmt: skip
def test_a_place_that_does_not_suit_an_operator_is_named(
    nodes: list[NodeProto], message: str, help: str
) -> None:
    constants = {
        "w": random(3, 3), "three": np.array([0, 3]), "real": np.array([0.0]), "one": np.array(1)
    }  # fmt: skip
    outputs = [nodes[-1].output[0]]
    found = refusal(ml_network(nodes, outputs, constants))
    assert found.startswith(message) and found.endswith(f"\n  help: {help}")
    assert "\n  --> net: node '" in found


def test_moving_very_many_probabilities_is_refused() -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Transpose", "s", perm=[1, 0])]
    found = refusal(ml_network(nodes, shapes={"x": (1024, 1025)}))
    assert found == (
        "Transpose of 1,049,600 elements after the client's steps; the limit is 1,048,576\n"
        "  --> net: node 'Transpose_y' -> tensor 'y' of shape (1025, 1024)\n"
        f"  help: {ON_CLIENT}"
    )


def test_gigantic_lists_of_labels_end_in_an_error() -> None:
    labels = list(range(200_000))
    found = refusal(ml_network([classifier(**ROWS, classlabels_ints=labels)]))
    assert found.startswith("LinearClassifier with 2 scores has 200000 class labels\n")


def test_a_chain_of_many_layers_before_a_normalizer_does_not_overflow_the_stack() -> None:
    nodes = [ml("Scaler", "x" if k == 0 else f"a{k}", f"a{k + 1}", offset=[0.1], scale=[1.01])
             for k in range(300)]  # fmt: skip
    nodes += [ml("Normalizer", "a300", "n", norm="L1"), node("Relu", "n")]
    graph = import_onnx(ml_network(nodes), Target()).graph
    assert len(graph.operations[0].prologue) == 2  # type: ignore[union-attr]


def test_a_foreign_domain_stays_foreign() -> None:
    proto = helper.make_node("Scaler", ["x"], ["y"], domain="my.ops")
    assert refusal(ml_network([proto])).startswith("my.ops.Scaler is not supported\n")
