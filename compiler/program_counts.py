"""What one prediction of a Program takes, as numbers that no clock disturbs.

A slower plan is a larger number here, so that it shows in a review without timing anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hec.compiler.ckks_ir import Bootstrap, Input, Instruction, Program
from hec.compiler.instruction_counts import InstructionCounts
from hec.compiler.key_manifest import needed_keys
from hec.compiler.memory import count_keys
from hec.compiler.typing_rules import infer_types


@dataclass(frozen=True)
class ProgramCounts:
    """Sizes of the instance and steps of one prediction; those inside of bootstraps are not told.

    Steps are counted per ciphertext, a key switch of an OpenFHE rotation for each that it is
    composed of.
    """

    ring_degree: int
    levels: int
    modulus_bits: int  # of the ciphertexts' primes and the special ones, rounded
    input_ciphertexts: int
    evaluation_keys: int
    key_switches: int
    key_switch_limbs: int  # of all key switches: a rotation that moves to a lower level has fewer
    plain_products: int
    products: int  # of ciphertexts
    rescalings: int
    bootstraps: int
    plaintext_bytes: int  # of all that is encoded once and kept


def counts_of(program: Program) -> ProgramCounts:
    """Count what one prediction takes."""
    parameters, types = program.parameters, infer_types(program)
    counts = InstructionCounts(parameters, types)

    def total(count: Callable[[Instruction], int]) -> int:
        return sum(map(count, program.instructions))

    return ProgramCounts(
        parameters.ring_degree,
        parameters.top_level,
        round(parameters.modulus_bits),
        sum(x.layout.blocks for x in program.instructions if isinstance(x, Input)),
        count_keys(parameters, needed_keys(program)),
        total(counts.key_switches),
        total(counts.key_switch_limbs),
        total(counts.plain_products),
        total(counts.products),
        total(counts.rescalings),
        sum(types[x.operand].blocks for x in program.instructions if isinstance(x, Bootstrap)),
        total(counts.plaintext_bytes),
    )
