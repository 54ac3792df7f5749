"""An ONNX backend, `onnx.backend.base.Backend`, that computes in the clear what hec encrypts.

It imports the model and evaluates the graph with exact functions, then the client's last steps: the
meaning against which everything later is measured. A compiled plan would not do: its fitted
functions keep the error that the user asked for, not the tolerance of ONNX's own tests. Which
inputs are encrypted is the rule of `onnx_binding`.

Source: the interface that onnx.backend.test runs the tests of the onnx package against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.backend.base import Backend, BackendRep

from hec.compiler.errors import CompileError, fail
from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_binding import AnyArray, import_bound, model_inputs
from hec.compiler.onnx_import import import_onnx
from hec.compiler.onnx_inputs import REAL_TYPES
from hec.compiler.onnx_model import load_model
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Array, Input, TensorGraph, inputs

_ONE_EACH = "give one array for each input, in the model's order or by name"


@dataclass(frozen=True, eq=False)
class PreparedModel(BackendRep):
    """A model to run; `graph` is None where only the inputs' values tell what is refused."""

    model: ModelProto
    target: Target
    graph: TensorGraph | None

    def run(self, inputs: object, **kwargs: object) -> tuple[AnyArray, ...]:
        """Return the outputs, of the types that the model declares.

        `inputs` are arrays in the model's order or by name. Raise `CompileError` where they do not
        fit, or hec refuses the model with them.
        """
        arrays = _by_name(self.model, inputs)
        graph = self.graph or import_bound(self.model, arrays, self.target)
        with np.errstate(all="ignore"):  # what overflows is infinite, as in ONNX
            results = _results(graph, arrays)
            declared = [info.type.tensor_type.elem_type for info in self.model.graph.output]
            return tuple(map(_typed, results, declared))


class OnnxBackend(Backend):
    """hec as a backend of ONNX."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether the device is the CPU: there is no other."""
        return device.partition(":")[0] == "CPU"

    @classmethod
    def prepare(
        cls, model: ModelProto, device: str = "CPU", target: Target | None = None, **kwargs: object
    ) -> PreparedModel:
        """Return the model ready to run; raise `CompileError` if hec refuses it for any input.

        Other options are ignored: the tests of ONNX pass their tolerances here.
        """
        if not cls.supports_device(device):
            raise fail(f"there is no device '{device}'", help="leave the device out, or give 'CPU'")
        target = target or Target()
        load_model(model)
        given = model_inputs(model)
        if len(given) > 1 or any(_is_open(info) for info in given):
            return PreparedModel(model, target, None)
        return PreparedModel(model, target, import_onnx(model, target).graph)

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: object) -> bool:
        """Return whether `prepare` accepts the model."""
        try:
            cls.prepare(model, device)
        except CompileError:
            return False
        return True

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: object, device: str = "CPU", **kwargs: object
    ) -> tuple[AnyArray, ...]:
        """Prepare and run in one call."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: object,
        device: str = "CPU",
        outputs_info: object = None,
        **kwargs: object,
    ) -> tuple[AnyArray, ...]:
        """Run a model of one node; `opset_version` is the newest unless it is given."""
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        return cls.run_model(_model_of(node, _arrays(inputs), int(str(opset))), inputs, device)


prepare = OnnxBackend.prepare
run_model = OnnxBackend.run_model
run_node = OnnxBackend.run_node
supports_device = OnnxBackend.supports_device


def _is_open(info: ValueInfoProto) -> bool:
    """Return whether only a value tells the input's shape."""
    kind = info.type.tensor_type
    return not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim)


def _model_of(node: NodeProto, arrays: Sequence[AnyArray], opset: int) -> ModelProto:
    names = list(dict.fromkeys(filter(None, node.input)))
    _require_count(arrays, names, node.op_type)
    values = [
        helper.make_tensor_value_info(name, _element_type(name, array), array.shape)
        for name, array in zip(names, arrays, strict=True)
    ]
    results = [ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], node.op_type, values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])
    return onnx.shape_inference.infer_shapes(model)  # for the types of the outputs


def _element_type(name: str, array: AnyArray) -> int:
    try:
        return int(helper.np_dtype_to_tensor_dtype(array.dtype))
    except (ValueError, KeyError):  # as versions of onnx differ
        message = f"the array is of type {array.dtype}, which is none of ONNX"
        raise fail(message, f"input '{name}'", "give an array of numbers") from None


def _by_name(model: ModelProto, inputs: object) -> dict[str, AnyArray]:
    names = [info.name for info in model_inputs(model)]
    place = model.graph.name or "model"
    if not isinstance(inputs, Mapping):
        arrays = _arrays(inputs)
        _require_count(arrays, names, place)
        return dict(zip(names, arrays, strict=True))
    if set(inputs) != set(names):
        given = f"the arrays {_quoted(inputs)} do"
        raise fail(f"{given} not fit the inputs: {_quoted(names)}", place, _ONE_EACH)
    return {name: _array(inputs[name]) for name in names}


def _require_count(arrays: Sequence[AnyArray], names: Sequence[str], place: str) -> None:
    if len(arrays) != len(names):
        given = "1 array does" if len(arrays) == 1 else f"{len(arrays)} arrays do"
        raise fail(f"{given} not fit the inputs: {_quoted(names)}", place, _ONE_EACH)


def _quoted(names: Iterable[object]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _arrays(inputs: object) -> list[AnyArray]:
    if isinstance(inputs, np.ndarray):
        return [inputs]
    if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes):
        return [_array(value) for value in inputs]
    raise fail(f"the inputs are of type {type(inputs).__name__}", help=_ONE_EACH)


def _array(value: object) -> AnyArray:
    """Return a value as an array: texts as objects, as onnx has them, and sequences as well."""
    if isinstance(value, list | tuple):
        return np.fromiter(value, object, len(value))
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _results(graph: TensorGraph, arrays: Mapping[str, AnyArray]) -> list[AnyArray]:
    from hec.runtime import epilogue

    samples = {item.name: _sample(item, arrays[item.name]) for _, item in inputs(graph)}
    values = evaluate(graph, samples)
    results = []
    for output in graph.outputs:
        shape = graph.operations[output.operand].shape
        raw = values[output.operand].reshape(shape) * output.factor
        results.append(epilogue.apply(raw, output.epilogue))
    return results


def _typed(result: AnyArray, declared: int) -> AnyArray:
    """Return a real result as the type that the model declares, float32 where it declares none."""
    if result.dtype.kind != "f":
        return result
    kind = declared if declared in REAL_TYPES else TensorProto.FLOAT
    return result.astype(helper.tensor_dtype_to_np_dtype(kind))


def _sample(item: Input, array: AnyArray) -> Array:
    """Return the array as the one row of a batch; raise `CompileError` if it does not fit."""
    place = f"input '{item.name}'"
    if array.shape != item.shape:
        message = f"the array of shape {array.shape} does not fit the shape {item.shape}"
        raise fail(message, place, "give arrays of the shapes that the model declares")
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        message = f"the array is of type {array.dtype}, not of real numbers"
        raise fail(message, place, "give floating-point numbers")
    return array.astype(np.float64).reshape(1, -1)
