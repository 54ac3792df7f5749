"""Import a model whose operands are all inputs: which are encrypted, and which become constants.

A client encrypts few inputs, and weights are constants. But a model may take every operand as an
input, as those of ONNX's own tests do. Then this rule decides, once the values are known:

1. All real (floating-point) inputs are encrypted, all others are constants: shapes, indices, masks.
2. Where hec refuses that, only the first real input is encrypted, as in an exported network.
3. Where no input is real, none becomes a constant, and hec says what it says about such inputs.

An input that no node reads is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from hec.compiler.errors import CompileError, fail
from hec.compiler.onnx_import import import_onnx
from hec.compiler.onnx_inputs import REAL_TYPES
from hec.compiler.onnx_node import read_by
from hec.compiler.target import Target
from hec.compiler.tensor_ir import TensorGraph

AnyArray = NDArray[np.generic]


def model_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs that need a value: those that no initializer fills."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in stored]


def import_bound(model: ModelProto, arrays: Mapping[str, AnyArray], target: Target) -> TensorGraph:
    """Import the model with `arrays` for its inputs, by name.

    Raise the `CompileError` of the last way that the rule of this module tries.
    """
    read = [info for info in model_inputs(model) if _is_used(model, info.name)]
    reals = [i.name for i in read if i.type.tensor_type.elem_type in REAL_TYPES]
    if len(reals) > 1:
        with suppress(CompileError):
            return import_with(model, arrays, target, reals)
    encrypted = reals[:1] or [info.name for info in read]
    return import_with(model, arrays, target, encrypted)


def _is_used(model: ModelProto, name: str) -> bool:
    is_output = any(info.name == name for info in model.graph.output)
    return is_output or bool(read_by(model.graph.node, name))


def import_with(
    model: ModelProto, arrays: Mapping[str, AnyArray], target: Target, encrypted: Collection[str]
) -> TensorGraph:
    """Import with the inputs `encrypted`, and `arrays` as constants for all others."""
    shapes = {name: arrays[name].shape for name in encrypted}
    bound = bind(model, arrays, encrypted)
    return import_onnx(bound, replace(target, input_shapes=shapes)).graph


def bind(
    model: ModelProto, arrays: Mapping[str, AnyArray], encrypted: Collection[str]
) -> ModelProto:
    """Return the model with its inputs but those `encrypted` as constants, or left out."""
    bound = ModelProto()
    bound.CopyFrom(model)
    del bound.graph.input[:]
    for info in model_inputs(model):
        if info.name in encrypted or not info.type.HasField("tensor_type"):
            bound.graph.input.append(info)
        elif _is_used(model, info.name):
            bound.graph.initializer.append(_constant(info.name, arrays[info.name]))
    return bound


def _constant(name: str, array: AnyArray) -> TensorProto:
    try:
        return numpy_helper.from_array(array, name)
    except (TypeError, ValueError, KeyError, NotImplementedError):  # as versions of onnx differ
        raise fail(
            f"the array cannot be a constant: its type {array.dtype} is none of ONNX",
            f"input '{name}'",
            "give an array of the type that the model declares",
        ) from None
