"""Why hec may refuse a test of an operator that it claims: every reason, and what tells it.

A reason that no test needs any more fails test_conformance, unless hec has none of its operators:
remove it then.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import onnx

from conformance_suite import Operator, Verdict, verdicts
from hec.compiler.errors import Problem
from hec.compiler.onnx_import import is_supported


@dataclass(frozen=True)
class Reason:
    """Why tests of some operators, or of any (none named), are refused."""

    text: str  # as in the column "why refused"
    pattern: str  # what the message of such a refusal starts with
    operators: tuple[str, ...] = ()

    def explains(self, problem: Problem, operators: Collection[Operator]) -> bool:
        """Return whether the reason covers a problem with these operators."""
        covered = not self.operators or any(name in self.operators for _, name in operators)
        return covered and bool(re.match(self.pattern, problem.message))


REASONS = (
    Reason(
        "only real numbers of 16 to 64 bits are encrypted",
        r"the input holds .*; only real numbers can be encrypted",
    ),
    Reason("there are no elements", r"the (input|result) of shape \(.*\) has no elements"),
    Reason(
        "the result is the same for every input",
        r"the output '.*' does not depend on the elements of any input",
    ),
    Reason("operator sets before 7 broadcast in a way of their own", r"the model uses ONNX oper"),
    Reason("a mask holds infinite numbers", r"the constant '.*' holds NaN or infinite numbers"),
    Reason("one exponent for all elements", r"Pow with (the|several) exponent", ("Pow",)),
    Reason("the base holds integers", r"Pow (with a constant input 0|of whole numbers)", ("Pow",)),
    Reason(
        "numpy has no such type",
        r"Cast of an encrypted tensor to (float[48]|u?int[24])",
        ("Cast",),
    ),
    Reason("encrypted numbers tell no places", r"the output 'Indices' of MaxPool", ("MaxPool",)),
    Reason("runtimes disagree", r"Resize with align_corners", ("Resize",)),
    Reason(
        "only sums and products are scattered",
        r"Scatter\w+ on an encrypted tensor with reduction 'm(ax|in)'",
        ("ScatterElements", "ScatterND"),
    ),
    Reason(
        "training changes the network", r"\w+ in training mode", ("BatchNormalization", "Dropout")
    ),
    Reason("of equal numbers the client takes the first", r"ArgMax with select_last", ("ArgMax",)),
)
NEVER_PASS = {  # claimed, with tests of which none could pass
    "Shape": "its result is a constant",
    "Size": "its result is a constant",
    "Trilu": "the tests have integers only",
}


def claimed() -> list[Operator]:
    """Return the operators that an encrypted tensor may enter, by domain and name."""
    schemas = {(s.domain, s.name) for s in onnx.defs.get_all_schemas()}
    return sorted((d, name) for d, name in schemas if is_supported(name, d))


def node_verdicts(operator: Operator) -> list[Verdict]:
    """Return the verdicts of the node tests of an operator: models of this one node."""
    return [v for v in verdicts() if v.kind == "node" and v.operators == (operator,)]


def reasons(verdict: Verdict) -> list[Reason | None]:
    """Return the reason of each problem with claimed operators alone, None if there is none."""
    found = []
    for problem in verdict.problems:
        operators = verdict.named(problem)
        if all(is_supported(name, domain) for domain, name in operators):
            fitting = (reason for reason in REASONS if reason.explains(problem, operators))
            found.append(next(fitting, None))
    return found
