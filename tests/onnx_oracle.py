"""Small ONNX models, and onnxruntime as the judge of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_import import import_onnx
from hec.compiler.target import Target
from hec.compiler.tensor_ir import EpilogueStep, TensorGraph, inputs

ONNXRUNTIME = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
TOLERANCE = 1e-5  # absolute: onnxruntime computes in float32


def node(operator: str, reads: str, writes: str = "y", **attributes: Any) -> NodeProto:
    """Make a node; `reads` and `writes` are names between commas."""
    names = [part.strip() for part in reads.split(",")] if reads else []
    return helper.make_node(operator, names, writes.split(","), **attributes)


def network(
    nodes: Sequence[NodeProto],
    shapes: Mapping[str, Sequence[int | str | None]],
    constants: Mapping[str, object] | None = None,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
) -> ModelProto:
    """Make a model with float inputs; constants that are no arrays become float32 or int64."""
    stored = [numpy_helper.from_array(_array(v), k) for k, v in (constants or {}).items()]
    given = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in shapes.items()]
    results = [ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "net", given, results, stored)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _array(value: object) -> NDArray[Any]:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


class Case(NamedTuple):
    """A node, the shapes of the encrypted inputs, the constants, and the operator set."""

    node: NodeProto
    shapes: Mapping[str, Sequence[int | str | None]]
    constants: Mapping[str, object] = MappingProxyType({})
    opset: int = 17

    def model(self) -> ModelProto:
        """Make the network of this one node."""
        return network([self.node], self.shapes, self.constants, self.opset)


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return normally distributed float32 numbers."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def import_graph(model: ModelProto) -> TensorGraph:
    """Import a model with the default target."""
    return import_onnx(model, Target()).graph


def results(graph: TensorGraph, samples: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what the client sees for one sample: the outputs after their epilogues."""
    flat = {name: sample.reshape(1, -1) for name, sample in samples.items()}
    values = evaluate(graph, flat)
    found = []
    for output in graph.outputs:
        shape = graph.operations[output.operand].shape
        value: NDArray[Any] = values[output.operand].reshape(shape) * output.factor
        for step in output.epilogue:
            value = _after(step, value)
        found.append(value)
    return found


def _after(step: EpilogueStep, x: NDArray[Any]) -> Any:
    if step.name == "reshape":
        return x.reshape(step.shape)
    if step.name == "cast":
        return x.astype(step.dtype)
    if step.name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if step.name == "argmax":
        return np.argmax(x, axis=step.axis, keepdims=step.keep_axis)
    share: NDArray[Any] = np.exp(x - x.max(axis=step.axis, keepdims=True))
    share = share / share.sum(axis=step.axis, keepdims=True)
    return share if step.name == "softmax" else np.log(share)


def oracle(model: ModelProto, samples: dict[str, Any]) -> list[Any]:
    """Return the outputs by onnxruntime; by onnx's reference where it refuses.

    Before 1.24 it refuses a reduction over no axes, and operator set 24.
    """
    operators = {node.op_type for node in model.graph.node}
    if ONNXRUNTIME < (1, 24) and operators & {"ReduceMean", "Swish"}:
        return list(ReferenceEvaluator(model).run(None, samples))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, samples))


def assert_same_as_onnxruntime(model: ModelProto, seed: int = 0) -> TensorGraph:
    """Compare all outputs on one random sample, shapes too; return the graph."""
    graph = import_graph(model)
    samples = {x.name: random(*x.shape, seed=seed + k) for k, (_, x) in enumerate(inputs(graph))}
    expected = oracle(model, samples)
    for found, wanted in zip(results(graph, samples), expected, strict=True):
        assert found.shape == np.shape(wanted)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)
    return graph
