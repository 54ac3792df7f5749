"""What a plan costs and how exact it will be, as data: for the terminal, and for machines.

Nothing is encrypted: types, counts and the forecast follow from the Program. Seconds are those of
one thread on the reference machine of `cost` for SEAL, of two threads on that of `openfhe_costs`
for OpenFHE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log2
from typing import Final

from hec.compiler.activation_report import ActivationReport, activation_report
from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    AddPlain,
    Bootstrap,
    EncryptionParameters,
    Input,
    Instruction,
    LinearTransform,
    Multiply,
    Output,
    Polynomial,
    Program,
    RotateSum,
    ValueType,
)
from hec.compiler.cost import CostCounter, Counted, bootstrap_seconds
from hec.compiler.forecast import CONFIDENCE, bootstrap_count
from hec.compiler.kernels import ConstantCache, apply_polynomial, diagonal_bytes
from hec.compiler.memory import count_keys, keys_bytes, server_memory
from hec.compiler.message_sizes import ciphertext_bytes, stored_bytes
from hec.compiler.noise import bootstrapping
from hec.compiler.pairing import products
from hec.compiler.plan import Plan
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.plan_parts import ClientPart, PlanInput, PlanOutput, ServerPart
from hec.compiler.schedule import Split, rotations
from hec.compiler.security import max_modulus_bits
from hec.compiler.typing_rules import infer_types, operands

SECURITY_SOURCE: Final = "Homomorphic Encryption Security Standard, 2018, Table 1"


@dataclass(frozen=True)
class ParametersReport:
    """The CKKS instance, and the rule that it is held to."""

    ring_degree: int
    prime_bits: tuple[float, ...]  # from level 0 upwards
    special_prime_bits: float
    modulus_bits: float  # special prime included
    modulus_limit_bits: int
    security_bits: int
    security_source: str


@dataclass(frozen=True)
class TensorReport:
    """An input or output, and what travels for it."""

    name: str
    shape: tuple[int, ...]
    level: int
    ciphertexts: int
    bytes: int
    interval: tuple[float, float] | None  # of an input's elements, in calibration
    classes: tuple[int | str, ...] | None  # labels: the values of an output, or its columns


@dataclass(frozen=True)
class LayerReport:
    """The instructions that came from the same ONNX nodes."""

    nodes: str
    operation: str
    level_in: int
    level_out: int
    scale_bits: float  # of the result
    rotations: int
    diagonals: int
    seconds: float
    precision_bits: float  # of the result, in slots that lie in [-1, 1]
    plaintext_bytes: int


@dataclass(frozen=True)
class BootstrapReport:
    """How ciphertexts are refreshed."""

    count: int  # of one prediction
    levels: tuple[int, int]  # of CoeffsToSlots, and of SlotsToCoeffs
    degrees: tuple[int, ...]  # of the series, each once
    slots: int
    digits: int  # of key switching
    seconds_each: tuple[float, ...]  # for each of `degrees`
    error: float  # of the argument, of a range of width 1


@dataclass(frozen=True)
class SecondsReport:
    """Where the seconds of one prediction go."""

    matrices: float
    bootstraps: float
    other: float


@dataclass(frozen=True)
class MemoryReport:
    """Bytes that the server holds at its peak."""

    keys: int
    bootstrapping: int  # encoded matrices of the bootstrap
    working: int
    diagonals: int  # encoded weights; a server short of memory keeps fewer
    least: int  # the peak without them
    peak: int  # and with all of them


@dataclass(frozen=True)
class ServerReport:
    """What only the server's part of a plan tells."""

    layers: tuple[LayerReport, ...]
    activations: tuple[ActivationReport, ...]
    seconds: float  # of one prediction
    plaintext_bytes: int  # of encoded weights in memory
    seconds_by_kind: SecondsReport
    memory: MemoryReport
    bootstraps: BootstrapReport | None  # None: the plan refreshes nothing
    reason: str  # why this backend and this way


