"""Whether fits keep what was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hec.compiler.calibration import Calibration
from hec.compiler.fidelity import Fidelity, fidelity
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Output
from small_graphs import X, affine, graph

SAMPLES = Calibration({"x": np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [1.0, 4.0]])})


def test_the_error_is_a_share_of_the_outputs_and_classes_are_compared() -> None:
    exact = graph(X, affine(0, np.eye(2)))
    found = fidelity(exact, graph(X, affine(0, np.diag([1.0, 1.6]))), SAMPLES)
    error = 0.6 * np.sqrt((1 + 4 + 16) / (1 + 1 + 9 + 4 + 1 + 16))
    assert found.error == pytest.approx(error)
    assert found.disagreement == 0.25  # 2 becomes 3.2, more than 3
    half = graph(X, affine(0, np.eye(2) / 2))
    doubled = replace(half, outputs=(Output(exact.outputs[0].name, 1, 2.0),))
    assert fidelity(exact, doubled, SAMPLES) == Fidelity(0.0, 0.0)


def test_without_samples_nothing_is_known_to_be_wrong() -> None:
    one, other = (graph(X, affine(0, np.eye(2) * scale)) for scale in (1.0, 9.0))
    assert fidelity(one, other, Calibration(None)) == Fidelity(0.0, 0.0)


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
