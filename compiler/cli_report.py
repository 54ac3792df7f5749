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


Costs = Annotated[
    str | None, typer.Option(help="seconds of: reference, host, FILE [host, if measured]")
]
Advice = Annotated[
    Path | None, typer.Option(help="the network, .onnx: compile what could be changed in it")
]
Calibration = Annotated[
    Path | None, typer.Option(help="samples for --advice, .npz by input name or .npy")
]


def _show_schema(wanted: bool) -> None:
    if wanted:
        from hec.compiler.report_schema import schema

        show_json({**schema()})
        raise typer.Exit


def report(
    plans: Annotated[list[Path], typer.Argument(help="a plan, or the client's part; two: compare")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    html: Annotated[Path | None, typer.Option(help="write a page with pictures")] = None,
    costs: Costs = None,
    advice: Advice = None,
    calibration: Calibration = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="print the JSON Schema of --json", callback=_show_schema, is_eager=True
        ),
    ] = False,
) -> None:
    """Show what a plan costs, and how exact it will be; or compare two.

    Levels, seconds, sizes, errors, and the quality of fitted activations; nothing is encrypted for
    it. The page of --html is one file that needs no network.

    \b
    Example:
      hec report model.hec
      hec report model.hec --html report.html
      hec report before.hec after.hec
      hec report model.hec --advice model.onnx --calibration samples.npz
    """
    from hec.compiler.cli_files import check_output, load_plan_or_part
    from hec.compiler.host_costs import chosen_table
    from hec.compiler.plan import Plan
    from hec.compiler.report import report as report_of

    if len(plans) > 1:
        single = {"--html": html, "--advice": advice, "--calibration": calibration}
        show_comparison(plans, as_json, costs, single)
        return
    if html is not None:
        check_output(html, [plans[0], advice, calibration], "--html")
    loaded = load_plan_or_part(plans[0])
    client = loaded.client if isinstance(loaded, Plan) else loaded
    found = report_of(loaded, chosen_table(costs, client.backend))
    found = with_advice(plans[0], found, advice, calibration)
    if html is not None:
        _write_page(found, html)
    _show(found, html, as_json)


def _show(found: Report, page: Path | None, as_json: bool) -> None:
    if as_json:
        from hec.compiler.report_schema import document

        show_json(document(found))
    elif page is not None:
        show_facts([("page", f"{page}, {size(page.stat().st_size)}")])
    else:
        from hec.compiler.cli_report_tables import show_report

        show_report(found)


def _write_page(found: Report, path: Path) -> None:
    from hec.compiler.atomic_file import atomic_file
    from hec.compiler.report_html import html

    page = html(found).encode("utf-8", "replace")  # a name in a plan may be no text at all
    with atomic_file(path) as file:
        file.write(page)
