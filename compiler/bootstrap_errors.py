"""What the errors of bootstraps' results add to those of their arguments.

Samples show what errors of the arguments do to the values of a network (`observed`). An error of a
result does as much as one of the argument that the mean slope makes as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from hec.compiler import noise
from hec.compiler.ckks_ir import Bootstrap, Program
from hec.compiler.fourier import slope
from hec.compiler.polynomial_errors import GRID, weights


def results_share(program: Program, magnitudes: Sequence[float]) -> float:
    """Return the factor by which errors of results increase what errors of arguments do."""
    parameters = program.parameters
    series = [x for x in program.instructions if isinstance(x, Bootstrap)]
    made = noise.bootstrapping(parameters) ** 2 if series else 0.0
    shares = [0.0]
    for x in series if made else ():
        flat = noise.bootstrap_result(parameters, x.coefficients.shape[1] - 1) ** 2
        steep = usual_slope(x, magnitudes[x.operand])
        shares.append(flat / (steep * made) if steep else 0.0)
    return sqrt(1 + sum(shares) / max(len(series), 1))


def usual_slope(bootstrap: Bootstrap, magnitude: float) -> float:
    """Return the mean square slope where arguments of that root mean square lie."""
    squares = slope(bootstrap.coefficients, GRID / 2) ** 2  # GRID is of a period's half
    return float(np.dot(squares, weights(2 * magnitude)))
