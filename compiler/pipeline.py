"""From a model to a plan, read aloud: every arrow of the design is one call here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import onnx
from numpy.typing import NDArray

from hec.compiler import ckks_ir
from hec.compiler.calibration import Calibration
from hec.compiler.errors import InvalidProgram, fail
from hec.compiler.key_manifest import needed_keys
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.onnx_import import import_onnx
from hec.compiler.parameters import Choice, choose_parameters
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart, PlanInput, PlanOutput, ServerPart
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Input, TensorGraph, inputs
from hec.compiler.typing_rules import infer_types
from hec.passes import run_tensor_passes
from hec.passes.choose_layouts import choose_layouts

AnyArray = NDArray[np.generic]
Model = str | os.PathLike[str] | bytes | onnx.ModelProto
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
    choice = choose_parameters(graph, _layouts(graph, target), _primes, _sizes(graph, seen), target)
    progress("plan")
    return _plan(graph, choice, imported.name)


def _check_backend(target: Target) -> None:
    if target.backend == "openfhe":
        raise fail(
            "the OpenFHE backend is not part of this version",
            "--backend openfhe",
            "use --backend tenseal, which runs every program without bootstraps",
        )


def _layouts(graph: TensorGraph, target: Target) -> Callable[[int], LaidOutGraph]:
    return lru_cache(maxsize=None)(lambda slots: choose_layouts(graph, slots, target))


@lru_cache(maxsize=4096)
def _cached_primes(ring_degree: int, bits: tuple[int, ...]) -> tuple[int, ...]:
    """Return SEAL's primes of those sizes, all different; imported late, because it is slow."""
    import tenseal.sealapi as seal

    try:
        return tuple(prime.value() for prime in seal.CoeffModulus.Create(ring_degree, list(bits)))
    except RuntimeError as error:  # small primes that are 1 modulo 2N are few
        raise InvalidProgram(f"primes of {bits} bits for ring degree {ring_degree}: {error}") from None


def _primes(ring_degree: int, bits: Sequence[int]) -> Sequence[int]:
    return _cached_primes(ring_degree, tuple(bits))


def _sizes(graph: TensorGraph, calibration: Calibration) -> list[float]:
    """Return the root mean square of every tensor, as it will lie in the slots."""
    sizes = []
    for values in calibration.ranges(graph):
        seen = values.values
        sizes.append(
            _ASSUMED_MAGNITUDE if seen is None else float(np.sqrt(np.mean(np.square(seen))))
        )
    return sizes


def _plan(graph: TensorGraph, choice: Choice, model: str) -> Plan:
    program, sources = choice.lowered.program, choice.lowered.sources
    client = ClientPart(
        program.parameters,
        tuple(_inputs(graph, choice)),
        tuple(_outputs(graph, choice)),
        needed_keys(program),
        choice.precision,
        "tenseal",
        model,
    )
    labels = tuple(getattr(instruction, "label", "") for instruction in program.instructions)
    fits = tuple(
        (label, fit)
        for label, position in dict.fromkeys(zip(labels, sources, strict=True))
        if label and (fit := getattr(graph.operations[position], "fit", None)) is not None
    )
    del fits
    return Plan.of(client, ServerPart(program, labels))


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
