"""Small Programs and Plans by hand, for the tests of plan files, executor, client and server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import DiagonalMatrix, EncryptionParameters, Instruction, Program
from hec.compiler.key_manifest import needed_keys
from hec.compiler.layout import UNUSED, Layout
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import ClientPart, PlanInput, PlanOutput, ServerPart
from hec.compiler.tensor_ir import EpilogueStep
from hec.compiler.typing_rules import infer_types

Array = NDArray[np.float64]

# Primes that seal.CoeffModulus.Create gives for (36, 28, 44) and (38, 4 x 28, 60) bits. A special
# prime no larger than the others would leave key-switching errors of 1e-3 in slots 0 to 2.
SMALL = EncryptionParameters(4096, (68719403009, 268369921), (17592186028033,), 128)
DEEP = EncryptionParameters(
    8192, (274877562881, 268189697, 268238849, 268271617, 268369921), (1152921504606830593,), 128
)
TINY = EncryptionParameters(32, DEEP.primes, DEEP.special_primes, 128)  # in the clear only
SCALE = 2.0**28


def first_slots(slots: int, count: int, blocks: int = 1, start: int = 0) -> Layout:
    """Return the layout that has `count` elements per block in the slots after `start`."""
    elements = np.full((blocks, slots), UNUSED, np.int32)
    for block in range(blocks):
        elements[block, start : start + count] = np.arange(count) + block * count
    return Layout(elements)


def diagonals(
    seed: int, slots: int, blocks: tuple[int, int], shifts: tuple[int, ...]
) -> DiagonalMatrix:
    """Return a random matrix with these shifts between all blocks (outputs, inputs)."""
    random = np.random.default_rng(seed)
    index = [(o, i, s) for o in range(blocks[0]) for i in range(blocks[1]) for s in shifts]
    values = random.uniform(-1, 1, (len(index), slots)).astype(np.float32) / len(shifts)
    return DiagonalMatrix(slots, *blocks, np.array(index, np.int32), sp.csr_array(values))


def dense(matrix: DiagonalMatrix, x: Array) -> Array:
    """Return matrix @ x for (blocks, slots) x, by the definition of DiagonalMatrix."""
    out = np.zeros((matrix.out_blocks, matrix.slots))
    for row, (o, i, shift) in enumerate(matrix.index.tolist()):
        out[o] += matrix.diagonal(row) * np.roll(x[i], -shift)
    return out


def linear_program(parameters: EncryptionParameters = SMALL) -> Program:
    """Two ciphertexts, one matrix with negative shifts, one bias: one level, no product."""
    slots = parameters.slots
    prime = float(parameters.primes[1])
    matrix = diagonals(1, slots, (1, 2), (-3, 0, 1, 2, 5, 6))
    bias = np.random.default_rng(2).uniform(-1, 1, (1, slots))
    instructions: tuple[Instruction, ...] = (
        ckks_ir.Input("image", first_slots(slots, 6, blocks=2), 1, SCALE, 2.0),
        ckks_ir.LinearTransform(0, matrix, 4, -4, prime, "fc1"),
        ckks_ir.Rescale(1),
        ckks_ir.AddPlain(2, bias),
        ckks_ir.Output(3, "scores", first_slots(slots, 10, start=1), 3.0),
    )
    return Program(parameters, instructions)


def moving_program() -> Program:
    """One ciphertext that comes back as it is: no layer."""
    layout = first_slots(SMALL.slots, 8)
    return Program(
        SMALL,
        (ckks_ir.Input("x", layout, 1, SCALE, 1.0), ckks_ir.Output(0, "y", layout, 1.0)),
    )


def deep_program(parameters: EncryptionParameters = DEEP) -> Program:
    """Every operation of the IR; two inputs, two outputs, four levels."""
    slots, primes = parameters.slots, parameters.primes
    matrix = diagonals(3, slots, (2, 1), (0, 1, 4, 7))
    instructions: tuple[Instruction, ...] = (
        ckks_ir.Input("left", first_slots(slots, 8), 4, SCALE, 1.0),
        ckks_ir.Input("right", first_slots(slots, 4, blocks=2), 4, SCALE, 1.0),
        ckks_ir.LinearTransform(0, matrix, 2, 0, float(primes[4]), "conv"),
        ckks_ir.Rescale(2),
        ckks_ir.ModSwitch(1, 3),
        ckks_ir.Add(3, 4),
        ckks_ir.Multiply(5, 5, "square"),
        ckks_ir.Rescale(6),
        ckks_ir.RotateSum(7, (-2, 1)),
        ckks_ir.Polynomial(5, np.array([0.1, 0.5, 0.0, -0.2]), SCALE, "tanh"),
        ckks_ir.Output(8, "sums", first_slots(slots, 3, blocks=2), 1.0),
        ckks_ir.Output(9, "curve", first_slots(slots, 8, blocks=2), 0.5),
    )
    return Program(parameters, instructions)


def plan_of(program: Program, **changes: object) -> Plan:
    """Return the plan of `program`, whose tensors are vectors; `changes` are to the client part."""
    client = client_part(program)
    labels = tuple(f"node {i}" for i in range(len(program.instructions)))
    changed = replace(client, **changes)  # type: ignore[arg-type]
    return Plan.of(changed, ServerPart(program, labels))


def client_part(program: Program) -> ClientPart:
    types = infer_types(program)
    inputs, outputs = [], []
    for x in program.instructions:
        if isinstance(x, ckks_ir.Input):
            shape = (1, int(x.layout.elements.max()) + 1)
            interval = (-x.divisor, x.divisor)
            item = PlanInput(x.name, shape, x.layout, x.level, x.scale, x.divisor, interval)
            inputs.append(item)
        if isinstance(x, ckks_ir.Output):
            kind, shape = types[x.operand], (1, int(x.layout.elements.max()) + 1)
            epilogue: tuple[EpilogueStep, ...] = ()
            outputs.append(
                PlanOutput(x.name, shape, x.layout, kind.level, kind.scale, x.factor, epilogue)
            )
    keys = needed_keys(program)
    return ClientPart(
        program.parameters, tuple(inputs), tuple(outputs), keys, 12.5, "tenseal", "sample.onnx"
    )
