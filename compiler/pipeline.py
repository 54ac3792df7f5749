"""From a model to a plan, read aloud: every arrow of the design is one call here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import overload

import numpy as np
import onnx
from numpy.typing import NDArray
from typing_extensions import assert_never

from hec.compiler import average_pools, ckks_ir, tensor_ir
from hec.compiler.alternative import Alternative
from hec.compiler.calibration import FEWEST, Calibration
from hec.compiler.errors import CompileError, warn
from hec.compiler.goals import agreement_problems, require_classes
from hec.compiler.instances import OpenfheInstances, SealInstances
from hec.compiler.key_manifest import needed_keys
from hec.compiler.layout import UNUSED
from hec.compiler.lower import label
from hec.compiler.onnx_import import ImportedModel, import_onnx
from hec.compiler.packing import Packing, packing
from hec.compiler.parameters import Choice
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import (
    ClientPart,
    PlanFit,
    PlanInput,
    PlanOutput,
    PlanTensor,
    ServerPart,
)
from hec.compiler.python_models import (
    Example,
    PythonModel,
    Samples,
    as_samples,
    export,
)
from hec.compiler.strategies import Candidate, Libraries, Strategies
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Fit,
    Input,
    Multiply,
    Polynomial,
    Shape,
    TensorGraph,
    TensorOperation,
    inputs,
)
from hec.compiler.typing_rules import infer_types, operands

AnyArray = NDArray[np.generic]
Model = str | os.PathLike[str] | bytes | onnx.ModelProto
Progress = Callable[[str], None]
_MAX_FILE_BYTES = 2**31 - 1  # protobuf writes no more; then `hec check` has to be given the file
Primes = tuple[Sequence[int], Sequence[int]]  # of a chain, and special ones


def _silent(step: str) -> None:
    """Tell nobody."""


@overload
def compile(
    model: Model,
    calibration: Samples | None,
    /,
    target: Target | None = None,
    progress: Progress = _silent,
) -> Plan: ...
@overload
def compile(
    model: Model,
    *,
    calibration: Samples | None = None,
    target: Target | None = None,
    progress: Progress = _silent,
) -> Plan: ...
@overload
def compile(
    model: PythonModel,
    example: Example,
    target: Target | None = None,
    progress: Progress = _silent,
    *,
    calibration: Samples | None = None,
) -> Plan: ...
def compile(
    model: Model | PythonModel,
    example: Example | None = None,
    target: Target | None = None,
    progress: Progress = _silent,
    *,
    calibration: Samples | None = None,
) -> Plan:
    """Return the plan that predicts what `model` predicts, on encrypted inputs.

    `model` is a path, an ONNX file's bytes, or a ModelProto. `calibration` holds real inputs, as
    the model takes them: an array whose first axis counts samples, or one array per input name.
    A torch module needs an `example`, a batch of inputs; a scikit-learn estimator its training
    data. These calibrate, too, unless `calibration` is given; a single sample does not.
    `progress` is told the name of every step. Raises `CompileError` where the user can act.
    """
    target = target or Target()
    progress("import")
    if isinstance(model, str | os.PathLike | bytes | onnx.ModelProto):
        network, samples = model, as_samples(example)
    else:
        exported = export(model, example)
        network, samples = exported.network, exported.samples
    samples = samples if calibration is None else calibration
    made = choose(network, samples, target, progress)
    progress("plan")
    return made.plan()


@dataclass(frozen=True, eq=False)
class Compilation:
    """The cheapest program of a network, and all that it was made from."""

    network: Model
    imported: ImportedModel
    calibration: Calibration
    target: Target
    libraries: Libraries
    chosen: Candidate

    def plan(self, advice: tuple[Alternative, ...] | None = None) -> Plan:
        """Return the plan of the program, which keeps the advice on it, where there is some."""
        made = plan_of(self.chosen, self.imported.name, _file(self.network), self.target)
        return made if advice is None else Plan.of(made.client, replace(made.server, advice=advice))


def choose(
    network: Model, samples: Samples | None, target: Target, progress: Progress = _silent
) -> Compilation:
    """Return the cheapest program of an ONNX network; raise as `compile` does."""
    problems = agreement_problems(
        target.min_agreement, target.max_error, target.degree, samples is not None
    )
    if problems:
        raise CompileError(*problems)
    imported = import_onnx(network, target)
    require_classes(imported.graph, target.min_agreement, imported.name)
    seen = Calibration.from_samples(imported.graph, samples, target, imported.name)
    average_pools.tell_effect(network, imported, seen, target)
    known = libraries()
    chosen = Strategies(imported.graph, seen, target, known, progress).best()
    _tell_few_samples(chosen, seen, imported.name)
    return Compilation(network, imported, seen, target, known, chosen)


def _tell_few_samples(chosen: Candidate, seen: Calibration, name: str) -> None:
    """Warn where little is known of ranges, and a bootstrap loses what lies far outside of them.

    Source: ResNet-20 lost 6 of 2,000 images after 32 calibration samples, none after 64.
    """
    count = len(next(iter(seen.samples.values()))) if seen.samples is not None else FEWEST
    bootstraps = sum(isinstance(x, tensor_ir.Bootstrap) for x in chosen.graph.operations)
    if bootstraps and count < FEWEST:
        warn(
            f"{count} calibration samples show little of the ranges of activations, and a bootstrap"
            " loses a value far outside of its range",
            f"{name}: bootstraps of {bootstraps} tensors",
            f"pass --calibration with {FEWEST} real inputs or more",
        )


def plan_of(chosen: Candidate, name: str, file: bytes = b"", target: Target | None = None) -> Plan:
    """Return the plan of a candidate for the network `name`, whose ONNX file is `file`."""
    return Plan.of(_client_part(chosen, name), _server_part(chosen, file, target))


def libraries() -> Libraries:
    """Return what the runtime knows; imported late, for backend libraries are slow to import."""

    def seal_primes(ring_degree: int, bits: Sequence[int]) -> Sequence[int]:
        from hec.runtime.tenseal_primes import primes

        return primes(ring_degree, bits)

    def openfhe_primes(ring_degree: int, bits: Sequence[int], digits: int) -> Primes:
        from hec.runtime.openfhe_primes import chain

        return chain(ring_degree, bits, digits)

    def chains(ring_degree: int, bits: Sequence[int], digits: int) -> Primes:
        from hec.runtime.openfhe_primes import chain

        return chain(ring_degree, bits, digits, bootstrapping=True)

    def openfhe_error() -> CompileError | None:
        try:
            import_module("hec.runtime.openfhe_library")
        except CompileError as error:
            return error
        return None

    def errors(program: ckks_ir.Program, samples: Mapping[str, tensor_ir.Array]) -> Sequence[float]:
        from hec.runtime.simulated_errors import simulated_errors

        return simulated_errors(program, samples)

    openfhe = OpenfheInstances(openfhe_primes)
    return Libraries(SealInstances(seal_primes), openfhe, chains, openfhe_error, errors)


def _file(model: Model) -> bytes:
    """Return the model as one ONNX file, weights that are stored beside it included."""
    if isinstance(model, bytes):
        return model
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(os.fspath(model))
    return b"" if proto.ByteSize() > _MAX_FILE_BYTES else proto.SerializeToString()


def _client_part(chosen: Candidate, model: str) -> ClientPart:
    graph, choice = chosen.graph, chosen.choice
    program = choice.lowered.program
    return ClientPart(
        program.parameters,
        tuple(_inputs(graph, choice)),
        tuple(_outputs(graph, choice)),
        needed_keys(program),
        choice.precision,
        chosen.backend,
        model,
    )


def _server_part(chosen: Candidate, model: bytes, target: Target | None) -> ServerPart:
    graph, lowered = chosen.graph, chosen.choice.lowered
    program, sources = lowered.program, lowered.sources
    labels = []
    for instruction, source in zip(program.instructions, sources, strict=True):
        is_end = isinstance(instruction, ckks_ir.Input | ckks_ir.Output)
        labels.append("" if is_end else _label(graph.operations[source]))
    magnitudes = tuple(chosen.observed.magnitudes[source] for source in sources)
    deviations = chosen.observed.deviations(program.parameters, sources)
    known, peaks = chosen.observed.approximation, chosen.observed.peaks
    reaches = chosen.observed.reaches
    return ServerPart(
        program,
        tuple(labels),
        magnitudes,
        deviations,
        plan_fits(chosen),
        np.frombuffer(model, np.uint8),
        chosen.reason,
        tuple(known[source] for source in sources) if known else (),
        chosen.calibrated,
        tuple(_tensors(chosen)),
        sources,
        target,
        None,
        tuple(peaks[source] for source in sources) if peaks else (),
        chosen.coherence,
        tuple(reaches[source] for source in sources) if reaches else (),
    )


def _tensors(chosen: Candidate) -> Iterator[PlanTensor]:
    """Yield every tensor of the graph, with its nodes and how it is packed."""
    known = dict[tuple[int, Shape], Packing]()  # many tensors share a layout
    layouts = chosen.choice.graph.layouts
    for operation, layout in zip(chosen.graph.operations, layouts, strict=True):
        key = id(layout), operation.shape
        if key not in known:
            known[key] = packing(layout, operation.shape)
        nodes = () if isinstance(operation, Input) else operation.origin
        yield PlanTensor(nodes, operation.shape, known[key])


def plan_fits(chosen: Candidate) -> tuple[PlanFit, ...]:
    """Return the fits of a candidate's activations, each with the value that enters it."""
    graph, lowered = chosen.graph, chosen.choice.lowered
    first: dict[int, int] = {}  # instruction of each fitted operation
    for number, (instruction, source) in enumerate(
        zip(lowered.program.instructions, lowered.sources, strict=True)
    ):
        if isinstance(instruction, ckks_ir.Multiply | ckks_ir.Polynomial | ckks_ir.Bootstrap):
            first.setdefault(source, number)
    found = dict[tuple[str, Fit], PlanFit]()
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Multiply | Polynomial | Bootstrap) and operation.fit is not None:
            name = _label(operation), replace(operation.fit, twin=None)
            value = operands(lowered.program.instructions[first[position]])[0]
            layout = chosen.choice.graph.layouts[tensor_ir.operands(operation)[0]]
            used = (layout.elements != UNUSED).astype(np.uint8)
            radius = _slot_radius(operation, name[1])
            found.setdefault(name, PlanFit(*name, value, used, radius))
    return tuple(found.values())


def _slot_radius(operation: Multiply | Polynomial | Bootstrap, fit: Fit) -> float:
    """Return the magnitude of elements at the ends of the interval of `fit`, as slots hold them.

    The operand of a square is scaled so that what calibration saw lies in [-1, 1].
    """
    match operation:
        case Multiply():
            return 1.0
        case Polynomial() | Bootstrap():
            return fit.radius
        case _:
            assert_never(operation)


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
        operation.prologue,
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
