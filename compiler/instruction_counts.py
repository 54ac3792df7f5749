"""What single instructions of a Program need: rotations, key switches, products, plaintexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    AddPlain,
    EncryptionParameters,
    Instruction,
    LinearTransform,
    Multiply,
    Polynomial,
    Rescale,
    RotateSum,
    ValueType,
)
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.kernels import ConstantCache, apply_polynomial, diagonal_bytes
from hec.compiler.pairing import products
from hec.compiler.rotation_costs import hops, matrix_hops
from hec.compiler.schedule import Split, rotations


@dataclass(frozen=True)
class InstructionCounts:
    """Counts under `parameters`, for operands of `types`."""

    parameters: EncryptionParameters
    types: Sequence[ValueType]

    def rotations(self, instruction: Instruction) -> int:
        """Return how many ciphertexts are rotated, however many keys each rotation takes."""
        match instruction:
            case LinearTransform():
                split = Split(instruction.baby_step, instruction.baby_start)
                index = products(instruction.matrix, instruction.twin).index
                return rotations(index, split, self.parameters.slots) + (instruction.twin > 0)
            case RotateSum():
                return len(instruction.steps) * self.types[instruction.operand].blocks
            case _:
                return 0

    def key_switches(self, instruction: Instruction) -> int:
        """Return how many key switches rotations and products take; none of a bootstrap's."""
        match instruction:
            case LinearTransform():
                return matrix_hops(instruction, self.parameters)
            case RotateSum():
                blocks = self.types[instruction.operand].blocks
                return hops(instruction.steps, self.parameters) * blocks
            case Multiply():
                return self.types[instruction.left].blocks
            case Polynomial():
                counted = self._evaluated(instruction)
                return counted.key_switches * self.types[instruction.operand].blocks
            case _:
                return 0

    def key_switch_limbs(self, instruction: Instruction) -> int:
        """Return the limbs of all its key switches: what one costs grows with them."""
        match instruction:
            case LinearTransform() | RotateSum():
                limbs = self.types[instruction.operand].level + 1
            case Multiply():
                limbs = self.types[instruction.left].level + 1
            case Polynomial():
                counted = self._evaluated(instruction)
                return counted.key_switch_limbs * self.types[instruction.operand].blocks
            case _:
                return 0
        return self.key_switches(instruction) * limbs

    def plain_products(self, instruction: Instruction) -> int:
        """Return how many ciphertexts are multiplied with a plaintext; none of a bootstrap's."""
        match instruction:
            case LinearTransform():
                return len(products(instruction.matrix, instruction.twin).first)
            case Polynomial():
                counted = self._evaluated(instruction)
                return counted.plain_products * self.types[instruction.operand].blocks
            case _:
                return 0

    def products(self, instruction: Instruction) -> int:
        """Return how many pairs of ciphertexts are multiplied; none of a bootstrap's."""
        match instruction:
            case Multiply():
                return self.types[instruction.left].blocks
            case Polynomial():
                counted = self._evaluated(instruction)
                return counted.products * self.types[instruction.operand].blocks
            case _:
                return 0

    def rescalings(self, instruction: Instruction) -> int:
        """Return how many ciphertexts are rescaled; none of a bootstrap's."""
        match instruction:
            case Rescale():
                return self.types[instruction.operand].blocks
            case Polynomial():
                counted = self._evaluated(instruction)
                return counted.rescalings * self.types[instruction.operand].blocks
            case _:
                return 0

    def diagonals(self, instruction: Instruction) -> int:
        """Return the diagonals of a matrix that are not zero."""
        return len(instruction.matrix.index) if isinstance(instruction, LinearTransform) else 0

    def plaintext_bytes(self, instruction: Instruction) -> int:
        """Return the memory of the plaintexts that the server encodes once and keeps."""
        if isinstance(instruction, LinearTransform):
            level = self.types[instruction.operand].level
            return diagonal_bytes(instruction, level, self.parameters.batch)
        return self._limbs(instruction) * self.parameters.ring_degree * LIMB_BYTES

    def _limbs(self, instruction: Instruction) -> int:
        match instruction:
            case AddPlain():
                x = self.types[instruction.operand]
                return x.blocks * (x.level + 1)
            case Polynomial():
                counted = self._evaluated(instruction)
                return counted.plaintext_limbs * self.types[instruction.operand].blocks
            case _:
                return 0

    def _evaluated(self, instruction: Polynomial) -> CostCounter:
        """Return what evaluating the polynomial on one ciphertext counts."""
        x, parameters = self.types[instruction.operand], self.parameters
        counter = CostCounter(parameters.ring_degree, parameters.primes)
        fresh = Counted(x.level, x.scale)
        apply_polynomial(fresh, instruction, 0, counter, parameters.primes, ConstantCache())
        return counter
