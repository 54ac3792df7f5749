"""Import an ONNX network as a TensorGraph.

The nodes are walked in order. A node that no encrypted value reaches is computed at once, so the
Shape, Gather, Concat chains of exporters vanish; every other has a converter in `_CONVERTERS`.
All problems are collected, and reported together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from hec.compiler import (
    onnx_activations,
    onnx_bilinear,
    onnx_client,
    onnx_conv_transpose,
    onnx_einsum,
    onnx_elementwise,
    onnx_epilogue,
    onnx_grid_sample,
    onnx_indexing,
    onnx_maxima,
    onnx_ml,
    onnx_movement,
    onnx_normalizations,
    onnx_norms,
    onnx_products,
    onnx_resize,
    onnx_softmax,
    onnx_transforms,
    onnx_windows,
)
from hec.compiler.errors import CompileError, Problem
from hec.compiler.onnx_constants import Converter, fold
from hec.compiler.onnx_fold import run_node, work
from hec.compiler.onnx_inputs import input_shapes, place
from hec.compiler.onnx_model import EXPORT_AGAIN, LoadedModel, load_model
from hec.compiler.onnx_node import Node, check_arity, node_name
from hec.compiler.onnx_unsupported import unsupported
from hec.compiler.onnx_values import TOO_LARGE, Encrypted, GraphBuilder, NodeError, Unknown, Value
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Input, Output, TensorGraph, check

_MAX_FOLDED = 2**28  # elements that all computed constants together may have
_MAX_WORK = 2**33  # elements read, or multiplied, to compute them: seconds

_CONVERTERS: dict[str, Converter] = {
    "Add": onnx_elementwise.convert_sum,
    "ArgMax": onnx_epilogue.convert_argmax,
    "AveragePool": onnx_windows.convert_average_pool,
    "BatchNormalization": onnx_products.convert_batch_normalization,
    "Cast": onnx_epilogue.convert_cast,
    "Clip": onnx_elementwise.convert_clip,
    "Col2Im": onnx_conv_transpose.convert_col2im,
    "Conv": onnx_windows.convert_conv,
    "ConvTranspose": onnx_conv_transpose.convert_conv_transpose,
    "CumSum": onnx_transforms.convert_cumulative_sum,
    "DFT": onnx_transforms.convert_fourier_transform,
    "Div": onnx_elementwise.convert_div,
    "Dropout": onnx_epilogue.convert_identity,
    "Einsum": onnx_einsum.convert_einsum,
    "Gemm": onnx_bilinear.convert_gemm,
    "GlobalAveragePool": onnx_products.convert_global_average_pool,
    "GlobalLpPool": onnx_norms.convert_global_lp_pool,
    "GridSample": onnx_grid_sample.convert_grid_sample,
    "GlobalMaxPool": onnx_maxima.convert_global_max_pool,
    "GroupNormalization": onnx_normalizations.convert_group_normalization,
    "Identity": onnx_epilogue.convert_identity,
    "InstanceNormalization": onnx_normalizations.convert_instance_normalization,
    "LayerNormalization": onnx_normalizations.convert_layer_normalization,
    "LogSoftmax": onnx_softmax.convert_softmax,
    "LpNormalization": onnx_normalizations.convert_lp_normalization,
    "LRN": onnx_normalizations.convert_lrn,
    "LpPool": onnx_norms.convert_lp_pool,
    "MatMul": onnx_bilinear.convert_matmul,
    "Max": onnx_maxima.convert_extremum,
    "MaxPool": onnx_maxima.convert_max_pool,
    "Mean": onnx_elementwise.convert_mean,
    "Min": onnx_maxima.convert_extremum,
    "MeanVarianceNormalization": onnx_normalizations.convert_mean_variance_normalization,
    "Mul": onnx_elementwise.convert_mul,
    "Neg": onnx_elementwise.convert_neg,
    "Pad": onnx_movement.convert_pad,
    "Pow": onnx_elementwise.convert_pow,
    "PRelu": onnx_activations.convert_prelu,
    "ReduceL1": onnx_norms.convert_norm,
    "ReduceL2": onnx_norms.convert_norm,
    "ReduceLogSum": onnx_norms.convert_norm,
    "ReduceLogSumExp": onnx_norms.convert_norm,
    "ReduceMax": onnx_maxima.convert_reduction,
    "RMSNormalization": onnx_normalizations.convert_rms_normalization,
    "ReduceMean": onnx_products.convert_reduction,
    "ReduceMin": onnx_maxima.convert_reduction,
    "ReduceSum": onnx_products.convert_reduction,
    "ReduceSumSquare": onnx_norms.convert_norm,
    "Resize": onnx_resize.convert_resize,
    "Sigmoid": onnx_epilogue.convert_sigmoid,
    "Softmax": onnx_softmax.convert_softmax,
    "Sub": onnx_elementwise.convert_sub,
    "Sum": onnx_elementwise.convert_sum,
    "Upsample": onnx_resize.convert_resize,
    **dict.fromkeys(sorted(onnx_indexing.GATHERS), onnx_indexing.convert_gather),
    **dict.fromkeys(sorted(onnx_indexing.SCATTERS), onnx_indexing.convert_scatter),
    **dict.fromkeys(sorted(onnx_movement.OPERATORS), onnx_movement.convert_movement),
    **dict.fromkeys(onnx_activations.FUNCTIONS, onnx_activations.convert_activation),
}


def _converter(proto: NodeProto) -> Converter | None:
    if proto.domain == onnx_ml.DOMAIN:
        return onnx_ml.CONVERTERS.get(proto.op_type)
    return _CONVERTERS.get(proto.op_type) if proto.domain in ("", "ai.onnx") else None


def _is_shape(proto: NodeProto) -> bool:
    return proto.domain in ("", "ai.onnx") and proto.op_type in ("Shape", "Size")


def is_supported(operator: str, domain: str = "") -> bool:
    """Return whether an encrypted tensor may enter the operator, in some of its forms at least."""
    proto = NodeProto(op_type=operator, domain=domain)
    return _converter(proto) is not None or _is_shape(proto)


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
    graph = onnx_client.one_of_each_input(_Importer(loaded, target).run(), loaded.name)
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
        self._builder = GraphBuilder(target.maxpool)
        self._values: dict[str, Value] = dict(model.constants)
        shapes = input_shapes(model, target)
        self._final: Mapping[str, bool] = onnx_epilogue.final_values(model.nodes, shapes)
        self._failures: list[tuple[NodeProto, NodeError]] = []
        self._folded = 0
        self._work = 0
        for name, shape in shapes.items():
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
            return self._convert(node)
        if _is_shape(proto) and isinstance(inputs[0], Encrypted):
            stand_in = np.broadcast_to(np.float32(0), inputs[0].shape)
            return list(run_node(proto, self._model.opset, [stand_in]))
        self._require_support(proto)
        return self._convert(node)

    def _require_support(self, proto: NodeProto) -> None:
        if not is_supported(proto.op_type, proto.domain):
            raise unsupported(proto)

    def _require_known_part(self, node: Node) -> None:
        """Report what is wrong whatever the unknown inputs are."""
        if node.operator in onnx_epilogue.ONLY_FINAL:
            onnx_epilogue.require_final(node)
        onnx_maxima.require_choice(self._builder, node)

    def _convert(self, node: Node) -> list[Value]:
        try:
            if not any(isinstance(value, Encrypted) for value in node.inputs):
                return self._fold(node)
            converter = _converter(node.proto)
            if converter is None:
                raise unsupported(node.proto)
            with np.errstate(all="ignore"):  # the builder reports what is not finite
                if onnx_client.is_finished(node):
                    return onnx_client.convert_finished(self._builder, node, converter)
                return converter(self._builder, node)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise NodeError(f"{node.operator} is malformed: {error}") from error

    def _fold(self, node: Node) -> list[Value]:
        arrays = [value if isinstance(value, np.ndarray) else None for value in node.inputs]
        self._work += work(node.proto, arrays)
        if self._work > _MAX_WORK:
            raise NodeError(
                f"the constants up to here take {self._work:,} operations; "
                f"the limit is {_MAX_WORK:,}",
                TOO_LARGE,
            )
        results = fold(node, _CONVERTERS.get(node.operator))
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
                problems.append(self._constant_output(info.name))
        if problems:
            raise CompileError(*problems)
        return tuple(outputs)

    def _constant_output(self, name: str) -> Problem:
        makers = [node for node in self._model.nodes if name in node.output]
        made = "".join(f", made by node '{node_name(n)}' ({n.op_type})" for n in makers)
        return Problem(
            f"the output '{name}' does not depend on the elements of any input",
            f"{self._model.name}: output '{name}'{made}",
            "remove this output from the model; it is the same for every input of this shape",
        )

    def _reached(self) -> tuple[Output, ...]:
        reached = ((x.name, self._values[x.name]) for x in self._model.proto.graph.output)
        return tuple(self._output(name, x) for name, x in reached if isinstance(x, Encrypted))

    def _output(self, name: str, value: Encrypted) -> Output:
        finished = self._builder.finish(value, value.shape)
        return Output(name, finished.position, epilogue=finished.epilogue)
