"""How hec computes an operator, seen in what the operator's tests become."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from conformance_rules import node_verdicts
from conformance_suite import CHOSEN, Case, Operator, cases, verdict
from hec.compiler.errors import CompileError
from hec.compiler.onnx_binding import import_with, model_inputs
from hec.compiler.onnx_inputs import REAL_TYPES
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, EpilogueStep, Multiply, Polynomial, TensorGraph

WAYS = {  # how an operator is computed, and what the page says of it
    "matrix": "exact: a matrix, or nothing at all",
    "product": "exact: products of encrypted numbers",
    "fitted": "fitted functions",
    "client": "by the client, at the end",
}


def how_computed(operator: Operator) -> str:
    """Return how the operator's passed tests are computed, in the words of the page."""
    passed = {v.name for v in node_verdicts(operator) if v.outcome == "passed"}
    of = [case for case in cases() if case.kind == "node" and case.name in passed]
    found = {way(graph) for case in of for graph in _graphs(case)}
    needs = [case for case in of if CHOSEN and verdict(case, Target()).outcome == "refused"]
    options = ", ".join(f"`--{name} {value}`" for name, value in CHOSEN.items())
    return "; ".join(text for name, text in WAYS.items() if name in found) + (
        f" (with {options})" if needs else ""
    )


def way(graph: TensorGraph) -> str:
    """Return which of `WAYS` a graph is."""
    if any(isinstance(operation, Activation) for operation in graph.operations):
        return "fitted"
    if any(isinstance(operation, Multiply | Polynomial) for operation in graph.operations):
        return "product"
    steps = [step for output in graph.outputs for step in output.epilogue]
    moves = all(isinstance(step, EpilogueStep) and step.name == "reshape" for step in steps)
    return "matrix" if moves else "client"


def _graphs(case: Case) -> Iterator[TensorGraph]:
    """Yield what a test becomes: all or one of its inputs encrypted, at the end or inside."""
    for model in (case.model, _followed(case.model)):
        for encrypted in choices(case):
            try:
                yield import_with(model, arrays_of(case), Target(**CHOSEN), encrypted)
            except CompileError:
                continue


def arrays_of(case: Case) -> dict[str, NDArray[np.generic]]:
    """Return the first inputs of a test, by name."""
    names = [info.name for info in model_inputs(case.model)]
    return dict(zip(names, map(np.asarray, case.samples[0][0]), strict=True))


def choices(case: Case) -> list[list[str]]:
    """Return which inputs a backend would encrypt: all real ones, and the first alone."""
    infos = model_inputs(case.model)
    reals = [i.name for i in infos if i.type.tensor_type.elem_type in REAL_TYPES]
    return [reals, reals[:1]] if len(reals) > 1 else [reals]


def _followed(model: ModelProto) -> ModelProto:
    """Return the model with the sum of its first output instead, which no client computes."""
    longer = ModelProto()
    longer.CopyFrom(model)
    first = model.graph.output[0].name
    longer.graph.node.append(helper.make_node("ReduceSum", [first], ["sum"], keepdims=0))
    del longer.graph.output[:]
    longer.graph.output.append(onnx.ValueInfoProto(name="sum"))
    return longer
