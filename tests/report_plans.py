"""Plans for the tests of reports: of a deep residual network, with fits, histograms and names."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np

from bootstrap_plans import RELU, parameters
from hec.compiler import ckks_ir
from hec.compiler.bootstrapping import level_scales
from hec.compiler.ckks_ir import EncryptionParameters, Instruction, Program
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import CalibrationResult, PlanFit
from hec.compiler.tensor_ir import Curve, Fit, Histogram
from sample_plans import diagonals, first_slots, plan_of

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "$x^2$ 層")


def fit_of(degree: int = 7, portrait: bool = True) -> Fit:
    """Return the fit of a ReLU, with its curve and the histogram of its inputs."""
    x = np.linspace(-4.0, 4.0, 81)
    counts = (1000 * np.exp(-(np.linspace(-3, 3, 40) ** 2))).astype(int)
    curve = Curve(tuple(x), tuple(np.maximum(x, 0)), tuple(np.maximum(x, 0) + 0.05 * np.cos(3 * x)))
    return Fit(
        "relu",
        degree,
        (-3.0, 3.0),
        (-2.5, 2.0),
        0.01,
        tail=2e-3,
        bounded=(-4.8, 4.8),
        sensitivity=0.5,
        at_outputs=0.004,
        histogram=Histogram(-3.0, 3.0, tuple(counts.tolist())) if portrait else None,
        curve=curve if portrait else None,
    )


def with_results(plan: Plan, labels: tuple[str, ...], portrait: bool = True) -> Plan:
    """Return the plan as if compiled with calibration: labels, fits of what is nonlinear."""
    kinds = (ckks_ir.Polynomial, ckks_ir.Bootstrap)
    program = plan.server.program
    nonlinear = [
        n for n, x in zip(labels, program.instructions, strict=True) if isinstance(x, kinds)
    ]
    server = replace(
        plan.server,
        labels=labels,
        fits=tuple(PlanFit(name, fit_of(portrait=portrait)) for name in nonlinear),
        approximation=tuple(1e-3 for _ in labels) if portrait else (),
        calibrated=CalibrationResult(256, 0.9921875, 0.031) if portrait else None,
    )
    return Plan.of(plan.client, server)


def residual_plan(blocks: int = 27) -> Plan:
    """Return the plan of a network as deep as ResNet-56: five layers a block, one passes by."""
    chosen = parameters(15)
    instructions, labels = _residual(chosen, blocks)
    plan = plan_of(Program(chosen, tuple(instructions)), backend="openfhe")
    return with_results(plan, tuple(labels))


def _residual(chosen: EncryptionParameters, blocks: int) -> tuple[list[Instruction], list[str]]:
    scales, layout = level_scales(chosen.primes), first_slots(chosen.slots, 8)
    matrix = diagonals(1, chosen.slots, (1, 1), (0, 1, 5, 6))
    plain = scales[3] * chosen.primes[4] / scales[4]
    instructions: list[Instruction] = [ckks_ir.Input("image", layout, 3, scales[3], 1.0)]
    labels, numbers = [""], count(1)

    def emit(instruction: Instruction, label: str) -> int:
        instructions.append(instruction)
        labels.append(label)
        return len(instructions) - 1

    def refreshed(x: int) -> int:
        label = f"/layers/block/relu{next(numbers)}/Relu"
        return emit(ckks_ir.Rescale(emit(ckks_ir.Bootstrap(x, RELU, label), label)), label)

    def convolved(x: int, label: str) -> int:
        y = emit(ckks_ir.LinearTransform(x, matrix, 4, 0, plain, label), label)
        return emit(ckks_ir.Rescale(y), label)

    x = refreshed(0)
    for number in range(blocks):
        prefix = f"/layers/block.{number}"
        y = convolved(refreshed(convolved(x, f"{prefix}/conv1/Conv")), f"{prefix}/conv2/Conv")
        skipped = convolved(x, f"{prefix}/shortcut/Slice + {prefix}/shortcut/Pad")
        x = refreshed(emit(ckks_ir.Add(y, skipped), f"{prefix}/Add"))
    instructions.append(ckks_ir.Output(x, "logits", layout, 1.0))
    return instructions, [*labels, ""]
