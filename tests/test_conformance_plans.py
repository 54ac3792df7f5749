"""The tests of onnx once more, compiled to plans and run in the clear, where no function is fitted.

The backend evaluates the imported graph; here passes, layouts, and lowering have done their work on
it, and the tolerances are still those of onnx.
"""

from __future__ import annotations

import numpy as np
import pytest

import hec
from conformance_rules import NEVER_PASS, claimed, node_verdicts
from conformance_suite import CHOSEN, ROUNDED, Case, Operator, cases, verdicts
from conformance_ways import arrays_of, choices, way
from hec.compiler.errors import CompileError
from hec.compiler.onnx_binding import bind, import_with
from hec.compiler.target import Target
from hec.runtime.simulate import run_clear

pytestmark = pytest.mark.slow
TARGET = Target(backend="tenseal", **CHOSEN)


def exact(case: Case, encrypted: list[str]) -> bool:
    """Return whether a test with these inputs encrypted has a plan without fitted functions."""
    arrays = arrays_of(case)
    if not all(np.isfinite(arrays[name].astype(np.float64)).all() for name in encrypted):
        return False  # the client refuses them
    try:
        return way(import_with(case.model, arrays, TARGET, encrypted)) != "fitted"
    except CompileError:
        return False


def check(case: Case, encrypted: list[str]) -> None:
    """Compare the plan's outputs with those that onnx expects."""
    arrays = arrays_of(case)
    samples = {name: arrays[name][None].astype(np.float32) for name in encrypted}
    plan = hec.compile(bind(case.model, arrays, encrypted), samples, TARGET)
    found = run_clear(plan, samples).outputs
    relative, absolute = case.tolerances[0], max(case.tolerances[1], ROUNDED.get(case.name, 0.0))
    for info, expected in zip(case.model.graph.output, case.samples[0][1], strict=True):
        np.testing.assert_allclose(
            found[info.name].reshape(np.shape(expected)).astype(np.float64),
            np.asarray(expected, np.float64),
            rtol=relative,
            atol=absolute,
            err_msg=f"{case.name} with {encrypted} encrypted",
        )


@pytest.mark.parametrize("operator", [o for o in claimed() if o[1] not in NEVER_PASS], ids=".".join)
def test_plans_of_an_operator_keep_the_tolerances_of_onnx(operator: Operator) -> None:
    passed = {v.name for v in node_verdicts(operator) if v.outcome == "passed"}
    of = [case for case in cases() if case.name in passed]
    for case, encrypted in [(one, names) for one in of for names in choices(one)]:
        if exact(case, encrypted):
            check(case, encrypted)


def test_plans_of_several_nodes_keep_the_tolerances_of_onnx() -> None:
    passed = {v.name for v in verdicts() if v.outcome == "passed" and len(v.operators) > 1}
    of = [case for case in cases() if case.name in passed and case.kind == "node"]
    found = [(case, choices(case)[0]) for case in of if exact(case, choices(case)[0])]
    assert found
    for case, encrypted in found:
        check(case, encrypted)
