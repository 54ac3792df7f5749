"""Nodes that touch only constants: onnx's own cases, and bounds on time and room."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

from hec.compiler.errors import CompileError
from hec.compiler.onnx_constants import BY_CONVERTER, fold
from hec.compiler.onnx_fold import FOLDABLE
from hec.compiler.onnx_import import _CONVERTERS
from hec.compiler.onnx_indexing import GATHERS, SCATTERS
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import NodeError
from hec.compiler.tensor_ir import Linear
from onnx_oracle import assert_same_as_onnxruntime, import_graph, network, node, random

OPERATORS = FOLDABLE | BY_CONVERTER | GATHERS | SCATTERS
RELATIVE, ABSOLUTE = (
    1e-3,
    1e-5,
)  # as onnx asks of a backend; float16 and rounded cases are among them
MATRIX = {"x": (3, 4)}
REFUSED = (
    "Resize with align_corners",
    "the size of the result of Range is not known in advance",  # of float16
)


def _array(value: Any) -> NDArray[Any]:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


@pytest.mark.filterwarnings("ignore")  # onnx overflows where it computes its cases
def test_the_cases_of_onnx_with_constants_only() -> None:
    passed = set()
    for case in load_model_tests(kind="node"):
        graph = case.model.graph
        proto = graph.node[0]
        if len(graph.node) != 1 or proto.domain or proto.op_type not in OPERATORS:
            continue
        opset = next(entry.version for entry in case.model.opset_import if not entry.domain)
        for arrays, expected in case.data_sets:
            named = dict(zip((v.name for v in graph.input), map(_array, arrays), strict=True))
            inputs = tuple(named[name] if name else None for name in proto.input)
            try:
                found = fold(Node(proto, opset, inputs), _CONVERTERS.get(proto.op_type))
            except NodeError as error:
                assert error.message.startswith(REFUSED), f"{case.name}: {error.message}"
                continue
            for result, wanted in zip(found, map(_array, expected), strict=False):
                _assert_same(result, wanted, case.name)
            passed.add(proto.op_type)
    assert len(passed) > len(OPERATORS) * 0.9


def _assert_same(result: NDArray[Any], wanted: NDArray[Any], name: str) -> None:
    assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype), name
    if result.dtype.kind in "biuf":
        np.testing.assert_allclose(result, wanted, RELATIVE, ABSOLUTE, err_msg=name)
    else:
        assert result.tobytes() == wanted.tobytes(), name


def test_weights_from_a_chain_of_operators() -> None:
    nodes = [
        node("Mul", "w,w", "squared"),
        node("ReduceSum", "squared,one", "sums", keepdims=1),
        node("Sqrt", "sums", "norms"),
        node("Div", "w,norms", "normed"),
        node("Resize", "normed,,twice", "large", mode="linear"),
        node("Einsum", "large,v", "weights", equation="ij,jk->ik"),
        node("MatMul", "x,weights", "y"),
    ]
    constants = {
        "w": random(2, 3),
        "one": [1],
        "twice": np.float32([2, 2]),
        "v": random(6, 5),
    }
    graph = assert_same_as_onnxruntime(network(nodes, MATRIX, constants))
    assert [type(operation) for operation in graph.operations[1:]] == [Linear]


@pytest.mark.parametrize(
    ("operator", "reads", "attributes"),
    [
        ("ConvTranspose", "w,k", {"strides": [2, 2]}),
        ("ConvTranspose", "w,k", {"group": 2}),
        ("Conv", "w,q", {"pads": [1, 1, 1, 1]}),
        ("LpPool", "w", {"kernel_shape": [2, 2]}),
        ("GlobalLpPool", "w", {"p": 1}),
        ("AveragePool", "w", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("GridSample", "w,g", {}),
        ("GatherElements", "w,i", {"axis": 1}),
    ],
)
def test_constants_through_converters(operator: str, reads: str, attributes: Any) -> None:
    constants = {
        "w": random(1, 2, 4, 4),
        "k": random(2, 3, 2, 2),
        "q": random(2, 2, 3, 3),
        "g": random(1, 3, 3, 2),
        "i": np.array([[[[1, 0], [0, 1]]]]),
    }
    used = {name: constants[name] for name in reads.split(",")}
    nodes = [node(operator, reads, "c", **attributes), node("Mul", "x,c")]
    assert_same_as_onnxruntime(network(nodes, {"x": (1, 1, 1, 1)}, used))


PROBLEMS: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    # name: node, constants, message, help
    "random": (
        node("RandomNormal", "", "c", shape=[3, 4]),
        {},
        "RandomNormal is not supported",
        "export the network in inference mode, model.eval() in PyTorch",
    ),
    "foreign": (
        node("Gelu", "w", "c", domain="com.microsoft"),
        {"w": np.zeros(4, np.float32)},
        "com.microsoft.Gelu is not supported",
        "export with operators of the standard ONNX set only",
    ),
    "slow": (
        node("Gelu", "w", "c"),
        {"w": np.zeros(2**20 + 1, np.float32)},
        "Gelu of more than 1,048,576 elements is not supported",
        "export the model again, and check it with onnx.checker.check_model",
    ),
    "turned": (
        node("Gemm", "w,v", "c", transA=1),
        {"w": np.zeros((3000, 2000), np.float32), "v": np.zeros((3000, 3000), np.float32)},
        "the constants up to here take 18,000,000,000 operations; the limit is 8,589,934,592",
        "use a smaller network, or smaller inputs",
    ),
    "products": (
        node("MatMul", "w,v", "c"),
        {"w": np.zeros((3000, 3000), np.int32), "v": np.zeros((3000, 3000), np.int32)},
        "the constants up to here take 27,000,000,000 operations; the limit is 8,589,934,592",
        "use a smaller network, or smaller inputs",
    ),
    "empty": (
        node("Resize", "w,,s", "c"),
        {"w": np.zeros((0, 4), np.float32), "s": np.float32([1, 2])},
        "the result of shape (0, 4) has no elements",
        "export the model again, and check it with onnx.checker.check_model",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_of_a_constant(name: str) -> None:
    made, constants, message, help = PROBLEMS[name]
    model = network([made, node("Add", "x,c")], MATRIX, constants, opset=20)
    started = os.times().user
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    assert os.times().user - started < 2
    (problem,) = caught.value.problems
    assert (problem.message, problem.help) == (message, help)
