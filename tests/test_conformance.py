"""hec in the tests that the onnx package ships: none fails, and every refusal says why."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from conformance_page import PAGE, main, page, summary
from conformance_rules import NEVER_PASS, REASONS, claimed, node_verdicts, reasons
from conformance_suite import KINDS, ROUNDED, Verdict, cases, counts, verdict, verdicts

FEWEST_TESTS, FEWEST_PASSED = 1900, 300  # of onnx 1.23; other versions have about as many


def described(of: list[Verdict]) -> str:
    """Return the verdicts as a text for a failed test."""
    return "\n".join(
        f"{v.kind} {v.name}: {v.failure or ' '.join(map(str, v.problems))}" for v in of
    )


def only_for_the_version_of_the_page() -> None:
    if f"onnx {onnx.__version__}," not in PAGE.read_text(encoding="utf-8"):
        pytest.skip(f"docs/operators.md is about another version of onnx than {onnx.__version__}")


def test_no_test_of_onnx_fails() -> None:
    failed = [v for v in verdicts() if v.outcome == "failed"]
    assert not failed, described(failed)


def test_the_suite_is_there() -> None:
    assert {v.kind for v in verdicts()} == set(KINDS)
    assert len(verdicts()) >= FEWEST_TESTS
    assert counts(verdicts())["passed"] >= FEWEST_PASSED


def test_every_problem_names_an_operator_of_the_model() -> None:
    silent = [v for v in verdicts() if not all(v.named(problem) for problem in v.problems)]
    assert not silent, described(silent)


def test_what_hec_claims_is_refused_only_for_a_known_reason() -> None:
    unexplained = [v for v in verdicts() if None in reasons(v)]
    assert not unexplained, described(unexplained)


def test_every_reason_is_needed() -> None:
    only_for_the_version_of_the_page()
    needed = {reason for v in verdicts() for reason in reasons(v)}
    known = {name for _, name in claimed()}
    of_hec = [r for r in REASONS if not r.operators or known.intersection(r.operators)]
    assert not [reason.text for reason in of_hec if reason not in needed]


def test_every_wider_tolerance_is_needed() -> None:
    only_for_the_version_of_the_page()
    named = [case for case in cases() if case.name in ROUNDED]
    assert {case.name for case in named} == set(ROUNDED)
    strict = {case.name: verdict(case, rounded=False) for case in named}
    assert not [v for v in strict.values() if v.outcome == "passed"]


def test_every_operator_that_hec_claims_passes_a_test() -> None:
    tested = {o: counts(of) for o in claimed() if (of := node_verdicts(o))}
    assert {name for (_, name), found in tested.items() if not found["passed"]} == set(NEVER_PASS)


def test_the_page_of_operators_is_as_the_tests_say() -> None:
    only_for_the_version_of_the_page()
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make operators"


def test_the_results_state_the_counts(root: Path) -> None:
    only_for_the_version_of_the_page()
    results = (root / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    assert summary() in results, f"bench/RESULTS.md must say: {summary()}"


def test_make_conformance_prints_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == summary()
    cells = [line.split() for line in lines]
    numbers = [str(count) for count in counts(verdicts()).values()]
    assert ["│", "all", "│", numbers[0], "│", numbers[1], "│", "0", "│", "│"] in cells