@dataclass(frozen=True)
class Report:
    """A plan in numbers."""

    model: str
    plan_id: str
    backend: str
    parameters: ParametersReport
    depth: int  # rescalings from fresh inputs to outputs
    precision_bits: float  # promised for the outputs
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    keys: int
    key_bytes: int
    server: ServerReport | None  # None: the file holds the client's part only

    @property
    def threads(self) -> str:
        """How many threads the forecast is for, in words."""
        return "two threads" if self.backend == "openfhe" else "one thread"


def report(plan: Plan | ClientPart) -> Report:
    """Return the report of a plan, or of the client's part alone."""
    client = plan.client if isinstance(plan, Plan) else plan
    parameters = client.parameters
    top = max(item.level for item in client.inputs)
    return Report(
        client.model,
        client.plan_id,
        client.backend,
        _parameters(parameters),
        top - min(item.level for item in client.outputs),
        client.precision,
        tuple(_tensor(item, 1, parameters) for item in client.inputs),
        tuple(_tensor(item, 2, parameters) for item in client.outputs),
        count_keys(parameters, client.keys),
        key_bytes(client),
        server_report(plan.server) if isinstance(plan, Plan) else None,
    )


def key_bytes(client: ClientPart) -> int:
    """Return about how large the file of evaluation keys is.

    A key of SEAL has one pair of polynomials per prime, of which one polynomial travels as a seed;
    OpenFHE writes keys as they are in memory.
    """
    parameters, keys = client.parameters, client.keys
    if parameters.digits:
        return keys_bytes(parameters, keys)
    count = count_keys(parameters, keys)
    chain = (*parameters.primes, *parameters.special_primes)
    return count * len(parameters.primes) * stored_bytes(chain, parameters.ring_degree)


def _parameters(chosen: EncryptionParameters) -> ParametersReport:
    return ParametersReport(
        chosen.ring_degree,
        tuple(log2(prime) for prime in chosen.primes),
        sum(map(log2, chosen.special_primes)),
        chosen.modulus_bits,
        max_modulus_bits(chosen.ring_degree, chosen.security),
        chosen.security,
        SECURITY_SOURCE,
    )


def _tensor(
    item: PlanInput | PlanOutput, polynomials: int, parameters: EncryptionParameters
) -> TensorReport:
    count = item.layout.blocks
    size = count * ciphertext_bytes(parameters, item.level, polynomials)
    interval = item.interval if isinstance(item, PlanInput) else None
    classes = None if isinstance(item, PlanInput) else item.classes
    names = None if classes is None else classes.names
    return TensorReport(item.name, item.shape, item.level, count, size, interval, names)


def server_report(server: ServerPart) -> ServerReport:
    """Return what the Program costs, layer by layer."""
    program = server.program
    predicted = forecast_of(server)
    counts = _Counts(program.parameters, infer_types(program))
    layers = tuple(
        _layer(server, group, counts, predicted.seconds, predicted.deviations)
        for group in _groups(server)
    )
    activations = tuple(activation_report(item.label, item.fit) for item in server.fits)
    weights = sum(layer.plaintext_bytes for layer in layers)
    held = server_memory(program)
    return ServerReport(
        layers,
        activations,
        predicted.total_seconds,
        weights,
        _seconds_by_kind(program, predicted.seconds),
        MemoryReport(**asdict(held), least=held.least, peak=held.peak),
        _bootstraps(program),
        server.reason,
    )


def _seconds_by_kind(program: Program, seconds: Sequence[float]) -> SecondsReport:
    pairs = list(zip(program.instructions, seconds, strict=True))
    matrices = sum(s for x, s in pairs if isinstance(x, LinearTransform | RotateSum))
    bootstraps = sum(s for x, s in pairs if isinstance(x, Bootstrap))
    return SecondsReport(matrices, bootstraps, sum(seconds) - matrices - bootstraps)


