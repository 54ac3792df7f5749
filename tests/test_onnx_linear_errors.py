"""The full text of what the import says about linear operators that it cannot convert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from hec.compiler.errors import CompileError
from onnx_oracle import import_graph, network, node, random

AGAIN = "export the model again, and check it with onnx.checker.check_model"
LARGE = "use a smaller network, or smaller inputs"
CONSTANT = "make this input a constant of the model"
IMAGE = {"x": (1, 2, 4, 5)}
MATRIX = {"x": (3, 4)}
GRID = random(1, 3, 4, 2)


def _one(operator: str, reads: str, constants: Any = None, **attributes: Any) -> ModelProto:
    return network([node(operator, reads, **attributes)], MATRIX, constants, opset=18)


def _on_image(operator: str, reads: str, constants: Any = None, **attributes: Any) -> ModelProto:
    return network([node(operator, reads, **attributes)], IMAGE, constants, opset=20)


PROBLEMS: dict[str, tuple[ModelProto, str, str]] = {
    # name: model, message, help
    "equation": (
        _one("Einsum", "x,w", {"w": random(3, 2)}, equation="ij,jk->ik"),
        "the equation 'ij,jk->ik' does not fit operands of shapes (3, 4), (3, 2)",
        AGAIN,
    ),
    "equation of digits": (
        _one("Einsum", "x", equation="i1->i"),
        "the equation 'i1->i' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "equation of other letters": (
        _one("Einsum", "x", equation="é->é"),
        "the equation 'é->é' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "equation too short": (
        _one("Einsum", "x", equation="i->i"),
        "the equation 'i->i' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "equation too long": (
        _one("Einsum", "x", equation="...ijk->i"),
        "the equation '...ijk->i' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "label twice": (
        _one("Einsum", "x", equation="ij->ii"),
        "the equation 'ij->ii' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "label from nowhere": (
        _one("Einsum", "x", equation="ij->k"),
        "the equation 'ij->k' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "operands": (
        _one("Einsum", "x", equation="ij,jk->ik"),
        "the equation 'ij,jk->ik' does not fit operands of shapes (3, 4)",
        AGAIN,
    ),
    "products of constants": (
        network(
            [node("Einsum", "x,u,v,w", equation="i,ab,bc,cd->i")],
            {"x": (2,)},
            {name: np.zeros((512, 512), np.float32) for name in "uvw"},
        ),
        "its constants need 68,719,476,736 products; the limit is 17,179,869,184",
        LARGE,
    ),
    "products of encrypted": (
        network([node("Einsum", "a,b", equation="ij,kl->")], {"a": (100, 100), "b": (100, 100)}),
        "the result of shape (100, 100, 100, 100) has 100,000,000 elements; "
        "the limit is 16,777,216",
        LARGE,
    ),
    "einsum matrix": (
        network(
            [node("Einsum", "x,w", equation="i,ij->j")],
            {"x": (200000,)},
            {"w": np.zeros((1, 200000), np.float32)},
        ),
        "its matrix would hold 40,000,000,000 weights; the limit is 268,435,456",
        LARGE,
    ),
    "einsum result": (
        network(
            [node("Einsum", "x,w", equation="i,j->ij")],
            {"x": (5000,)},
            {"w": np.zeros(5000, np.float32)},
        ),
        "the result of shape (5000, 5000) has 25,000,000 elements; the limit is 16,777,216",
        LARGE,
    ),
    "einsum constants": (
        network(
            [node("Einsum", "x,w,w,w,w", equation="ab,a,b,c,d->cd")],
            {"x": (181, 181)},
            {"w": np.zeros(181, np.float32)},
        ),
        "the result of shape (181, 181, 181, 181) has 1,073,283,121 elements; "
        "the limit is 67,108,864",
        LARGE,
    ),
    "cumsum memory": (
        network([node("CumSum", "x,a")], {"x": (30000,)}, {"a": np.int64(0)}),
        "its matrix would hold 450,015,000 weights; the limit is 268,435,456",
        LARGE,
    ),
    "cumsum axis": (
        _one("CumSum", "x,a", {"a": np.int64(2)}),
        "axis 2 does not exist in a tensor of rank 2",
        AGAIN,
    ),
    "dft of numbers": (
        _one("DFT", "x"),
        "DFT along axis 1 of a tensor of shape (3, 4) is not possible",
        AGAIN,
    ),
    "dft of nothing": (
        network([node("DFT", "x,l")], {"x": (1, 4, 1)}, {"l": np.int64(0)}),
        "DFT of length 0 is not possible",
        AGAIN,
    ),
    "dft result": (
        network([node("DFT", "x,l")], {"x": (1, 1, 1)}, {"l": np.int64(2**25)}),
        "the result of shape (1, 33554432, 2) has 67,108,864 elements; the limit is 16,777,216",
        LARGE,
    ),
    "dft memory": (
        network([node("DFT", "x,l")], {"x": (1, 4096, 1)}, {"l": np.int64(100000)}),
        "its matrix would hold 819,200,000 weights; the limit is 268,435,456",
        LARGE,
    ),
    "grid": (
        _on_image("GridSample", "x,g", {"g": random(1, 3, 4, 3)}),
        "GridSample of a tensor of shape (1, 2, 4, 5) does not fit a grid of shape (1, 3, 4, 3)",
        AGAIN,
    ),
    "grid mode": (
        _on_image("GridSample", "x,g", {"g": GRID}, mode="area"),
        "GridSample in mode 'area', 'zeros' does not exist in ONNX",
        AGAIN,
    ),
    "grid memory": (
        network(
            [node("GridSample", "x,g", mode="cubic")],
            {"x": (1, 100, 2, 2, 2)},
            {"g": np.zeros((1, 64, 64, 20, 3), np.float32)},
            opset=20,
        ),
        "its matrix would hold 524,288,000 weights; the limit is 268,435,456",
        LARGE,
    ),
    "grid encrypted": (
        network([node("GridSample", "x,g")], {"x": (1, 2, 4, 5), "g": (1, 3, 4, 2)}),
        "GridSample with an encrypted input 'g' is not supported",
        CONSTANT,
    ),
    "gathered elements": (
        _one("GatherElements", "x,i", {"i": [[0, 0, 0, 0, 0]]}),
        "GatherElements: indices of shape (1, 5) do not fit a tensor of shape (3, 4)",
        AGAIN,
    ),
    "gathered beyond": (
        _one("GatherElements", "x,i", {"i": [[3]]}),
        "GatherElements: an index lies outside axis 0 of shape (3, 4)",
        AGAIN,
    ),
    "gathered between": (
        _one("GatherElements", "x,i", {"i": np.float32([[0.5]])}),
        "GatherElements: its indices are not whole numbers",
        AGAIN,
    ),
    "gathered rank": (
        _one("GatherND", "x,i", {"i": [[0, 0, 0]]}),
        "GatherND: indices of shape (1, 3) do not fit a tensor of shape (3, 4)",
        AGAIN,
    ),
    "gathered batch": (
        _one("GatherND", "x,i", {"i": [[0]]}, batch_dims=1),
        "GatherND: indices of shape (1, 1) do not fit a tensor of shape (3, 4)",
        AGAIN,
    ),
    "gathered batch below zero": (
        _one("GatherND", "x,i", {"i": np.zeros((3, 0), np.int64)}, batch_dims=-3),
        "GatherND: indices of shape (3, 0) do not fit a tensor of shape (3, 4)",
        AGAIN,
    ),
    "gathered memory": (
        network(
            [node("GatherND", "x,i")],
            {"x": (2, 100000)},
            {"i": np.zeros((100000, 1), np.int64)},
        ),
        "the result of shape (100000, 100000) has 10,000,000,000 elements; the limit is 16,777,216",
        LARGE,
    ),
    "scattered updates": (
        _one("ScatterElements", "x,i,u", {"i": [[0, 1]], "u": random(1, 3)}),
        "ScatterElements: updates of shape (1, 3) do not fit (1, 2)",
        AGAIN,
    ),
    "scattered added": (
        _one("ScatterND", "w,i,x", {"i": [[0]], "w": random(3, 4)}, reduction="add"),
        "ScatterND: updates of shape (3, 4) do not fit (1, 4)",
        AGAIN,
    ),
    "scattered maximum": (
        _one("ScatterND", "x,i,u", {"i": [[0]], "u": random(1, 4)}, reduction="max"),
        "ScatterND on an encrypted tensor with reduction 'max' is not supported",
        "use the reduction 'none' or 'add', or 'mul' with constant updates",
    ),
    "scattered wrongly": (
        _one("ScatterND", "x,i,u", {"i": [[0]], "u": random(1, 4)}, reduction="mean"),
        "ScatterND with reduction 'mean' does not exist in ONNX",
        AGAIN,
    ),
    "scattered by encrypted": (
        _one("ScatterND", "w,x,u", {"w": random(3, 4), "u": random(3, 4)}),
        "ScatterND with an encrypted input 'x' is not supported",
        CONSTANT,
    ),
    "power of a pool": (
        _on_image("GlobalLpPool", "x", p=9),
        "GlobalLpPool with p = 9 is not supported",
        "use a whole p from 1 to 8",
    ),
    "rank of a pool": (
        _one("GlobalLpPool", "x"),
        "GlobalLpPool of an input of shape (3, 4): the rank must be 3 or more",
        AGAIN,
    ),
    "rank of windows": (
        _one("LpPool", "x", kernel_shape=[2]),
        "LpPool of an input of shape (3, 4): the rank must be 3 or more",
        AGAIN,
    ),
    "pooled memory": (
        _on_image("LpPool", "x", kernel_shape=[4000, 4000], pads=[4000] * 4),
        "the result of shape (1, 2, 4005, 4006) has 32,088,060 elements; the limit is 16,777,216",
        LARGE,
    ),
    "pooled matrix": (
        _on_image("LpPool", "x", kernel_shape=[4000, 4000], pads=[4000] * 4, strides=[1000] * 2),
        "its matrix would hold 800,000,000 weights; the limit is 268,435,456",
        LARGE,
    ),
    "training": (
        network(
            [node("BatchNormalization", "x,s,s,s,s", training_mode=1)], IMAGE, {"s": random(2)}
        ),
        "BatchNormalization in training mode is not supported",
        "export the network in inference mode, model.eval() in PyTorch",
    ),
    "statistics": (
        network([node("BatchNormalization", "x,s,s,s,s", spatial=0)], IMAGE, {"s": random(2)}, 7),
        "statistics of shape (2,) do not fit (1, 2, 4, 5)",
        AGAIN,
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_of_a_linear_operator(name: str) -> None:
    model, message, help = PROBLEMS[name]
    with pytest.raises(CompileError) as caught:
        import_graph(model)
    (problem,) = caught.value.problems
    assert (problem.message, problem.help) == (message, help)
    assert problem.place.startswith("net: node '")
