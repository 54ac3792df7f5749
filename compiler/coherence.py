"""How coherent errors are on their way through the layers, measured on samples.

The rules of error growth take errors as independent of each other, of the values, and of the
weights they meet. They are not: what two neurons read of one error, the next layer may add up, and
the slope of a polynomial at its actual arguments is not its mean slope. So each layer is shown the
errors of those before it, and what becomes of them is compared with what the rules say.

Source: measured: lenet 0.9 bits, tenseal-convmnist 1.0 bits of the output's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from typing_extensions import assert_never

from hec.compiler import ckks_ir
from hec.compiler.calibration import Calibration, nonzeros
from hec.compiler.evaluate import value
from hec.compiler.polynomial_errors import gains
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)

PROBE: Final = 1e-6  # largest error of a layer's own: small, so that it grows linearly
MULTIPLICATIONS: Final = 20_000_000  # spent on one evaluation: a few hundredths of a second
FEWEST, MOST = 16, 256  # samples, where there are as many
LIMITS: Final = (1 / 16, 16.0)  # what is beyond is chance, or nothing


def coherence(
    graph: TensorGraph, calibration: Calibration, fresh: Sequence[float]
) -> tuple[float, ...]:
    """Return, for each operation, by how much its operands' errors grow more than by the rules.

    `fresh` has the errors that the operations add; there are samples, and no bootstraps.
    """
    random, unit = np.random.default_rng(0), PROBE / (max(fresh, default=0.0) or 1.0)
    count = int(np.clip(MULTIPLICATIONS // max(nonzeros(graph), 1), FEWEST, MOST))
    samples = {name: array[:count] for name, array in (calibration.samples or {}).items()}
    exact, noisy, found = list[Array](), list[Array](), list[float]()
    for operation, own in zip(graph.operations, fresh, strict=True):
        exact.append(value(operation, exact, samples))
        carried = value(operation, noisy, samples)
        found.append(_ratio(operation, exact, noisy, carried - exact[-1]))
        noisy.append(carried + unit * own * random.standard_normal(carried.shape))
    return tuple(found)


def _ratio(
    operation: TensorOperation, exact: list[Array], noisy: list[Array], carried: Array
) -> float:
    def error(position: int) -> float:
        return _mean_square(noisy[position] - exact[position])

    def size(position: int) -> float:
        return _mean_square(exact[position])

    match operation:
        case Input() | Bootstrap() | Activation():
            return 1.0
        case Linear():
            pairs = zip(operation.operands, operation.matrices, strict=True)
            power = sum(float((matrix.data**2).sum()) * error(i) for i, matrix in pairs)
            expected = power / max(operation.bias.size, 1)
        case Multiply():
            left, right = operation.left, operation.right
            doubled = 2.0 if left == right else 1.0
            expected = doubled * (size(left) * error(right) + size(right) * error(left))
        case Polynomial():
            rows = operation.coefficients
            rows = rows[:, None, :] if rows.ndim > 1 else rows
            steps = ckks_ir.Polynomial(operation.operand, np.ascontiguousarray(rows), 1.0)
            magnitude = float(np.sqrt(size(operation.operand)))
            expected = gains(steps, magnitude).entering * error(operation.operand)
        case _:
            assert_never(operation)
    if expected <= 0:
        return 1.0
    return float(np.clip(np.sqrt(_mean_square(carried) / expected), *LIMITS))


def _mean_square(values: Array) -> float:
    return float(np.mean(np.square(values))) if values.size else 0.0
