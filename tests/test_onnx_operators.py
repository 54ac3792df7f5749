"""Every operator, in every form its options and operator-set versions take, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hec.compiler.onnx_import import _CONVERTERS
from hec.compiler.tensor_ir import Activation
from onnx_oracle import Case, assert_same_as_onnxruntime, network, node, random
from test_onnx_linear import CASES as LINEAR
from test_onnx_movement import CASES as MOVEMENTS
from test_onnx_products import CASES as PRODUCTS

IMAGE = {"x": (2, 6, 7, 5)}
SIGNAL = {"x": (1, 4, 11)}
MATRIX = {"x": (3, 4)}
TOTAL = ("Abs", "Asinh", "Atan", "Cos", "Cosh", "Erf", "Exp", "Sign", "Sin", "Sinh")
PARTIAL = ("Acos", "Acosh", "Asin", "Atanh", "Log", "Reciprocal", "Sqrt", "Tan")  # elsewhere NaN
PAIR = {"a": (2, 3, 4), "b": (3, 1)}
SCALE = {"s": random(6) + 3, "h": random(6), "m": random(6), "v": abs(random(6)) + 0.5}


def _tensor(values: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values))


CASES: dict[str, tuple[Any, ...]] = {
    "conv 1x1": (node("Conv", "x,w"), IMAGE, {"w": random(4, 6, 1, 1)}),
    "conv bias": (
        node("Conv", "x,w,b", pads=[1, 0, 2, 1], strides=[2, 3]),
        IMAGE,
        {"w": random(4, 6, 3, 2), "b": random(4)},
    ),
    "conv group": (
        node("Conv", "x,w", group=3, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        IMAGE,
        {"w": random(9, 2, 3, 3)},
    ),
    "conv depthwise dilated": (
        node("Conv", "x,w", group=6, dilations=[2, 1], pads=[2, 1, 2, 1]),
        IMAGE,
        {"w": random(6, 1, 3, 3)},
    ),
    "conv same upper": (
        node("Conv", "x,w", auto_pad="SAME_UPPER", strides=[2, 2]),
        IMAGE,
        {"w": random(4, 6, 3, 4)},
    ),
    "conv same lower": (
        node("Conv", "x,w", auto_pad="SAME_LOWER", strides=[2, 2]),
        IMAGE,
        {"w": random(4, 6, 3, 4)},
    ),
    "conv valid": (node("Conv", "x,w", auto_pad="VALID"), IMAGE, {"w": random(4, 6, 3, 4)}),
    "conv 1-d": (
        node("Conv", "x,w,b", pads=[2, 1], strides=[3], dilations=[2]),
        SIGNAL,
        {"w": random(5, 4, 3), "b": random(5)},
    ),
    "conv 3-d": (
        node("Conv", "x,w", pads=[1, 0, 1, 1, 1, 0]),
        {"x": (1, 2, 4, 3, 5)},
        {"w": random(3, 2, 2, 3, 2)},
    ),
    "conv zero weights": (
        node("Conv", "x,w"),
        IMAGE,
        {"w": random(4, 6, 3, 2) * (random(4, 6, 3, 2, seed=1) > 0)},
    ),
    "pool": (node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1]), IMAGE),
    "pool padded": (node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 2, 0, 1]), IMAGE),
    "pool include": (
        node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 2, 0, 1], count_include_pad=1),
        IMAGE,
    ),
    "pool ceil": (
        node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        IMAGE,
        {},
        19,
    ),
    "pool ceil include": (
        node(
            "AveragePool",
            "x",
            kernel_shape=[3, 3],
            strides=[2, 3],
            pads=[1, 1, 1, 1],
            ceil_mode=1,
            count_include_pad=1,
        ),
        {"x": (1, 2, 8, 6)},
        {},
        19,
    ),
    "pool ceil starts in padding": (
        node(
            "AveragePool", "x", kernel_shape=[1, 2], strides=[2, 2], pads=[0, 1, 0, 1], ceil_mode=1
        ),
        {"x": (1, 2, 4, 4)},
        {},
        19,
    ),
    "pool dilated": (
        node("AveragePool", "x", kernel_shape=[3, 2], dilations=[2, 3], pads=[1, 1, 1, 1]),
        IMAGE,
        {},
        19,
    ),
    "pool same": (
        node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        IMAGE,
    ),
    "pool same lower": (
        node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
        IMAGE,
    ),
    "pool 1-d opset 7": (node("AveragePool", "x", kernel_shape=[3], strides=[2]), SIGNAL, {}, 7),
    "global pool": (node("GlobalAveragePool", "x"), IMAGE),
    "global pool 1-d": (node("GlobalAveragePool", "x"), SIGNAL),
    "gemm": (node("Gemm", "x,w,b"), MATRIX, {"w": random(4, 5), "b": random(5)}),
    "gemm options": (
        node("Gemm", "x,w,b", alpha=0.5, beta=-2.0, transA=1, transB=1),
        MATRIX,
        {"w": random(5, 3), "b": random(4, 1)},
    ),
    "gemm no bias": (node("Gemm", "x,w", transB=1), MATRIX, {"w": random(5, 4)}),
    "gemm right": (
        node("Gemm", "w,x,b", transA=1, alpha=2.0),
        MATRIX,
        {"w": random(3, 5), "b": random(1, 4)},
    ),
    "gemm right transposed": (node("Gemm", "w,x", transB=1), MATRIX, {"w": random(2, 4)}),
    "gemm encrypted bias": (
        node("Gemm", "a,w,b", beta=3.0),
        {"a": (2, 4), "b": (3,)},
        {"w": random(4, 3)},
    ),
    "gemm only bias encrypted": (
        node("Gemm", "u,w,x", alpha=2.0),
        {"x": (2, 1)},
        {"u": random(2, 4), "w": random(4, 3)},
    ),
    "gemm opset 7": (node("Gemm", "x,w,b"), MATRIX, {"w": random(4, 5), "b": random(5)}, 7),
    "matmul": (node("MatMul", "x,w"), MATRIX, {"w": random(4, 5)}),
    "matmul left": (node("MatMul", "w,x"), MATRIX, {"w": random(2, 3)}),
    "matmul vector": (node("MatMul", "x,w"), MATRIX, {"w": random(4)}),
    "matmul left vector": (node("MatMul", "w,x"), MATRIX, {"w": random(3)}),
    "matmul encrypted vector": (node("MatMul", "x,w"), {"x": (4,)}, {"w": random(2, 4, 3)}),
    "matmul inner product": (node("MatMul", "w,x"), {"x": (4,)}, {"w": random(4)}),
    "matmul batched": (node("MatMul", "x,w"), {"x": (2, 1, 3, 4)}, {"w": random(5, 4, 2)}),
    "matmul batched left": (node("MatMul", "w,x"), {"x": (2, 1, 3, 4)}, {"w": random(5, 2, 3)}),
    "matmul sequence": (node("MatMul", "x,w"), {"x": (1, 3, 4)}, {"w": random(4, 2)}),
    "matmul repeats encrypted": (node("MatMul", "x,w"), {"x": (3, 4)}, {"w": random(2, 4, 2)}),
    "batch norm": (node("BatchNormalization", "x,s,h,m,v", epsilon=0.01), IMAGE, SCALE),
    "batch norm opset 7": (node("BatchNormalization", "x,s,h,m,v"), IMAGE, SCALE, 7),
    "batch norm opset 14": (node("BatchNormalization", "x,s,h,m,v"), IMAGE, SCALE, 14),
    "batch norm flat": (node("BatchNormalization", "x,s,h,m,v"), {"x": (2, 6)}, SCALE),
    "mean": (node("ReduceMean", "x", axes=[-1, 1], keepdims=0), IMAGE),
    "mean all": (node("ReduceMean", "x"), MATRIX),
    "mean input axes": (node("ReduceMean", "x,a", keepdims=0), IMAGE, {"a": [2, 3]}, 18),
    "mean noop": (node("ReduceMean", "x", noop_with_empty_axes=1), MATRIX, {}, 18),
    "sum axes": (node("ReduceSum", "x", axes=[2, 0]), IMAGE, {}, 11),
    "sum input axes": (node("ReduceSum", "x,a"), IMAGE, {"a": [1]}, 13),
    "sum empty axes": (
        node("ReduceSum", "x,a", keepdims=0),
        MATRIX,
        {"a": np.zeros(0, np.int64)},
        13,
    ),
    "add constant": (node("Add", "x,w"), MATRIX, {"w": random(4)}),
    "add constant wider": (node("Add", "w,x"), MATRIX, {"w": random(2, 1, 4)}),
    "add": (node("Add", "a,b"), PAIR),
    "add same": (node("Add", "x,x"), MATRIX),
    "sub": (node("Sub", "a,b"), PAIR),
    "sub same": (node("Sub", "x,x"), MATRIX),
    "sub from constant": (node("Sub", "w,x"), MATRIX, {"w": random(3, 1)}),
    "sub constant opset 7": (node("Sub", "x,w"), MATRIX, {"w": random(3, 1)}, 7),
    "mul constant": (node("Mul", "x,w"), MATRIX, {"w": random(2, 3, 1)}),
    "mul constant left": (node("Mul", "w,x"), MATRIX, {"w": np.float32(3.0)}),
    "mul": (node("Mul", "a,b"), PAIR),
    "mul same": (node("Mul", "x,x"), MATRIX),
    "div": (node("Div", "x,w"), MATRIX, {"w": random(3, 1) + 5}),
    "div encrypted": (node("Div", "a,b"), PAIR),
    "div constant by encrypted": (node("Div", "w,x"), MATRIX, {"w": random(2, 3, 1)}),
    "max": (node("Max", "a,b"), PAIR),
    "max constant": (node("Max", "w,x"), MATRIX, {"w": random(2, 3, 1)}),
    "max constants": (node("Max", "w,x,v"), MATRIX, {"w": random(4), "v": random(3, 1)}),
    "max of one": (node("Max", "x"), MATRIX),
    "max same": (node("Max", "x,x"), MATRIX),
    "max opset 7": (node("Max", "a,b"), {"a": (3, 4), "b": (3, 4)}, {}, 7),
    "min": (node("Min", "a,b"), PAIR),
    "min constant": (node("Min", "x,w"), MATRIX, {"w": random(4)}),
    "min constants": (node("Min", "w,x,v"), MATRIX, {"w": random(4), "v": random(3, 1)}),
    "max pool of pixels": (node("MaxPool", "x", kernel_shape=[1, 1], strides=[2, 3]), IMAGE),
    "global max pool of a pixel": (node("GlobalMaxPool", "x"), {"x": (1, 3, 1, 1)}),
    "reduce max of one": (node("ReduceMax", "x", axes=[1], keepdims=0), {"x": (3, 1)}),
    "reduce min of one": (node("ReduceMin", "x,a"), {"x": (3, 1)}, {"a": [1]}, 18),
    "neg": (node("Neg", "x"), MATRIX),
    "sum": (node("Sum", "a,b,w"), PAIR, {"w": random(4)}),
    "sum of one": (node("Sum", "x"), MATRIX),
    "mean of tensors": (node("Mean", "a,b,w"), PAIR, {"w": random(4)}),
    "relu": (node("Relu", "x"), MATRIX),
    "leaky relu": (node("LeakyRelu", "x", alpha=0.2), MATRIX),
    "leaky relu default": (node("LeakyRelu", "x"), MATRIX),
    "tanh": (node("Tanh", "x"), MATRIX),
    "prelu one slope": (node("PRelu", "x,s"), MATRIX, {"s": np.float32([0.3])}),
    "prelu channels": (node("PRelu", "x,s"), IMAGE, {"s": random(6, 1, 1)}),
    **{
        f"{operator} {number}": (node(operator, "x", **options), MATRIX, {}, opset)
        for operator, opset, *forms in (
            *((name, 17, {}) for name in TOTAL + PARTIAL),
            ("Celu", 17, {}, {"alpha": 0.5}),
            ("Elu", 17, {}, {"alpha": 0.5}),
            ("Gelu", 20, {}, {"approximate": "tanh"}),
            ("HardSigmoid", 17, {}, {"alpha": 0.6, "beta": 0.1}),
            ("HardSwish", 17, {}),
            ("Mish", 18, {}),
            ("Selu", 17, {}, {"alpha": 2.0, "gamma": 0.5}),
            ("Shrink", 17, {}, {"bias": 0.25, "lambd": 0.75}),
            ("Swish", 24, {}, {"alpha": 1.702}),
            ("Softplus", 17, {}),
            ("Softsign", 17, {}),
            ("ThresholdedRelu", 17, {}, {"alpha": 0.4}),
        )
        for number, options in enumerate(forms)
    },
    "clip": (node("Clip", "x,l,h"), MATRIX, {"l": np.float32(-0.5), "h": np.float32(0.25)}),
    "clip low": (node("Clip", "x,l"), MATRIX, {"l": np.float32(-0.5)}),
    "clip at zero": (node("Clip", "x,l"), MATRIX, {"l": np.float32(0)}),
    "clip high": (node("Clip", "x,,h"), MATRIX, {"h": np.float32(0.25)}),
    "clip nothing": (node("Clip", "x"), MATRIX),
    "clip infinite": (
        node("Clip", "x,l,h"),
        MATRIX,
        {"l": np.float32(-np.inf), "h": np.float32(np.inf)},
    ),
    "clip opset 7": (node("Clip", "x", min=-0.5, max=0.25), MATRIX, {}, 7),
    "clip low opset 7": (node("Clip", "x", min=0.0), MATRIX, {}, 7),
    "identity": (node("Identity", "x"), MATRIX),
    "dropout": (node("Dropout", "x"), MATRIX),
    "dropout opset 7": (node("Dropout", "x", ratio=0.3), MATRIX, {}, 7),
    "dropout options": (
        node("Dropout", "x,r,t"),
        MATRIX,
        {"r": np.float32(0.3), "t": np.bool_(False)},
    ),
    "cast to float": (node("Cast", "x", to=TensorProto.FLOAT), MATRIX),
    "cast to double": (node("Cast", "x", to=TensorProto.DOUBLE), MATRIX),
    "cast to int": (node("Cast", "x", to=TensorProto.INT64), MATRIX),
    "softmax": (node("Softmax", "x"), IMAGE),
    "softmax axis": (node("Softmax", "x", axis=1), IMAGE),
    "softmax opset 11": (node("Softmax", "x", axis=2), IMAGE, {}, 11),
    "softmax default axis opset 11": (node("Softmax", "x"), IMAGE, {}, 11),
    "softmax matrix opset 7": (node("Softmax", "x"), MATRIX, {}, 7),
    "log softmax": (node("LogSoftmax", "x", axis=0), MATRIX),
    "log softmax opset 11": (node("LogSoftmax", "x", axis=-2), IMAGE, {}, 11),
    "argmax": (node("ArgMax", "x", axis=1, keepdims=0), IMAGE),
    "argmax default": (node("ArgMax", "x"), MATRIX, {}, 11),
    "sigmoid last": (node("Sigmoid", "x"), MATRIX),
}


@pytest.mark.parametrize("name", CASES)
def test_operator_means_what_onnxruntime_computes(name: str) -> None:
    assert_same_as_onnxruntime(Case(*CASES[name]).model())


@pytest.mark.parametrize("exponent", range(9))
def test_power_means_what_onnxruntime_computes(exponent: int) -> None:
    scaled = node("Mul", "x,half", "h")
    model = network(
        [scaled, node("Pow", "h,e")],
        MATRIX,
        {"half": np.float32(0.5), "e": np.float32(exponent)},
    )
    assert_same_as_onnxruntime(model)


@pytest.mark.parametrize("exponent", [0.5, -0.5, -1, -2, 1.75, 9])
def test_other_powers_mean_what_onnxruntime_computes(exponent: float) -> None:
    scale = np.float32(2.0 if exponent < 0 else 0.5)  # away from where float32 is coarse
    nodes = [node("Mul", "x,s", "h"), node("Pow", "h,e")]
    model = network(nodes, MATRIX, {"s": scale, "e": np.float32(exponent)})
    graph = assert_same_as_onnxruntime(model)
    (activation,) = (op for op in graph.operations if isinstance(op, Activation))
    names = {0.5: "sqrt", -1: "reciprocal"}
    assert str(activation.function) == names.get(exponent, f"power({exponent:g})")


def test_a_power_of_a_constant_means_what_onnxruntime_computes() -> None:
    model = network([node("Pow", "b,x")], MATRIX, {"b": abs(random(2, 3, 1)) + 0.1})
    assert_same_as_onnxruntime(model)


def test_power_broadcasts_to_its_exponent() -> None:
    model = network([node("Pow", "x,e")], MATRIX, {"e": np.full((2, 1, 1), 2.0)})
    assert_same_as_onnxruntime(model)


def test_softmax_after_the_last_reshapes() -> None:
    nodes = [
        node("Reshape", "x,s", "r"),
        node("Softmax", "r", "p"),
        node("Flatten", "p", "f", axis=0),
        node("ArgMax", "f", "y", axis=1, keepdims=0),
    ]
    graph = assert_same_as_onnxruntime(network(nodes, MATRIX, {"s": [2, 6]}))
    assert len(graph.operations) == 1
    steps = [step.name for step in graph.outputs[0].epilogue]
    assert steps == ["reshape", "softmax", "reshape", "argmax"]


def test_sigmoid_inside_is_an_activation_and_last_is_left_to_the_client() -> None:
    nodes = [
        node("Sigmoid", "x", "s"),
        node("Mul", "x,s", "silu"),
        node("Sigmoid", "silu", "y"),
    ]
    graph = assert_same_as_onnxruntime(network(nodes, MATRIX))
    assert [type(operation).__name__ for operation in graph.operations] == [
        "Input",
        "Activation",
        "Multiply",
    ]
    assert [step.name for step in graph.outputs[0].epilogue] == ["sigmoid"]


def test_logits_and_their_softmax_are_two_outputs() -> None:
    nodes = [node("Relu", "x", "logits"), node("Softmax", "logits", "y")]
    graph = assert_same_as_onnxruntime(network(nodes, MATRIX, outputs=["logits", "y"]))
    assert [len(output.epilogue) for output in graph.outputs] == [0, 1]


def test_dropout_mask_is_a_constant() -> None:
    nodes = [
        node("Dropout", "x", "d,mask"),
        node("Cast", "mask", "ones", to=TensorProto.FLOAT),
        node("Add", "d,ones"),
    ]
    assert_same_as_onnxruntime(network(nodes, MATRIX))


def test_constants_of_every_kind() -> None:
    values: list[dict[str, Any]] = [
        {"value": _tensor(random(3, 4))},
        {"value_float": 2.5},
        {"value_floats": [1.0, 2.0, 3.0, 4.0]},
    ]
    for value in values:
        model = network(
            [helper.make_node("Constant", [], ["c"], **value), node("Add", "x,c")], MATRIX
        )
        assert_same_as_onnxruntime(model)


def test_waves_of_constants_are_computed_as_positions_need_them() -> None:
    nodes = [node("Sin", "p", "s"), node("Cos", "p", "c"), node("Mul", "x,s", "t")]
    assert_same_as_onnxruntime(network([*nodes, node("Add", "t,c")], MATRIX, {"p": random(3, 4)}))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.int8])
def test_constants_of_every_type_are_cast_to_real_numbers(dtype: type) -> None:
    stored = np.array([1, 2, 3, 4], dtype)
    nodes = [node("Cast", "w", "c", to=TensorProto.FLOAT), node("Mul", "x,c")]
    assert_same_as_onnxruntime(network(nodes, MATRIX, {"w": stored}))


def test_every_converter_has_a_case() -> None:
    cases = [*CASES.values(), *LINEAR.values(), *MOVEMENTS.values(), *PRODUCTS.values()]
    tested = {case[0].op_type for case in cases} | {"Pow", "ReduceLogSum", "Split"}
    assert tested == set(_CONVERTERS)
