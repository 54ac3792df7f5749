"""From a model to a plan, read aloud: every arrow of the design is one call here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from hec.compiler import ckks_ir
from hec.compiler.calibration import Calibration
from hec.compiler.errors import fail
from hec.compiler.key_manifest import needed_keys
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.lower import label
from hec.compiler.onnx_import import import_onnx
from hec.compiler.parameters import Choice, choose_parameters
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart, PlanFit, PlanInput, PlanOutput, ServerPart
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Input,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    inputs,
)
from hec.compiler.typing_rules import infer_types
from hec.passes import run_tensor_passes
from hec.passes.choose_layouts import choose_layouts

AnyArray = NDArray[np.generic]
Model = str | os.PathLike[str] | bytes | onnx.ModelProto
_MAX_FILE_BYTES = 2**31 - 1  # protobuf writes no more; then `hec check` has to be given the file
_ASSUMED_MAGNITUDE = 0.5  # root mean square of a tensor in [-1, 1], where nothing was observed


def compile(
    model: Model,
    calibration: AnyArray | Mapping[str, AnyArray] | None = None,
    target: Target | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Plan:
    """Return the plan that predicts what `model` predicts, on encrypted inputs.

    `model` is a path, the file's bytes, or a ModelProto. `calibration` holds real inputs, as the
    model takes them: an array whose first axis counts samples, or one array per input name.
    `progress` is told the name of every step. Raises `CompileError` where the user can act.
    """
    target = target or Target()
    _check_backend(target)
    progress("import")
    imported = import_onnx(model, target)
    seen = Calibration.from_samples(imported.graph, calibration, target, imported.name)
    progress("tensor passes")
    graph = run_tensor_passes(imported.graph, target, seen)
    progress("layouts, scales, parameters")
    sizes = _sizes(graph, seen)

    def layouts(slots: int) -> LaidOutGraph:
        return choose_layouts(graph, slots, target)

    choice = choose_parameters(graph, layouts, _primes, sizes, target)
    progress("plan")
    client = _client_part(graph, choice, imported.name)
    return Plan.of(client, _server_part(graph, choice, sizes, _file(model)))


def _check_backend(target: Target) -> None:
    if target.backend == "openfhe":
        raise fail(
            "the OpenFHE backend is not part of this version",
            "--backend openfhe",
            "use --backend tenseal, which runs every program without bootstraps",
        )


def _primes(ring_degree: int, bits: Sequence[int]) -> Sequence[int]:
    from hec.runtime.tenseal_primes import primes  # late: a backend library is slow to import

    return primes(ring_degree, bits)


def _sizes(graph: TensorGraph, calibration: Calibration) -> list[float]:
    """Return the root mean square of every tensor, as it will lie in the slots."""
    sizes = []
    for values in calibration.ranges(graph):
        seen = values.values
        sizes.append(
            _ASSUMED_MAGNITUDE if seen is None else float(np.sqrt(np.mean(np.square(seen))))
        )
    return sizes


def _file(model: Model) -> bytes:
    """Return the model as one ONNX file, weights that are stored beside it included."""
    if isinstance(model, bytes):
        return model
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(os.fspath(model))
    return b"" if proto.ByteSize() > _MAX_FILE_BYTES else proto.SerializeToString()


def _client_part(graph: TensorGraph, choice: Choice, model: str) -> ClientPart:
    program = choice.lowered.program
    return ClientPart(
        program.parameters,
        tuple(_inputs(graph, choice)),
        tuple(_outputs(graph, choice)),
        needed_keys(program),
        choice.precision,
        "tenseal",
        model,
    )


def _server_part(
    graph: TensorGraph, choice: Choice, sizes: Sequence[float], model: bytes
) -> ServerPart:
    program, sources = choice.lowered.program, choice.lowered.sources
    labels = []
    for instruction, source in zip(program.instructions, sources, strict=True):
        is_end = isinstance(instruction, ckks_ir.Input | ckks_ir.Output)
        labels.append("" if is_end else _label(graph.operations[source]))
    fits = {
        PlanFit(_label(operation), operation.fit): None
        for operation in graph.operations
        if isinstance(operation, Multiply | Polynomial) and operation.fit is not None
    }
    magnitudes = tuple(sizes[source] for source in sources)
    return ServerPart(
        program, tuple(labels), magnitudes, tuple(fits), np.frombuffer(model, np.uint8)
    )


def _label(operation: TensorOperation) -> str:
    return "" if isinstance(operation, Input | Activation) else label(operation)


def _inputs(graph: TensorGraph, choice: Choice) -> list[PlanInput]:
    made = {
        instruction.name: instruction
        for instruction in choice.lowered.program.instructions
        if isinstance(instruction, ckks_ir.Input)
    }
    return [_input(operation, made[operation.name]) for _, operation in inputs(graph)]


def _input(operation: Input, made: ckks_ir.Input) -> PlanInput:
    return PlanInput(
        operation.name,
        operation.shape,
        made.layout,
        made.level,
        made.scale,
        operation.divisor,
        operation.interval,
    )


def _outputs(graph: TensorGraph, choice: Choice) -> list[PlanOutput]:
    program = choice.lowered.program
    types = infer_types(program)
    made = {
        instruction.name: (instruction, types[position])
        for position, instruction in enumerate(program.instructions)
        if isinstance(instruction, ckks_ir.Output)
    }
    outputs = []
    for output in graph.outputs:
        instruction, value = made[output.name]
        shape = graph.operations[output.operand].shape
        outputs.append(
            PlanOutput(
                output.name,
                shape,
                instruction.layout,
                value.level,
                value.scale,
                output.factor,
                output.epilogue,
            )
        )
    return outputs