def _bootstraps(program: Program) -> BootstrapReport | None:
    parameters = program.parameters
    how, count = parameters.bootstrapping, bootstrap_count(program)
    if how is None or not count:
        return None
    series = [x.coefficients for x in program.instructions if isinstance(x, Bootstrap)]
    degrees = tuple(sorted({coefficients.shape[1] - 1 for coefficients in series}))
    return BootstrapReport(
        count,
        how.levels,
        degrees,
        how.slots,
        parameters.digits,
        tuple(bootstrap_seconds(parameters, degree) for degree in degrees),
        bootstrapping(parameters),
    )


def _groups(server: ServerPart) -> list[list[int]]:
    """Return the positions of each layer: runs of one label, inputs and outputs left out."""
    groups: list[list[int]] = []
    last: tuple[str, bool] | None = None
    for position, instruction in enumerate(server.program.instructions):
        if isinstance(instruction, Input | Output):
            continue
        nonlinear = isinstance(instruction, Multiply | Polynomial | Bootstrap)
        label = server.labels[position]
        if last is None or last[0] != label or nonlinear:
            groups.append([])
        groups[-1].append(position)
        last = (label, nonlinear)
    return groups


def _layer(
    server: ServerPart,
    group: Sequence[int],
    counts: _Counts,
    seconds: Sequence[float],
    deviations: Sequence[float],
) -> LayerReport:
    instructions = server.program.instructions
    entering = [o for i in group for o in operands(instructions[i]) if o not in group]
    end = group[-1]
    return LayerReport(
        server.labels[group[0]],
        _operation([instructions[i] for i in group]),
        max(counts.types[i].level for i in entering),
        counts.types[end].level,
        log2(counts.types[end].scale),
        sum(counts.rotations(instructions[i]) for i in group),
        sum(_diagonals(instructions[i]) for i in group),
        sum(seconds[i] for i in group),
        -log2(max(CONFIDENCE * deviations[end], 2.0**-64)),
        sum(counts.plaintext_bytes(instructions[i]) for i in group),
    )


def _operation(instructions: Sequence[Instruction]) -> str:
    """Return the word for what a layer does."""
    for instruction in instructions:
        match instruction:
            case LinearTransform():
                return "matrix"
            case Multiply():
                return "square" if instruction.left == instruction.right else "product"
            case Polynomial():
                return f"polynomial of degree {len(instruction.coefficients) - 1}"
            case Bootstrap():
                return f"bootstrap of degree {instruction.coefficients.shape[1] - 1}"
            case _:
                pass
    return "sum"


def _diagonals(instruction: Instruction) -> int:
    return len(instruction.matrix.index) if isinstance(instruction, LinearTransform) else 0


@dataclass(frozen=True)
class _Counts:
    """What single instructions need."""

    parameters: EncryptionParameters
    types: Sequence[ValueType]

    def rotations(self, instruction: Instruction) -> int:
        match instruction:
            case LinearTransform():
                split = Split(instruction.baby_step, instruction.baby_start)
                index = products(instruction.matrix, instruction.twin).index
                return rotations(index, split, self.parameters.slots) + (instruction.twin > 0)
            case RotateSum():
                return len(instruction.steps) * self.types[instruction.operand].blocks
            case _:
                return 0

    def plaintext_bytes(self, instruction: Instruction) -> int:
        """Return the memory of the plaintexts that the server encodes once and keeps."""
        if isinstance(instruction, LinearTransform):
            return diagonal_bytes(instruction, self.types[instruction.operand].level)
        return self._limbs(instruction) * self.parameters.ring_degree * LIMB_BYTES

    def _limbs(self, instruction: Instruction) -> int:
        match instruction:
            case AddPlain():
                x = self.types[instruction.operand]
                return x.blocks * (x.level + 1)
            case Polynomial():
                x = self.types[instruction.operand]
                counter = CostCounter(self.parameters.ring_degree, self.parameters.primes)
                fresh = Counted(x.level, x.scale)
                primes = self.parameters.primes
                apply_polynomial(fresh, instruction, 0, counter, primes, ConstantCache())
                return counter.plaintext_limbs * x.blocks
            case _:
                return 0
