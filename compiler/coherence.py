"""How coherent errors are on their way through a Program, from what the simulator shows.

The rules of error growth take errors as independent of each other, of the values, and of the
weights they meet. They are not: what two neurons read of one error, the next layer may add up, and
the slope of a polynomial at its actual arguments is not its mean slope. Nor are they the same in
all copies of an element. So a few samples run through the simulator, and what becomes of the errors
that enter an instruction is compared with what the rules say.

Source: docs/design/009-noise-model.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from hec.compiler.ckks_ir import (
    Instruction,
    LinearTransform,
    Multiply,
    Output,
    Polynomial,
    Program,
    RotateSum,
)
from hec.compiler.copy_gains import endings, folds_of
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.predicted_errors import Known, Rules
from hec.compiler.typing_rules import infer_types
from hec.compiler.variances import Variances

LIMITS: Final = (1 / 16, 16.0)  # what is beyond is chance, or nothing
GROWING: Final = LinearTransform | RotateSum | Multiply | Polynomial | Output


def coherence(program: Program, known: Known, measured: Sequence[float]) -> tuple[float, ...]:
    """Return, for every instruction, by how much errors that enter grow more than by the rules.

    `measured` has the root mean square of every value's error.
    """
    types, sizes = infer_types(program), KernelSizes()
    found, ratios = list[Variances](), list[float]()
    folds, last = folds_of(program), endings(program)

    def grown(instruction: Instruction, ratio: float) -> Variances:
        told = replace(known, coherence=(*ratios, ratio))
        rules = Rules(program.parameters, types, found, told, sizes, folds, last)
        return rules.grown(instruction)

    for instruction, true in zip(program.instructions, measured, strict=True):
        ratio = 1.0
        if isinstance(instruction, GROWING):
            own = grown(instruction, 0.0).mean
            entering = grown(instruction, 1.0).mean - own
            if entering > 0:
                ratio = float(np.clip(np.sqrt(max(0.0, true**2 - own) / entering), *LIMITS))
        found.append(grown(instruction, ratio))
        ratios.append(ratio)
    return tuple(ratios)
