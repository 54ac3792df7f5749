"""`hec report`: what a plan costs and how exact it will be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hec.compiler.cli_advice import with_advice
from hec.compiler.cli_compare import show_comparison
from hec.compiler.cli_terminal import show_facts, show_json, size

if TYPE_CHECKING:
    from hec.compiler.report import Report


def _show_schema(wanted: bool) -> None:
    if wanted:
        from hec.compiler.report_schema import schema

        show_json({**schema()})
        raise typer.Exit


Plans = Annotated[list[Path], typer.Argument(help="a plan, or the client's part; two: compare")]
Page = Annotated[Path | None, typer.Option("--html", help="write a page with pictures")]
Advice = Annotated[
    Path | None, typer.Option(help="the network, .onnx: compile what could be changed in it")
]
Samples = Annotated[
    Path | None, typer.Option(help="samples for --advice, .npz by input name or .npy")
]
Costs = Annotated[
    str | None, typer.Option(help="seconds of: reference, host, FILE [host, if measured]")
]
Schema = Annotated[
    bool,
    typer.Option(
        "--schema", help="print the JSON Schema of --json", callback=_show_schema, is_eager=True
    ),
]


def report(
    plans: Plans,
    html: Page = None,
    advice: Advice = None,
    calibration: Samples = None,
    costs: Costs = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    schema: Schema = False,
) -> None:
    """Show what a plan costs and how exact it is, or compare two.

    Levels, seconds, sizes, errors, and the quality of fitted activations; nothing is encrypted for
    it. The page of --html is one file that needs no network.

    \b
    Example:
      hec report model.hec
      hec report model.hec --html report.html
      hec report before.hec after.hec
      hec report model.hec --advice model.onnx --calibration samples.npz
    """
    if len(plans) > 1:
        single = {"--html": html, "--advice": advice, "--calibration": calibration}
        show_comparison(plans, as_json, costs, single)
        return
    (plan,) = plans
    if html is not None:
        from hec.compiler.cli_files import check_output

        check_output(html, [plan, advice, calibration], "--html")
    found = with_advice(plan, _report(plan, costs), advice, calibration)
    if html is not None:
        _write_page(found, html)
    if as_json:
        from hec.compiler.report_schema import document

        show_json(document(found))
    elif html is not None:
        show_facts([("page", f"{html}, {size(html.stat().st_size)}")])
    else:
        from hec.compiler.cli_report_tables import show_report

        show_report(found)


def _report(plan: Path, costs: str | None) -> Report:
    from hec.compiler.cli_files import load_plan_or_part
    from hec.compiler.host_costs import chosen_table
    from hec.compiler.plan import Plan
    from hec.compiler.report import report as report_of

    loaded = load_plan_or_part(plan)
    client = loaded.client if isinstance(loaded, Plan) else loaded
    return report_of(loaded, chosen_table(costs, client.backend))


def _write_page(found: Report, path: Path) -> None:
    from hec.compiler.atomic_file import atomic_file
    from hec.compiler.report_html import html

    page = html(found).encode("utf-8", "replace")  # a name in a plan may be no text at all
    with atomic_file(path) as file:
        file.write(page)
