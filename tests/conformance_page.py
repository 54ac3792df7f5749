"""Print how hec does in the tests that the onnx package ships, or write docs/operators.md from it.

    python tests/conformance_page.py [--write]

The page says of each ONNX operator how hec computes it, by looking at what its tests become.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import onnx
from onnx import helper
from rich.console import Console
from rich.table import Table

from conformance_rules import NEVER_PASS, claimed, node_verdicts, reasons
from conformance_suite import KINDS, Operator, Verdict, counts, verdicts
from conformance_ways import how_computed
from hec.compiler.onnx_fold import FOLDABLE
from hec.compiler.onnx_unsupported import unsupported

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators.md"


def main(arguments: Sequence[str]) -> None:
    """Print the results, and write the page if asked to."""
    if "--write" in arguments:
        PAGE.write_text(page(), encoding="utf-8")
    console = Console()
    console.print(_table())
    console.print(summary())


def summary() -> str:
    """Return the counts in one sentence, as in bench/RESULTS.md."""
    found = counts(verdicts())
    listed = ", ".join(f"{count:,} {outcome}" for outcome, count in found.items())
    return f"onnx {onnx.__version__}, {len(verdicts()):,} tests: {listed}"


def why_refused(of: Sequence[Verdict]) -> str:
    """Return the reasons of refusals, each with how many tests it stops."""
    texts = Counter(r.text for v in of for r in dict.fromkeys(reasons(v)) if r is not None)
    return "; ".join(f"{text} ({count})" for text, count in sorted(texts.items()))


def _table() -> Table:
    table = Table(
        "operator", "passed", "refused", "failed", "why refused", title="onnx.backend.test"
    )
    known = claimed()
    for operator in known:
        of = node_verdicts(operator)
        table.add_row(_name(operator), *map(str, counts(of).values()), why_refused(of))
    rest = [v for v in verdicts() if v.kind == "node" and len(v.operators) == 1]
    others = [v for v in rest if v.operators[0] not in known]
    table.add_section()
    table.add_row("other operators", *map(str, counts(others).values()), "")
    models = [v for v in verdicts() if v.kind == "node" and len(v.operators) > 1]
    table.add_row("node tests of several nodes", *map(str, counts(models).values()), "")
    for kind in KINDS[1:]:
        of = [v for v in verdicts() if v.kind == kind]
        table.add_row(f"{kind} tests", *map(str, counts(of).values()), "")
    table.add_section()
    table.add_row("all", *map(str, counts(verdicts()).values()), "")
    return table


def page() -> str:
    """Return the text of docs/operators.md."""
    known = claimed()
    standard = sorted({s.name for s in onnx.defs.get_all_schemas() if not s.domain})
    others = [name for name in standard if ("", name) not in known]
    folded = [name for name in others if name in FOLDABLE]
    refused = [name for name in others if name not in FOLDABLE]
    return "\n".join([
        *_INTRODUCTION.format(summary=summary()).splitlines(),
        "",
        "| operator | how | passed | refused | why refused |",
        "| --- | --- | ---: | ---: | --- |",
        *(_row(operator) for operator in known),
        "",
        *_ON_CONSTANTS.splitlines(),
        "",
        *_hints(folded),
        "",
        *_REFUSED.splitlines(),
        "",
        *_hints(refused),
        "",
    ])  # fmt: skip


_INTRODUCTION = """\
# Operators

What hec does with each ONNX operator. `make operators` writes this page from the importer's own
tables and from the tests that the onnx package ships; a test compares it with them.

{summary}.

Those tests hand over every operand as an input. hec's backend for them,
[onnx_backend](../compiler/onnx_backend.py), evaluates the imported network in the clear with exact
functions. All real inputs are encrypted, and where hec refuses that, the first one alone; all
others are constants, as in an exported network ([onnx_binding](../compiler/onnx_binding.py)).
A *fitted function* is exact there; in a plan it is as exact as you ask for, see the
[guide](guide.md).

## On encrypted tensors"""
_ON_CONSTANTS = """\
## On constants only

Computed while compiling where no encrypted tensor enters. On encrypted tensors they are refused;
the error says what to do instead."""
_REFUSED = """\
## Refused"""


def _row(operator: Operator) -> str:
    of = node_verdicts(operator)
    found = counts(of)
    how = NEVER_PASS.get(operator[1]) or how_computed(operator) or "onnx has no test of it"
    cells = [_name(operator), how, found["passed"], found["refused"], why_refused(of)]
    return "| " + " | ".join(map(str, cells)) + " |"


def _name(operator: Operator) -> str:
    return ".".join(filter(None, operator))


def _hints(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for the operators of each hint, those without one at the end."""
    helps = {name: unsupported(helper.make_node(name, [], [])).help for name in names}
    generic = unsupported(helper.make_node("", [], [])).help
    ordered = sorted(names, key=lambda name: (helps[name] == generic, helps[name], name))
    for text, group in groupby(ordered, key=lambda name: helps[name]):
        yield f"* {', '.join(group)}" + (f": {text}." if text != generic else ".")


if __name__ == "__main__":
    main(sys.argv[1:])
