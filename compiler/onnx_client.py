"""Affine maps that the client computes: behind the end of the network, and before its input.

A binary classifier ends in Concat(1 - p, p), where p is what the client's sigmoid gives; a pipeline
may scale and normalize its input. The converters of the operators stay in charge: they run on a
stand-in for p, and what they build is one `Linear`, which the client can take over where every
element of its result comes from one element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import scipy.sparse as sp

from hec.compiler.client_shapes import follow
from hec.compiler.client_steps import MAX_PICKED, Affine, Norm, Normalize
from hec.compiler.errors import CompileError, InvalidProgram, Problem
from hec.compiler.onnx_matrices import select
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import Encrypted, GraphBuilder, NodeError, Value
from hec.compiler.tensor_ir import (
    Array,
    ClientStep,
    EpilogueStep,
    Input,
    Linear,
    Shape,
    TensorGraph,
    TensorOperation,
    inputs,
    operands,
)

Converter = Callable[[GraphBuilder, Node], list[Value]]
ONE_OPERAND = frozenset({"Add", "Div", "Mul", "Neg", "Sub"})  # beside constants
ARRANGING = frozenset({"ArrayFeatureExtractor", "Gather", "Slice", "Split", "Transpose"})
REARRANGING = ONE_OPERAND | ARRANGING | {"Concat"}
_ON_CLIENT = "do this on the client after decryption"


def is_finished(node: Node) -> bool:
    """Return whether the node rearranges or scales what the client computes."""
    data = node.inputs[:1] if node.operator in ARRANGING else node.inputs
    finished = [isinstance(value, Encrypted) and value.epilogue != () for value in data]
    return node.operator in REARRANGING and any(finished)


def convert_finished(builder: GraphBuilder, node: Node, converter: Converter) -> list[Value]:
    """Turn a node on values that the client finishes into one more step of the client."""
    source = _shared_source(builder, node)
    stand_in = GraphBuilder()
    start = stand_in.add(Input("", source.shape))
    replayed = tuple(
        _replay(stand_in, start, value.epilogue[len(source.epilogue) :], value.shape)
        if isinstance(value, Encrypted)
        else value
        for value in node.inputs
    )
    results = converter(stand_in, replace(node, inputs=replayed))
    return [_taken_over(builder, source, stand_in, result, node) for result in results]


def _shared_source(builder: GraphBuilder, node: Node) -> Encrypted:
    """Return the value that all operands come from by affine steps alone."""
    found = [value for value in node.inputs if isinstance(value, Encrypted)]
    sources = {(value.position, _without_affine(value.epilogue)) for value in found}
    if len(sources) != 1:
        raise NodeError(
            f"{node.operator} of tensors that the client finishes in different ways "
            "is not supported",
            _ON_CLIENT,
        )
    ((position, steps),) = sources
    state = follow(builder.operations[position].shape, steps)
    whole = any(isinstance(s, EpilogueStep) and s.dtype[:5] not in ("", "float") for s in steps)
    if state.positions is not None or state.labels is not None or whole:
        raise NodeError(f"{node.operator} of classes is not supported", _ON_CLIENT)
    return Encrypted(position, state.shape, steps)


def _without_affine(steps: tuple[ClientStep, ...]) -> tuple[ClientStep, ...]:
    count = len(steps)
    while count and (isinstance(steps[count - 1], Affine) or steps[count - 1].name == "reshape"):
        count -= 1
    return steps[:count]


def _replay(
    builder: GraphBuilder, start: Encrypted, steps: Sequence[ClientStep], shape: Shape
) -> Encrypted:
    value = start
    for step in steps:
        if isinstance(step, Affine):
            matrix = select(np.array(step.columns), prod(value.shape), np.array(step.weights))
            bias = np.reshape(step.bias, step.shape)
            value = builder.linear([(value.position, matrix)], bias, step.shape, ())
    return replace(value, shape=shape)


def _taken_over(
    builder: GraphBuilder, source: Encrypted, stand_in: GraphBuilder, result: Value, node: Node
) -> Value:
    if not isinstance(result, Encrypted):
        return result
    count = prod(result.shape)
    if count > MAX_PICKED:
        raise NodeError(
            f"{node.operator} of {count:,} elements after the client's steps; "
            f"the limit is {MAX_PICKED:,}",
            _ON_CLIENT,
        )
    step = affine_step(stand_in.operations, result)
    if step is None:
        raise InvalidProgram(f"{node.operator} was taken for a move, and adds up elements")
    return builder.finish(source, result.shape, step)


def affine_step(operations: Sequence[TensorOperation], value: Encrypted) -> Affine | None:
    """Return the step from an Input to `value`; None if it adds up elements, or is not affine."""
    found = _from_input(operations, value.position)
    return None if found is None else _step_of(found[1], found[2], value.shape)


def _step_of(matrix: sp.csr_array, bias: Array, shape: Shape) -> Affine | None:
    taps = np.diff(matrix.indptr)
    if taps.max(initial=0) > 1:
        return None
    columns, weights = np.zeros(taps.size, np.int64), np.zeros(taps.size)
    columns[taps == 1], weights[taps == 1] = matrix.indices, matrix.data
    return Affine(tuple(columns.tolist()), tuple(weights.tolist()), tuple(bias.tolist()), shape)


def _from_input(
    operations: Sequence[TensorOperation], position: int
) -> tuple[Input, sp.csr_array, Array] | None:
    """Return the only input that affine layers lead down to, and the map from it, if that is so."""
    layers = _layers_below(operations, position)
    sources = [operations[k] for k in layers if not isinstance(operations[k], Linear)]
    if len(sources) != 1 or not isinstance(sources[0], Input):
        return None
    count = prod(sources[0].shape)
    maps: dict[int, tuple[sp.csr_array, Array]] = {}
    for k in layers:
        layer = operations[k]
        if isinstance(layer, Linear):
            total, bias = sp.csr_array((prod(layer.shape), count)), layer.bias
            for operand, matrix in zip(layer.operands, layer.matrices, strict=True):
                below, shift = maps[operand]
                total, bias = sp.csr_array(total + matrix @ below), matrix @ shift + bias
            maps[k] = total, np.asarray(bias)
        else:
            maps[k] = select(np.arange(count), count), np.zeros(count)
    return sources[0], *maps[position]


def _layers_below(operations: Sequence[TensorOperation], position: int) -> list[int]:
    """Return the positions of the affine layers down from `position`, and of what they read."""
    found, waiting = {position}, [position]
    while waiting:
        operation = operations[waiting.pop()]
        below = set(operation.operands) - found if isinstance(operation, Linear) else set[int]()
        found |= below
        waiting += below
    return sorted(found)


def normalize_input(builder: GraphBuilder, x: Encrypted, norm: Norm) -> Encrypted | None:
    """Return an input that the client normalizes; None if `x` is more than a scaled input."""
    below = builder.operations[x.position]
    if x.epilogue or below.shape != x.shape:
        return None
    if isinstance(below, Input):
        prologue = (*below.prologue, Normalize(norm))
        return builder.add(Input(below.name, below.shape, prologue=prologue))
    found = _from_input(builder.operations, x.position) if prod(x.shape) <= MAX_PICKED else None
    if found is None or found[0].shape != x.shape:
        return None
    source, matrix, bias = found
    step = _step_of(matrix, bias, x.shape)
    if step is None:
        return None
    prologue = (*source.prologue, step, Normalize(norm))
    return builder.add(Input(source.name, source.shape, prologue=prologue))


def one_of_each_input(graph: TensorGraph, model: str) -> TensorGraph:
    """Put a normalized input in the place of the input that it was made from.

    Raise `CompileError` where the network reads an input in two forms.
    """
    places: dict[str, list[int]] = {}
    for position, operation in inputs(graph):
        places.setdefault(operation.name, []).append(position)
    live, operations = _live(graph), list(graph.operations)
    problems: list[Problem] = []
    for name, (first, *others) in places.items():
        read = [graph.operations[position] for position in (first, *others) if live[position]]
        if len({operation.prologue for operation in read if isinstance(operation, Input)}) > 1:
            problems.append(_read_in_two_forms(name, model))
        if others and read:
            operations[first] = read[0]
            for position in others:
                operations[position] = _same(operations[position], first)
    if problems:
        raise CompileError(*problems)
    return replace(graph, operations=tuple(operations))


def _read_in_two_forms(name: str, model: str) -> Problem:
    return Problem(
        "the network reads this input in two forms: normalized, and as it is or otherwise",
        f"{model}: input '{name}'",
        "leave the Normalizer out of the pipeline, and normalize before encryption",
    )


def _same(operation: TensorOperation, first: int) -> Linear:
    count = prod(operation.shape)
    return Linear((first,), (select(np.arange(count), count),), np.zeros(count), operation.shape)


def _live(graph: TensorGraph) -> list[bool]:
    live = [False] * len(graph.operations)
    for output in graph.outputs:
        live[output.operand] = True
    for position in range(len(live) - 1, -1, -1):
        if live[position]:
            for operand in operands(graph.operations[position]):
                live[operand] = True
    return live
