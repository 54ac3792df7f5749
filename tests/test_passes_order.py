"""The tensor passes together: normal form, its check, and the dump."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hec.compiler.calibration import Calibration
from hec.compiler.errors import InvalidProgram
from hec.compiler.functions import Function
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
)
from hec.passes import check_normal_form, run_tensor_passes
from small_graphs import (
    RANDOM,
    SEEN,
    X,
    affine,
    graph,
    kinds,
)

# the whole


def test_quadratic_between_layers_takes_three_levels() -> None:
    first, last = RANDOM.normal(size=(4, 2)), RANDOM.normal(size=(3, 4))
    square = Polynomial(1, RANDOM.normal(size=(3, 4)), "power", (1, 4))
    before = graph(X, affine(0, first), square, affine(2, last))
    after = run_tensor_passes(before, Target(), Calibration(SEEN, margin=1.1))
    assert kinds(after) == [Input, Linear, Multiply, Linear]
    check_normal_form(after, Calibration(SEEN))


def test_dump_writes_readable_text_after_each_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEC_DUMP", str(tmp_path / "dump"))
    activation = Activation(0, Function("tanh"), (1, 2), ("act",))
    cubic = Polynomial(1, np.array([0.0, 0.0, 0.0, 1.0]), "power", (1, 2))
    before = graph(X, activation, cubic, affine(2, np.ones((1, 2)), np.ones(1)))
    run_tensor_passes(before, Target(degree=3), Calibration(SEEN))
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names[0] == "01-eliminate_dead_code.txt"
    assert names[-1].endswith("-fold_scales.txt")
    assert (tmp_path / "dump" / names[0]).read_text() == (
        "%0 = input 'x' / 1 : (1, 2)\n"
        "%1 = tanh of %0 : (1, 2)  # act\n"
        "%2 = polynomial(%1, power, degree 3, [0. 0. 0. 1.]) : (1, 2)\n"
        "%3 = linear([1x2, 2 non-zeros] %2 + bias) : (1, 1)\n"
        "output 'out3' = 1 * %3\n"
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            graph(X, Activation(0, Function("relu"), (1, 2))),
            "normal form: operation 1: activation relu is left",
        ),
        (
            graph(X, Polynomial(0, np.ones(4), "power", (1, 2))),
            "normal form: operation 1: polynomial is not Chebyshev of degree 3 or more",
        ),
        (graph(X, affine(0, np.eye(2))), "normal form: operation 1: identity is left"),
        (
            graph(X, affine(0, 2 * np.eye(2)), affine(1, 2 * np.eye(2))),
            "normal form: operation 2: linear after linear 1 is not fused",
        ),
        (graph(X, Multiply(0, 0, (1, 2))), "normal form: operation 0 reaches 2"),
    ],
)
def test_normal_form_names_what_is_wrong(broken: TensorGraph, message: str) -> None:
    with pytest.raises(InvalidProgram) as caught:
        check_normal_form(broken, Calibration(SEEN))
    assert str(caught.value) == message
