"""What a plan costs and how exact it will be, as data: for the terminal, and for machines.

Nothing is encrypted: types, counts and the forecast follow from the Program. Seconds are those of
one thread on the reference machine of `cost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    AddPlain,
    EncryptionParameters,
    Input,
    Instruction,
    LinearTransform,
    Multiply,
    Output,
    Polynomial,
    RotateSum,
    ValueType,
)
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.forecast import CONFIDENCE, forecast
from hec.compiler.kernels import ConstantCache, apply_polynomial, diagonal_bytes
from hec.compiler.plan import Plan
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
class ActivationReport:
    """A polynomial that stands for an activation."""

    nodes: str
    function: str
    degree: int
    interval: tuple[float, float]  # where it was fitted
    observed: tuple[float, float]  # where samples fell
    rms_error: float


@dataclass(frozen=True)
class ServerReport:
    """What only the server's part of a plan tells."""

    layers: tuple[LayerReport, ...]
    activations: tuple[ActivationReport, ...]
    seconds: float  # of one prediction
    plaintext_bytes: int  # of encoded weights in memory


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
        len(client.keys.rotations) + client.keys.relinearization,
        key_bytes(client),
        server_report(plan.server) if isinstance(plan, Plan) else None,
    )


def key_bytes(client: ClientPart) -> int:
    """Return about how large the file of evaluation keys is.

    A key has one pair of polynomials per prime, of which one polynomial travels as a seed.
    """
    parameters, keys = client.parameters, client.keys
    count = len(keys.rotations) + keys.relinearization
    chain = (*parameters.primes, *parameters.special_primes)
    return count * len(parameters.primes) * _stored_bytes(chain, parameters.ring_degree)


def ciphertext_bytes(parameters: EncryptionParameters, level: int, polynomials: int) -> int:
    """Return about how large a ciphertext is in a file; a fresh one travels as one polynomial."""
    chain = parameters.primes[: level + 1]
    return polynomials * _stored_bytes(chain, parameters.ring_degree)


def _stored_bytes(chain: Sequence[int], ring_degree: int) -> int:
    """Return the bytes of one polynomial after SEAL's compression of 64-bit words.

    The coder knows how often each byte occurs, and nothing of its place: a word with z zero bytes
    costs the entropy of which bytes are zero on top of the bits of the others.
    """
    return round(ring_degree / 8 * sum(_stored_bits(prime) for prime in chain))


def _stored_bits(prime: int) -> float:
    zero = (64 - prime.bit_length()) // 8 / 8  # share of bytes
    entropy = -sum(share * log2(share) for share in (zero, 1 - zero) if share)
    return min(64.0, log2(prime) + 8 * entropy)


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
    return TensorReport(item.name, item.shape, item.level, count, size, interval)


def server_report(server: ServerPart) -> ServerReport:
    """Return what the Program costs, layer by layer."""
    program = server.program
    magnitudes = server.magnitudes or (1.0,) * len(program.instructions)
    predicted = forecast(program, magnitudes)
    counts = _Counts(program.parameters, infer_types(program))
    layers = tuple(
        _layer(server, group, counts, predicted.seconds, predicted.deviations)
        for group in _groups(server)
    )
    activations = tuple(
        ActivationReport(x.label, f.function, f.degree, f.interval, f.observed, f.error)
        for x in server.fits
        for f in [x.fit]
    )
    memory = sum(layer.plaintext_bytes for layer in layers)
    return ServerReport(layers, activations, predicted.total_seconds, memory)


def _groups(server: ServerPart) -> list[list[int]]:
    """Return the positions of each layer: runs of one label, inputs and outputs left out."""
    groups: list[list[int]] = []
    last: tuple[str, bool] | None = None
    for position, instruction in enumerate(server.program.instructions):
        if isinstance(instruction, Input | Output):
            continue
        nonlinear = isinstance(instruction, Multiply | Polynomial)
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
                return rotations(instruction.matrix.index, split, self.parameters.slots)
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
