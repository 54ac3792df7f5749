"""Pair diagonals: matrices whose results are refreshed next compute with complex numbers."""

from __future__ import annotations

from dataclasses import replace

from hec.compiler.ckks_ir import LinearTransform, Program
from hec.compiler.pairing import best_twin
from hec.compiler.typing_rules import drops_imaginary_parts


def pair_diagonals(program: Program) -> Program:
    """Give every `LinearTransform` whose result only bootstraps read the `twin` that pairs most.

    Halves the products, the plaintexts, and the rotations of the operand, for one rotation and one
    product more. Not for a result that is decrypted: its imaginary part holds partial sums, which
    the client must not see; nor where the imaginary part would enter another product.

    Source: none known; see docs/design/006-pairs-of-diagonals.md. Cost: log2(slots) walks over the
    diagonals of each matrix.
    """
    dropped = drops_imaginary_parts(program)
    twins: dict[int, int] = {}
    instructions = list(program.instructions)
    for position, x in enumerate(instructions):
        if isinstance(x, LinearTransform) and dropped[position]:
            twin = twins.setdefault(id(x.matrix), best_twin(x.matrix))
            instructions[position] = replace(x, twin=twin)
    return replace(program, instructions=tuple(instructions))
