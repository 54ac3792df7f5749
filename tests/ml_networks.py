"""Small networks with operators of ai.onnx.ml, and what the client would see of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from hec.compiler.client_steps import prepared
from hec.compiler.evaluate import evaluate
from hec.compiler.tensor_ir import TensorGraph, inputs
from hec.runtime import epilogue
from onnx_oracle import TOLERANCE, import_graph, network, oracle

Array = NDArray[Any]
VECTOR: dict[str, tuple[int | str | None, ...]] = {"x": (None, 3)}


def ml(operator: str, reads: str, writes: str = "y", **attributes: Any) -> NodeProto:
    """Make a node of ai.onnx.ml; `reads` and `writes` are names between commas."""
    names = reads.split(","), writes.split(",")
    return helper.make_node(operator, *names, domain="ai.onnx.ml", **attributes)


def ml_network(
    nodes: Sequence[NodeProto],
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, object] | None = None,
    shapes: Mapping[str, Sequence[int | str | None]] = VECTOR,
) -> ModelProto:
    """Make a model that may use both operator sets; its input is x, of three features."""
    model = network(nodes, shapes, constants, outputs=outputs)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def seen_by_client(graph: TensorGraph, samples: Mapping[str, Array]) -> list[Array]:
    """Return the outputs for one sample, with the client's own steps before and after."""
    flat = {x.name: prepared(samples[x.name][None], x.shape, x.prologue) for _, x in inputs(graph)}
    values = evaluate(graph, flat)
    return [
        epilogue.apply(
            values[output.operand].reshape(graph.operations[output.operand].shape) * output.factor,
            output.epilogue,
        )
        for output in graph.outputs
    ]


def assert_client_sees_the_same(model: ModelProto, samples: dict[str, Array]) -> TensorGraph:
    """Compare all outputs with onnxruntime's: labels exactly, types and shapes too."""
    graph = import_graph(model)
    found = seen_by_client(graph, samples)
    for mine, theirs in zip(found, oracle(model, samples), strict=True):
        if isinstance(theirs, list):  # ZipMap's
            rows = [list(row.values()) for row in theirs]
            np.testing.assert_allclose(mine, rows, rtol=0, atol=TOLERANCE)
            continue
        assert mine.shape == theirs.shape
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE)
        else:
            assert mine.dtype.kind == ("U" if theirs.dtype.kind == "O" else theirs.dtype.kind)
            assert mine.tolist() == theirs.tolist()
    return graph


def sample(*values: float) -> dict[str, Array]:
    """Return one sample of the input x."""
    return {"x": np.array([values], np.float32)}
