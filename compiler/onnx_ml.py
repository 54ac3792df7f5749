"""The operators of ai.onnx.ml that scikit-learn's exporter writes around linear models.

A classifier gives its label and its scores. Both start from the same encrypted numbers; whatever
compares or divides is left to the client, so a classifier is one matrix.
Source: ONNX, Operators-ml.md; where that is silent, what onnxruntime computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Final

import numpy as np
from onnx import AttributeProto, helper

from hec.compiler.client_shapes import follow
from hec.compiler.client_steps import Affine, Classes, Columns, Label, Norm, Normalize
from hec.compiler.onnx_client import normalize_input
from hec.compiler.onnx_matrices import element_numbers, gather, select
from hec.compiler.onnx_movement import convert_movement
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_products import broadcast_matrix
from hec.compiler.onnx_values import (
    Constant,
    Encrypted,
    GraphBuilder,
    NodeError,
    Value,
    check_shape,
)
from hec.compiler.tensor_ir import ClientStep, EpilogueStep

DOMAIN: Final = "ai.onnx.ml"
_NORMS: Final[dict[str, Norm]] = {"MAX": "max", "L1": "l1", "L2": "l2"}
_STEPS: Final[dict[str, tuple[ClientStep, ...]]] = {
    "NONE": (),
    "LOGISTIC": (EpilogueStep("sigmoid"),),
    "SOFTMAX": (EpilogueStep("softmax", axis=-1),),
}


def convert_linear_classifier(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn LinearClassifier into one matrix; the client finds the label and the probabilities."""
    classes = _classes(node, "classlabels_ints", "classlabels_strings")
    steps = _transform(node)
    if not node.is_final:
        raise NodeError(
            "LinearClassifier inside the network is not supported",
            "let its outputs be the network's, so that the client finds the label",
        )
    intercepts = _reals(node, "intercepts")
    rows = len(intercepts)
    scores = _linear(builder, node, rows, intercepts)
    if len(classes) != max(rows, 2):
        raise NodeError(f"LinearClassifier with {rows} scores has {len(classes)} class labels")
    position = EpilogueStep("argmax", axis=-1, keep_axis=False)
    if rows > 1:
        label = builder.finish(scores, (1,), position, Label(classes))
        return [label, builder.finish(scores, scores.shape, *steps) if steps else scores]
    if steps == _STEPS["SOFTMAX"]:
        raise NodeError(
            "LinearClassifier with one row of coefficients and SOFTMAX is not supported",
            "use LOGISTIC, or a row of coefficients for each class",
        )
    label = builder.finish(scores, (1,), _PAIR_BY_SIGN, position, Label(classes))
    return [label, builder.finish(scores, (1, 2), *steps, _PAIR_OF_SHARES)]


# The second class wins where its score, the only one there is, is above 0.
_PAIR_BY_SIGN: Final = Affine((0, 0), (0.0, 1.0), (0.0, 0.0), (1, 2))
_PAIR_OF_SHARES: Final = Affine((0, 0), (-1.0, 1.0), (1.0, 0.0), (1, 2))


