"""Products of two tensors between bootstraps on OpenFHE; the ring is too small to be secure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from bootstrap_plans import DEGREE, RELU, parameters
from fhe_sessions import MARKS
from hec.compiler import tensor_ir
from hec.compiler.bootstrapping import top_level
from hec.compiler.ckks_ir import Bootstrapping, Multiply, Program
from hec.compiler.lower import ScalePlan, lower
from hec.compiler.plan_parts import ClientPart
from hec.compiler.refresh_parameters import needs
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Bootstrap, Input, Linear, Output, TensorGraph
from hec.passes.choose_layouts import choose_layouts
from hec.runtime import sides
from hec.runtime.openfhe_client import OpenfheSecret
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_server import OpenfheEvaluator
from test_openfhe_programs import answers, expected, insecure_plan

pytestmark = MARKS
LOG_DEGREE, BITS, SIZE = 10, 33, 8
TOLERANCE = 1e-3  # products of results of bootstraps, whose arguments have errors of 4e-5


def product_graph() -> TensorGraph:
    """Return bootstrap, matrices, products of them and of what skips a level, bootstrap."""
    random = np.random.default_rng(2)
    shape = (1, SIZE)

    def matrix(size: float) -> sp.csr_array:
        return sp.csr_array(size * random.uniform(-1, 1, (SIZE, SIZE)) / SIZE)

    zeros = np.zeros(SIZE)
    return TensorGraph(
        (
            Input("x", shape),
            Bootstrap(0, RELU, shape),
            Linear((1,), (matrix(4.0),), zeros, shape),
            Linear((1,), (matrix(4.0),), zeros + 0.2, shape),
            tensor_ir.Multiply(2, 3, shape),
            tensor_ir.Multiply(4, 1, shape),
            Linear((5, 4), (matrix(8.0), matrix(4.0)), zeros, shape),
            Bootstrap(6, RELU, shape),
            tensor_ir.Multiply(7, 2, shape),
        ),
        (Output("y", 7), Output("z", 8)),
    )


def product_program() -> Program:
    graph, how = product_graph(), Bootstrapping((3, 2), (0, 16), 2 ** (LOG_DEGREE - 1))
    after = needs(graph, lambda position: 1).after
    assert after == 4
    chosen = parameters(LOG_DEGREE, BITS, top_level(how, DEGREE, after), 9, how)
    laid_out = choose_layouts(graph, chosen.slots, Target())
    return lower(laid_out, chosen, ScalePlan(BITS, BITS, BITS)).program


def test_products_between_bootstraps_are_the_program_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = product_program()
    assert sum(isinstance(x, Multiply) for x in program.instructions) == 3
    context = OpenfheContext(program.parameters, insecure_for_tests=True)

    def evaluator(part: ClientPart, keys: bytes | Path, place: str) -> OpenfheEvaluator:
        return OpenfheEvaluator(part, keys, place, context)

    monkeypatch.setattr(sides, "evaluator", evaluator)
    plan = insecure_plan(program)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, SIZE))
    found = answers(plan, {"x": x}, tmp_path, OpenfheSecret(context))
    reference = expected(program, {"x": x})
    for name, values in reference.items():
        assert np.abs(values).max() > 0.01
        np.testing.assert_allclose(found[name], values, rtol=0, atol=TOLERANCE)
