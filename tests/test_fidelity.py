"""Whether fits keep what was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hec.compiler.calibration import Calibration
from hec.compiler.fidelity import Fidelity, fidelity
from hec.compiler.observed import observe
from hec.compiler.plan_parts import CalibrationResult
from hec.compiler.target import Target
from hec.compiler.tensor_ir import EpilogueStep, Output, TensorGraph
from small_graphs import X, affine, graph

SAMPLES = Calibration({"x": np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [1.0, 4.0]])})
EXACT = graph(X, affine(0, np.eye(2)))


def against_exact(fitted: TensorGraph) -> Fidelity:
    wanted, found = (observe(each, SAMPLES).outputs for each in (EXACT, fitted))
    return fidelity(EXACT, wanted, found)


def test_the_error_is_a_share_of_the_outputs_and_classes_are_compared() -> None:
    found = against_exact(graph(X, affine(0, np.diag([1.0, 1.6]))))
    error = 0.6 * np.sqrt((1 + 4 + 16) / (1 + 1 + 9 + 4 + 1 + 16))
    assert found.error == pytest.approx(error)
    assert found.disagreement == 0.25  # 2 becomes 3.2, more than 3
    half = graph(X, affine(0, np.eye(2) / 2))
    doubled = replace(half, outputs=(Output(EXACT.outputs[0].name, 1, 2.0),))
    assert against_exact(doubled) == Fidelity(0.0, 0.0)


def test_what_is_not_finite_keeps_no_error() -> None:
    wanted = observe(EXACT, SAMPLES).outputs
    found = fidelity(EXACT, wanted, [np.full_like(wanted[0], np.nan)])
    assert found.error == np.inf and not found.keeps(Target())


def test_one_number_is_a_class_only_before_a_sigmoid() -> None:
    regression = graph(X, affine(0, np.array([[1.0, -2.0]])))
    sigmoid = Output("out0", 1, epilogue=(EpilogueStep("sigmoid"),))
    wanted = observe(regression, SAMPLES).outputs  # 1, -2, -1, -7
    found = [wanted[0] + 1.5]  # -1 becomes 0.5
    number = fidelity(regression, wanted, found)
    binary = fidelity(replace(regression, outputs=(sigmoid,)), wanted, found)
    assert (number.agreement, binary.agreement) == (None, 0.75)
    assert binary.result(4) == CalibrationResult(4, 0.75, number.error)
    assert number.disagreement == 0.0  # so that nothing is refused for it


def test_without_samples_there_are_no_outputs() -> None:
    assert observe(EXACT, Calibration(None)).outputs == ()


@pytest.mark.parametrize(
    ("target", "kept", "missed"),
    [
        (Target(), Fidelity(0.089, 0.009), Fidelity(0.089, 0.011)),
        (Target(), Fidelity(0.089, 0.009), Fidelity(0.091, 0.0)),
        (Target(max_error=0.02), Fidelity(0.02, 0.5), Fidelity(0.021, 0.0)),
        (Target(min_agreement=0.9), Fidelity(9.0, 0.09), Fidelity(0.0, 0.11)),
        (Target(min_agreement=1.0), Fidelity(9.0, 0.0), Fidelity(0.0, 0.001)),
    ],
)
def test_what_the_target_asks_for(target: Target, kept: Fidelity, missed: Fidelity) -> None:
    assert kept.keeps(target) and not missed.keeps(target)
