"""Why hec may refuse a test of an operator that it claims: every reason, and how a refusal tells it.

A reason that no test needs any more fails test_conformance: remove it then.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import onnx

from conformance_suite import Operator, Verdict
from hec.compiler.errors import Problem
from hec.compiler.onnx_import import is_supported


@dataclass(frozen=True)
class Reason:
    """Why tests of some operators, or of any (none named), are refused."""

    text: str
    pattern: str  # what the message of such a refusal starts with
    operators: Collection[str] = ()

    def explains(self, problem: Problem, operators: Collection[Operator]) -> bool:
        """Return whether the reason covers a problem with these operators."""
        covered = not self.operators or any(name in self.operators for _, name in operators)
        return covered and bool(re.match(self.pattern, problem.message))


REASONS = (
    Reason(
        "only real numbers are encrypted: no integers, texts, small floats, sequences",
        r"the input holds .*; only real numbers can be encrypted",
    ),
    Reason("there are no elements", r"the (input|result) of shape \(.*\) has no elements"),
    Reason(
        "the result is the same for every input",
        r"the output '.*' does not depend on the elements of any input",
    ),
    Reason("operator sets before 7 broadcast in a way of their own", r"the model uses ONNX oper"),
    Reason(
        "a constant is NaN",
        r"the weights hold NaN|the constant '.*' holds NaN or infinite numbers",
    ),
    Reason(
        "the type has no elements in numpy",
        r"Cast of an encrypted tensor to (float[48]|u?int[24])",
        ["Cast"],
    ),
    Reason("training changes the network", r"\w+ in training mode", ["BatchNormalization", "Dropout"]),
    Reason("of equal numbers the client takes the first", r"ArgMax with select_last", ["ArgMax"]),
)
NEVER_PASS = {  # claimed, and used inside of networks, where their result is a constant
    "Shape": "its result is a constant",
    "Size": "its result is a constant",
}


def claimed() -> list[Operator]:
    """Return the operators that an encrypted tensor may enter, by domain and name."""
    schemas = {(s.domain, s.name) for s in onnx.defs.get_all_schemas()}
    return sorted((d, name) for d, name in schemas if is_supported(name, d))


def reasons(verdict: Verdict) -> list[Reason | None]:
    """Return the reason of each problem with claimed operators alone, None if there is none."""
    found = []
    for problem in verdict.problems:
        operators = verdict.named(problem)
        if all(is_supported(name, domain) for domain, name in operators):
            fitting = (reason for reason in REASONS if reason.explains(problem, operators))
            found.append(next(fitting, None))
    return found