def convert_linear_regressor(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn LinearRegressor into one matrix."""
    targets = node.integer("targets", 1)
    intercepts = _reals(node, "intercepts") or [0.0] * max(targets, 0)
    steps = _transform(node)
    if steps and targets == 1:
        raise NodeError(
            "LinearRegressor with one target and a post_transform is not supported: "
            "onnxruntime ignores it",
            "remove the post_transform, or write it as an operator of its own",
        )
    scores = _linear(builder, node, targets, intercepts)
    if not steps:
        return [scores]
    if not node.is_final:
        raise NodeError(
            "LinearRegressor with a post_transform inside the network is not supported",
            "write the post_transform as an operator of its own",
        )
    return [builder.finish(scores, scores.shape, *steps)]


def _linear(builder: GraphBuilder, node: Node, rows: int, intercepts: list[float]) -> Encrypted:
    x = node.encrypted(0)
    features = x.shape[-1] if x.shape else 0
    coefficients = _reals(node, "coefficients")
    if x.shape not in ((features,), (1, features)):
        raise NodeError(f"{node.operator} of an input of shape {x.shape}: give one sample, (1, n)")
    if rows < 1 or len(coefficients) != rows * features or len(intercepts) != rows:
        raise NodeError(
            f"{node.operator} with {len(coefficients)} coefficients and {len(intercepts)} "
            f"intercepts does not fit {features} features"
        )
    weights = np.array(coefficients).reshape(rows, features)
    matrix = gather(np.tile(np.arange(features), (rows, 1)), weights, features)
    shape = check_shape((1, rows))
    return builder.linear([(x.position, matrix)], np.array(intercepts), shape, node.origin)


def _transform(node: Node) -> tuple[ClientStep, ...]:
    name = node.text("post_transform", "NONE")
    if name not in _STEPS:
        raise NodeError(
            f"{node.operator} with post_transform '{name}' is not supported",
            "use NONE, LOGISTIC or SOFTMAX",
        )
    return _STEPS[name]


def convert_scaler(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Scaler, (x - offset) * scale, into a scaling per feature."""
    x = node.encrypted(0)
    offset, scale = (np.array(_reals(node, name)) for name in ("offset", "scale"))
    features = x.shape[-1] if x.shape else 0
    if len(x.shape) not in (1, 2) or len(offset) != len(scale) or len(scale) not in (1, features):
        raise NodeError(
            f"Scaler with {len(offset)} offsets and {len(scale)} scales does not fit "
            f"an input of shape {x.shape}"
        )
    matrix = broadcast_matrix(x.shape, x.shape, scale)
    return [builder.linear([(x.position, matrix)], -offset * scale, x.shape, node.origin)]


def convert_normalizer(builder: GraphBuilder, node: Node) -> list[Value]:
    """Leave Normalizer to the client: before encryption, or after decryption."""
    x = node.encrypted(0)
    name = node.text("norm", "MAX")
    if name not in _NORMS or len(x.shape) not in (1, 2):
        raise NodeError(f"Normalizer with norm '{name}' of an input of shape {x.shape}")
    normalized = normalize_input(builder, x, _NORMS[name])
    if normalized is not None:
        return [normalized]
    if node.is_final:
        return [builder.finish(x, x.shape, Normalize(_NORMS[name]))]
    raise NodeError(
        "Normalizer inside the network is not supported",
        "normalize the one input of the network, where the client does it before encryption",
    )


def convert_feature_vectorizer(builder: GraphBuilder, node: Node) -> list[Value]:
    """Put the columns of several inputs side by side."""
    sizes = list(node.integers("inputdimensions", ()))
    shapes = [node.encrypted(k).shape for k in range(len(node.inputs))]
    if any(len(shape) != 2 for shape in shapes) or sizes != [shape[1] for shape in shapes]:
        raise NodeError(
            f"FeatureVectorizer of shapes {shapes} with inputdimensions {sizes} is not supported",
            "give each input as (1, n), with n as stated",
        )
    concat = helper.make_node(
        "Concat", list(node.proto.input), list(node.proto.output), name=node.proto.name, axis=1
    )
    return convert_movement(builder, replace(node, proto=concat))


def convert_zip_map(builder: GraphBuilder, node: Node) -> list[Value]:
    """Keep the array of probabilities, and the labels of its columns."""
    x = node.encrypted(0)
    classes = _classes(node, "classlabels_int64s", "classlabels_strings")
    if not x.shape or len(classes) != x.shape[-1]:
        raise NodeError(f"ZipMap of an input of shape {x.shape} has {len(classes)} class labels")
    if not node.is_final:
        raise NodeError(
            "ZipMap inside the network is not supported", "keep it as the last operator"
        )
    return [builder.finish(x, x.shape, Columns(classes))]


def convert_array_feature_extractor(builder: GraphBuilder, node: Node) -> list[Value]:
    """Select columns by constant numbers, or class labels by the client's arg-max."""
    if isinstance(node.required(0), Encrypted):
        return [_select_columns(builder, node)]
    positions, table = node.encrypted(1), node.constant(0)
    classes = _classes_of(table if table is not None else np.zeros(0))
    state = follow(builder.operations[positions.position].shape, positions.epilogue)
    if state.positions is None:
        raise NodeError(
            "ArrayFeatureExtractor with encrypted positions is not supported",
            "use it after an ArgMax at the end, where the client looks up the class label",
        )
    if len(classes) != state.positions:
        raise NodeError(f"{len(classes)} class labels do not fit {state.positions} classes")
    shape = check_shape((1, prod(positions.shape)))
    back = EpilogueStep("reshape", shape=shape)
    return [builder.finish(positions, shape, Label(classes), back)]


def _select_columns(builder: GraphBuilder, node: Node) -> Encrypted:
    x, chosen = node.encrypted(0), node.constant(1)
    if chosen is None or chosen.dtype.kind not in "iu" or not x.shape:
        raise NodeError("ArrayFeatureExtractor without whole numbers of columns")
    columns = [int(k) for k in chosen.reshape(-1)]
    if not all(0 <= k < x.shape[-1] for k in columns):
        raise NodeError(f"ArrayFeatureExtractor: columns do not fit an input of shape {x.shape}")
    numbers = element_numbers(x.shape).reshape(-1, x.shape[-1])[:, columns]
    shape = check_shape((*x.shape[:-1], len(columns)) if len(x.shape) > 1 else (1, len(columns)))
    return builder.linear([(x.position, select(numbers, prod(x.shape)))], 0.0, shape, node.origin)


def _classes(node: Node, numbers: str, texts: str) -> Classes:
    found = node.attribute(numbers, AttributeProto.INTS)
    listed = node.attribute(texts, AttributeProto.STRINGS)
    try:
        names = () if listed is None else tuple(text.decode("utf-8") for text in listed.strings)
    except UnicodeDecodeError:
        raise NodeError(f"{node.operator} has class labels that are not UTF-8") from None
    return _checked(Classes(() if found is None else tuple(found.ints), names))


def _classes_of(table: Constant) -> Classes:
    """Return the labels in a constant of the network."""
    flat = table.reshape(-1)
    if table.dtype.kind in "OSU":
        texts = (x.decode("utf-8") if isinstance(x, bytes) else str(x) for x in flat.tolist())
        return _checked(Classes(texts=tuple(texts)))
    whole = table.dtype.kind != "f" or (np.isfinite(flat) & (flat == np.trunc(flat))).all()
    if not whole:
        raise NodeError("class labels that are no whole numbers are not supported")
    if table.dtype.kind not in "iuf":
        raise NodeError(f"class labels of type {table.dtype} are not supported")
    return _checked(Classes(tuple(int(number) for number in flat)))


def _checked(classes: Classes) -> Classes:
    problem = classes.problem()
    if problem:
        raise NodeError(problem, "export the model again with short texts or whole numbers")
    return classes


def _reals(node: Node, name: str) -> list[float]:
    found = node.attribute(name, AttributeProto.FLOATS)
    return [] if found is None else list(found.floats)


CONVERTERS: Final[dict[str, Callable[[GraphBuilder, Node], list[Value]]]] = {
    "ArrayFeatureExtractor": convert_array_feature_extractor,
    "FeatureVectorizer": convert_feature_vectorizer,
    "LinearClassifier": convert_linear_classifier,
    "LinearRegressor": convert_linear_regressor,
    "Normalizer": convert_normalizer,
    "Scaler": convert_scaler,
    "ZipMap": convert_zip_map,
}
