"""The full text of what the import says about nodes that it cannot convert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from hec.compiler.errors import CompileError
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from onnx_oracle import network, node, random

SHAPES: dict[str, tuple[int | str, ...]] = {"x": (2, 3)}
IMAGE: dict[str, tuple[int | str, ...]] = {"x": (1, 3, 4, 4)}
AGAIN = "export the model again, and check it with onnx.checker.check_model"
LARGE = "use a smaller network, or smaller inputs"
COMPARING = "--maxpool approximate compares them in pairs: {} fitted activations, one after another"
AVERAGING = (
    "--maxpool average takes their mean: a matrix that merges with its neighbours, but another "
    "network, so hec tells how many classes change"
)
DIVERGED = "check that training did not diverge, and export again"


def _message(source: Any, target: Target | None = None) -> str:
    with pytest.raises(CompileError) as caught:
        import_onnx(source, target or Target())
    return str(caught.value)


def _text(message: str, place: str, help: str) -> str:
    return f"{message}\n  --> {place}\n  help: {help}"


def test_all_unsupported_nodes_are_listed_with_shapes_and_hints() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], name="pool", kernel_shape=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GroupNormalization", ["b", "s", "s"], ["c"], num_groups=2),
        helper.make_node("ArgMax", ["c"], ["d"], name="attend"),
        helper.make_node("FusedConv", ["d"], ["e"], domain="com.microsoft"),
        helper.make_node("MatMul", ["e", "e"], ["f"]),
        helper.make_node("Relu", ["f"], ["y"]),
    ]
    model = network(nodes, IMAGE, {"s": random(3)}, opset=21)
    expected = [
        _text(
            "MaxPool of 4 numbers needs comparisons, and encrypted numbers have none",
            "net: node 'pool' -> tensor 'a' of shape (1, 3, 3, 3)",
            f"{COMPARING.format(2)}; {AVERAGING}",
        ),
        _text(
            "ArgMax inside the network is not supported",
            "net: node 'attend' -> tensor 'd' of shape (1, 3, 3, 3)",
            "keep it as the last operator, where the client computes it after decryption",
        ),
        _text(
            "com.microsoft.FusedConv is not supported",
            "net: node 'FusedConv_e' -> tensor 'e'",
            "export with operators of the standard ONNX set only",
        ),
    ]
    assert _message(model) == "\n".join(expected)


def _branch() -> ModelProto:
    branch = helper.make_graph(
        [node("Relu", "x", "q")], "b", [], [helper.make_tensor_value_info("q", 1, None)]
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return network([choice], SHAPES, {"c": np.bool_(True)})


def _one(operator: str, reads: str, constants: Any = None, **attributes: Any) -> ModelProto:
    return network([node(operator, reads, **attributes)], SHAPES, constants)


def _on_image(operator: str, reads: str, constants: Any = None, **attributes: Any) -> ModelProto:
    return network([node(operator, reads, **attributes)], IMAGE, constants)


NODE_PROBLEMS: dict[str, tuple[Callable[[], ModelProto], str, str, str]] = {
    # name: model, message, shape of the result, help
    "branch": (
        _branch,
        "If is not supported",
        " of shape (2, 3)",
        "a program on encrypted data has no branches; export with fixed shapes, loops unrolled",
    ),
    "no such operator": (
        lambda: _one("Frobnicate", "x"),
        "Frobnicate is not supported",
        "",
        "rewrite the network without this operator",
    ),
    "constant memory": (
        lambda: network(
            [node("ConstantOfShape", "s", "y"), node("Add", "x,y", "z")],
            SHAPES,
            {"s": [100000, 100000]},
            outputs=["z"],
        ),
        "the result of shape (100000, 100000) has 10,000,000,000 elements; the limit is 67,108,864",
        " of shape (100000, 100000)",
        LARGE,
    ),
    "expanded memory": (
        lambda: _one("Expand", "x,s", {"s": [10000, 1000, 2, 3]}),
        "the result of shape (10000, 1000, 2, 3) has 60,000,000 elements; the limit is 16,777,216",
        " of shape (10000, 1000, 2, 3)",
        LARGE,
    ),
    "padded memory": (
        lambda: _one("Pad", "x,p", {"p": [0, 10**9, 0, 0]}),
        "the result of shape (2, 1000000003) has 2,000,000,006 elements; the limit is 16,777,216",
        " of shape (2, 1000000003)",
        LARGE,
    ),
    "pooled memory": (
        lambda: _on_image("AveragePool", "x", kernel_shape=[9999, 9999], pads=[9999] * 4),
        "its matrix would hold 30,018,000,299,280,048 weights; the limit is 268,435,456",
        " of shape (1, 3, 10004, 10004)",
        LARGE,
    ),
    "infinite weights": (
        lambda: _one("Mul", "x,w", {"w": np.array([1.0, np.inf, 2.0])}),
        "the constant 'w' holds NaN or infinite numbers",
        " of shape (2, 3)",
        DIVERGED,
    ),
    "division by zero": (
        lambda: _one("Div", "x,w", {"w": np.zeros(3)}),
        "its weights divide by zero or overflow",
        " of shape (2, 3)",
        DIVERGED,
    ),
    "negative variance": (
        lambda: _on_image("BatchNormalization", "x,s,s,s,v", {"s": random(3), "v": -np.ones(3)}),
        "its weights divide by zero or overflow",
        " of shape (1, 3, 4, 4)",
        DIVERGED,
    ),
    "training": (
        lambda: _one("Dropout", "x,r,t", {"r": np.float32(0.5), "t": np.bool_(True)}),
        "Dropout in training mode is not supported",
        " of shape (2, 3)",
        "export the network in inference mode, model.eval() in PyTorch",
    ),
    "text": (
        lambda: _one("Add", "x,w", {"w": np.array(["a", "b", "c"], object)}),
        "the constant 'w' does not hold numbers",
        " of shape (2, 3)",
        AGAIN,
    ),
    "attribute missing": (
        lambda: _on_image("AveragePool", "x"),
        "AveragePool lacks the attribute 'kernel_shape'",
        "",
        AGAIN,
    ),
    "attribute of the wrong type": (
        lambda: _one("LeakyRelu", "x", alpha=3),
        "the attribute 'alpha' has the wrong type",
        " of shape (2, 3)",
        AGAIN,
    ),
    "input missing": (
        lambda: _one("Add", "x"),
        "Add has 1 inputs, and needs 2",
        "",
        AGAIN,
    ),
    "rank of weights": (
        lambda: _on_image("Conv", "x,w", {"w": random(4, 3, 2)}),
        "Conv of an input of shape (1, 3, 4, 4) with weights of shape (4, 3, 2): "
        "both must have the same rank, 3 or more",
        "",
        AGAIN,
    ),
    "channels": (
        lambda: _on_image("Conv", "x,w", {"w": random(4, 2, 3, 3)}),
        "Conv of an input of shape (1, 3, 4, 4) in 1 groups does not fit "
        "weights of shape (4, 2, 3, 3)",
        " of shape (1, 4, 2, 2)",
        AGAIN,
    ),
    "kernel too large": (
        lambda: _on_image("Conv", "x,w", {"w": random(4, 3, 5, 1)}),
        "the kernel reaches over 5 pixels of an image of 4",
        " of shape (1, 4, 0, 4)",
        AGAIN,
    ),
    "stride zero": (
        lambda: _on_image("AveragePool", "x", kernel_shape=[2, 2], strides=[0, 1]),
        "'strides' (0, 1) must be 2 positive numbers",
        "",
        AGAIN,
    ),
    "matrix shapes": (
        lambda: _one("MatMul", "x,w", {"w": random(4, 3)}),
        "cannot multiply matrices of shapes (2, 3) and (4, 3)",
        "",
        AGAIN,
    ),
    "broadcast": (
        lambda: _one("Add", "x,w", {"w": random(4, 3)}),
        "Add of shapes (2, 3) and (4, 3): they do not broadcast",
        "",
        AGAIN,
    ),
    "axis": (
        lambda: _one("ReduceMean", "x", axes=[2]),
        "axis 2 does not exist in a tensor of rank 2",
        "",
        AGAIN,
    ),
    "nothing left": (
        lambda: _one("Slice", "x,b,e", {"b": [1], "e": [1]}),
        "the result of shape (0, 3) has no elements",
        " of shape (0, 3)",
        AGAIN,
    ),
    "encrypted shape": (
        lambda: _one("Reshape", "x,x"),
        "Reshape with an encrypted input 'x' is not supported",
        "",
        "make this input a constant of the model",
    ),
    "encrypted weights": (
        lambda: _on_image("Conv", "w,x", {"w": random(1, 3, 5, 5)}),
        "Conv with a constant input 0 is not supported",
        " of shape (1, 1, 2, 2)",
        AGAIN,
    ),
    "several powers": (
        lambda: _one("Pow", "x,e", {"e": np.array([2.0, 0.5, 3.0])}),
        "Pow with several exponents, 0.5, 2, 3, is not supported",
        " of shape (2, 3)",
        "split the tensor, and use one exponent for each part",
    ),
    "power of a negative constant": (
        lambda: _one("Pow", "b,x", {"b": np.array([2.0, -0.5, 3.0])}),
        "Pow of the base -0.5 with an encrypted exponent is not supported",
        " of shape (2, 3)",
        "use bases above 0",
    ),
    "power of whole numbers": (
        lambda: _one("Pow", "b,x", {"b": np.array([2, 1, 3])}),
        "Pow of whole numbers gives whole numbers, which cannot be encrypted",
        " of shape (2, 3)",
        "make the base a constant of real numbers",
    ),
    "slope that is no number": (
        lambda: _one("LeakyRelu", "x", alpha=float("nan")),
        "the attribute 'alpha' is nan",
        " of shape (2, 3)",
        DIVERGED,
    ),
    "shrink outwards": (
        lambda: _one("Shrink", "x", lambd=-0.5),
        "Shrink with lambd -0.5 is not supported",
        " of shape (2, 3)",
        "use 0 or more",
    ),
    "global pool": (
        lambda: _on_image("GlobalMaxPool", "x"),
        "GlobalMaxPool of 16 numbers needs comparisons, and encrypted numbers have none",
        " of shape (1, 3, 1, 1)",
        f"{COMPARING.format(4)}; {AVERAGING}",
    ),
    "largest of an axis": (
        lambda: _one("ReduceMax", "x", axes=[1]),
        "ReduceMax of 3 numbers needs comparisons, and encrypted numbers have none",
        " of shape (2, 1)",
        COMPARING.format(2),
    ),
    "smallest of several tensors": (
        lambda: network(
            [node("Neg", "x", "a"), node("Min", "x,w,a,v", "y")],
            SHAPES,
            {"w": random(3), "v": random(2, 1)},
        ),
        "Min of 3 numbers needs comparisons, and encrypted numbers have none",
        " of shape (2, 3)",
        COMPARING.format(2),
    ),
    "largest of what does not fit": (
        lambda: _one("Max", "x,w", {"w": random(4, 3)}),
        "Max of shapes (2, 3) and (4, 3): they do not broadcast",
        "",
        AGAIN,
    ),
    "flat image": (
        lambda: _one("MaxPool", "x", kernel_shape=[2]),
        "MaxPool of an input of shape (2, 3): the rank must be 3 or more",
        "",
        AGAIN,
    ),
    "which pixel": (
        lambda: network(
            [node("MaxPool", "x", "y,i", kernel_shape=[1, 1]), node("Add", "y,i", "z")],
            IMAGE,
            outputs=["z"],
        ),
        "the output 'Indices' of MaxPool is not supported",
        " of shape (1, 3, 4, 4)",
        "encrypted numbers cannot tell which pixel is the largest",
    ),
    "pool of padding": (
        lambda: _on_image("MaxPool", "x", kernel_shape=[2, 2], pads=[2, 0, 0, 0]),
        "a window of MaxPool lies in the padding alone",
        " of shape (1, 3, 5, 3)",
        "use less padding",
    ),
    "pool of far too much": (
        lambda: network(
            [node("MaxPool", "x", kernel_shape=[9000], pads=[8999, 8999])], {"x": (1, 1, 9000)}
        ),
        "its windows read 161,991,000 pixels along one axis; the limit is 16,777,216",
        " of shape (1, 1, 17999)",
        LARGE,
    ),
    "slopes": (
        lambda: _one("PRelu", "x,s", {"s": random(2, 2, 3)}),
        "PRelu of shape (2, 3): slopes (2, 2, 3) do not broadcast to it",
        " of shape (2, 3)",
        AGAIN,
    ),
    "celu of nothing": (
        lambda: _one("Celu", "x", alpha=0.0),
        "Celu with alpha 0 divides by it",
        " of shape (2, 3)",
        "use Relu",
    ),
    "form of gelu": (
        lambda: network([node("Gelu", "x", approximate="fast")], SHAPES, opset=20),
        "Gelu with approximate 'fast' is not supported",
        " of shape (2, 3)",
        "use 'none' or 'tanh'",
    ),
    "integers inside": (
        lambda: network(
            [node("Cast", "x", "y", to=TensorProto.INT32), node("Tanh", "y", "z")],
            SHAPES,
            outputs=["z"],
        ),
        "Cast of an encrypted tensor to int32 inside the network is not supported",
        " of shape (2, 3)",
        "encrypted numbers are real; remove the Cast, or move it to the end",
    ),
}


def test_a_pool_whose_rounds_grow_too_large_is_refused() -> None:
    pool = node("MaxPool", "x", kernel_shape=[3], pads=[2, 2])
    model = network([pool], {"x": (1, 2**20, 15)})
    assert _message(model, Target(maxpool="approximate")) == _text(
        "the result of shape (1, 1048576, 28) has 29,360,128 elements; the limit is 16,777,216",
        "net: node 'MaxPool_y' -> tensor 'y' of shape (1, 1048576, 17)",
        LARGE,
    )


@pytest.mark.parametrize("name", NODE_PROBLEMS)
def test_problem_of_a_node(name: str) -> None:
    make, message, shape, help = NODE_PROBLEMS[name]
    model = make()
    failing = next(n for n in model.graph.node if "y" in n.output)
    place = f"net: node '{failing.op_type}_y' -> tensor 'y'{shape}"
    assert _message(model) == _text(message, place, help)
