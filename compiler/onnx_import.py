"""Import an ONNX network as a TensorGraph.

The nodes are walked in order. A node that no encrypted value reaches is computed at once, so the
Shape, Gather, Concat chains of exporters vanish; every other has a converter in `_CONVERTERS`.
All problems are collected, and reported together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from hec.compiler import (
    onnx_activations,
    onnx_elementwise,
    onnx_epilogue,
    onnx_movement,
    onnx_products,
    onnx_windows,
)
from hec.compiler.errors import CompileError, Problem
from hec.compiler.onnx_fold import FOLDABLE, run_node, work
from hec.compiler.onnx_inputs import input_shapes, place
from hec.compiler.onnx_model import EXPORT_AGAIN, LoadedModel, load_model
from hec.compiler.onnx_node import Node, check_arity
from hec.compiler.onnx_unsupported import unsupported
from hec.compiler.onnx_values import TOO_LARGE, Encrypted, GraphBuilder, NodeError, Unknown, Value
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Input, Output, TensorGraph, check

_MAX_FOLDED = 2**28  # elements that all computed constants together may have
_MAX_WORK = 2**33  # elements read, or multiplied, to compute them: seconds

Converter = Callable[[GraphBuilder, Node], list[Value]]
_CONVERTERS: dict[str, Converter] = {
    "Add": onnx_elementwise.convert_sum,
    "ArgMax": onnx_epilogue.convert_argmax,
    "AveragePool": onnx_windows.convert_average_pool,
    "BatchNormalization": onnx_products.convert_batch_normalization,
    "Cast": onnx_epilogue.convert_cast,
    "Clip": onnx_elementwise.convert_clip,
    "Conv": onnx_windows.convert_conv,
    "Div": onnx_elementwise.convert_div,
    "Dropout": onnx_epilogue.convert_identity,
    "Gemm": onnx_products.convert_gemm,
    "GlobalAveragePool": onnx_products.convert_global_average_pool,
    "Identity": onnx_epilogue.convert_identity,
    "LogSoftmax": onnx_epilogue.convert_softmax,
    "MatMul": onnx_products.convert_matmul,
    "Mean": onnx_elementwise.convert_mean,
    "Mul": onnx_elementwise.convert_mul,
    "Neg": onnx_elementwise.convert_neg,
    "Pad": onnx_movement.convert_pad,
    "Pow": onnx_elementwise.convert_pow,
    "PRelu": onnx_activations.convert_prelu,
    "ReduceMean": onnx_products.convert_reduction,
    "ReduceSum": onnx_products.convert_reduction,
    "Sigmoid": onnx_epilogue.convert_sigmoid,
    "Softmax": onnx_epilogue.convert_softmax,
    "Sub": onnx_elementwise.convert_sub,
    "Sum": onnx_elementwise.convert_sum,
    **dict.fromkeys(sorted(onnx_movement.OPERATORS), onnx_movement.convert_movement),
    **dict.fromkeys(onnx_activations.FUNCTIONS, onnx_activations.convert_activation),
}


@dataclass(frozen=True)
class ImportedModel:
    """A network as a TensorGraph, and the name by which messages call it."""

    graph: TensorGraph
    name: str


def import_onnx(
    model: str | os.PathLike[str] | bytes | ModelProto, target: Target
) -> ImportedModel:
    """Import a network from a path, the bytes of a file, or a loaded model.

    A dynamic first axis becomes 1; any other needs its size in `target.input_shapes`. Raise
    `CompileError` with all problems of the network if it cannot be imported.
    """
    loaded = load_model(model)
    graph = _Importer(loaded, target).run()
    check(graph, "import_onnx")
    return ImportedModel(graph, loaded.name)


@dataclass(frozen=True, eq=False)
class Survey:
    """What became of every node of a network, also where some cannot be converted."""

    model: LoadedModel
    graph: TensorGraph  # of what could be converted, with the outputs that it reaches
    values: Mapping[str, Value]  # by tensor name
    failures: tuple[tuple[NodeProto, Problem], ...]


def survey_onnx(model: str | os.PathLike[str] | bytes | ModelProto, target: Target) -> Survey:
    """Import what can be imported; raise `CompileError` where nothing can."""
    return _Importer(load_model(model), target).survey()


class _Importer:
    """One walk over a model's nodes."""

    def __init__(self, model: LoadedModel, target: Target) -> None:
        self._model = model
        self._builder = GraphBuilder()
        self._values: dict[str, Value] = dict(model.constants)
        self._final: Mapping[str, bool] = onnx_epilogue.final_values(model.nodes)
        self._failures: list[tuple[NodeProto, NodeError]] = []
        self._folded = 0
        self._work = 0
        for name, shape in input_shapes(model, target).items():
            self._values[name] = self._builder.add(Input(name, shape))

    def run(self) -> TensorGraph:
        """Convert all nodes; raise `CompileError` with everything that failed."""
        self._visit_all()
        if self._failures:
            raise CompileError(*self._problems())
        return TensorGraph(tuple(self._builder.operations), self._outputs())

    def survey(self) -> Survey:
        """Convert what can be converted, and tell what cannot."""
        self._visit_all()
        protos = [proto for proto, _ in self._failures]
        failures = tuple(zip(protos, self._problems(), strict=True)) if protos else ()
        outputs = self._reached() if protos else self._outputs()
        graph = TensorGraph(tuple(self._builder.operations), outputs)
        return Survey(self._model, graph, self._values, failures)

    def _visit_all(self) -> None:
        for proto in self._model.nodes:
            self._visit(proto)

    def _visit(self, proto: NodeProto) -> None:
        results: list[Value] = []
        try:
            results = self._results(proto)
            missing = [name for name in proto.output[len(results) :] if name]
            if missing:
                raise NodeError(f"the output '{missing[0]}' of {proto.op_type} is not supported")
        except NodeError as error:
            self._failures.append((proto, error))
            results = []
        padded = results + [Unknown()] * len(proto.output)
        self._values.update(zip(proto.output, padded, strict=False))

    def _results(self, proto: NodeProto) -> list[Value]:
        check_arity(proto, self._model.opset)
        inputs = tuple(self._values[name] if name else None for name in proto.input)
        final = all(self._final.get(name, True) for name in proto.output)
        node = Node(proto, self._model.opset, inputs, final)
        if any(isinstance(value, Unknown) for value in inputs):
            self._require_support(proto)
            self._require_known_part(node)
            return [Unknown()] * len(proto.output)
        if not any(isinstance(value, Encrypted) for value in inputs):
            return self._fold(proto, inputs)
        if proto.op_type in ("Shape", "Size") and isinstance(inputs[0], Encrypted):
            stand_in = np.broadcast_to(np.float32(0), inputs[0].shape)
            return list(run_node(proto, self._model.opset, [stand_in]))
        self._require_support(proto)
        return self._convert(node)

    def _require_support(self, proto: NodeProto) -> None:
        known = proto.op_type in _CONVERTERS or proto.op_type in ("Shape", "Size")
        if proto.domain not in ("", "ai.onnx") or not known:
            raise unsupported(proto)

    def _require_known_part(self, node: Node) -> None:
        """Report what is wrong whatever the unknown inputs are."""
        if node.operator in onnx_epilogue.ONLY_FINAL:
            onnx_epilogue.require_final(node)
        if node.operator in ("MatMul", "Gemm"):
            onnx_products.require_constant(node)

    def _convert(self, node: Node) -> list[Value]:
        try:
            with np.errstate(all="ignore"):  # the builder reports what is not finite
                return _CONVERTERS[node.operator](self._builder, node)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise NodeError(f"{node.operator} is malformed: {error}") from error

    def _fold(self, proto: NodeProto, inputs: tuple[Value | None, ...]) -> list[Value]:
        if proto.domain not in ("", "ai.onnx") or proto.op_type not in FOLDABLE:
            raise unsupported(proto)
        arrays = [value if isinstance(value, np.ndarray) else None for value in inputs]
        self._work += work(proto, arrays)
        if self._work > _MAX_WORK:
            raise NodeError(
                f"the constants up to here take {self._work:,} operations; "
                f"the limit is {_MAX_WORK:,}",
                TOO_LARGE,
            )
        results = run_node(proto, self._model.opset, arrays)
        self._folded += sum(result.size for result in results)
        if self._folded > _MAX_FOLDED:
            raise NodeError(
                f"the constants up to here have {self._folded:,} elements; "
                f"the limit is {_MAX_FOLDED:,}",
                TOO_LARGE,
            )
        return list(results)

    def _problems(self) -> list[Problem]:
        return [
            Problem(error.message, where, error.help or EXPORT_AGAIN)
            for where, error in zip(
                place(self._model, self._values, [proto for proto, _ in self._failures]),
                [error for _, error in self._failures],
                strict=True,
            )
        ]

    def _outputs(self) -> tuple[Output, ...]:
        outputs, problems = [], []
        for info in self._model.proto.graph.output:
            value = self._values[info.name]
            if isinstance(value, Encrypted):
                outputs.append(self._output(info.name, value))
            else:
                problems.append(
                    Problem(
                        f"the output '{info.name}' does not depend on any input",
                        self._model.name,
                        "remove this output from the model",
                    )
                )
        if problems:
            raise CompileError(*problems)
        return tuple(outputs)

    def _reached(self) -> tuple[Output, ...]:
        reached = ((x.name, self._values[x.name]) for x in self._model.proto.graph.output)
        return tuple(self._output(name, x) for name, x in reached if isinstance(x, Encrypted))

    def _output(self, name: str, value: Encrypted) -> Output:
        finished = self._builder.finish(value, value.shape)
        return Output(name, finished.position, epilogue=finished.epilogue)
