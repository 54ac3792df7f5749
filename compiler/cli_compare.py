"""`hec report a.hec b.hec`: two plans side by side, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import typer

from hec.compiler.cli_terminal import STORY_WIDTH, duration, show_json, show_story, show_table, size

if TYPE_CHECKING:
    from hec.compiler.compare import LayerRow, Row, Side

_SAME: Final = 0.005  # relative difference that is not worth a number
_MINUS: Final = "\N{MINUS SIGN}"
_ONLY_WHOLE: Final = (
    "only whole plans can be compared, and this file holds the client's part of one"
)
_HELP: Final = (
    "give the plan that hec compile wrote with -o; hec report alone shows the client's part"
)


def show_comparison(
    paths: Sequence[Path],
    as_json: bool,
    costs: str | None = None,
    single: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Print the comparison of the plans in two files; raise `CompileError` for other files.

    `costs` names the table of seconds; `single` has the options that belong to one plan.
    """
    from hec.compiler.cli_files import load_whole_plan
    from hec.compiler.compare import compare
    from hec.compiler.errors import fail
    from hec.compiler.host_costs import chosen_table

    if len(paths) != 2:
        raise fail(
            f"{len(paths)} plans do not fit side by side",
            " ".join(map(str, paths)),
            "give one plan, or two to compare them",
        )
    given = [name for name, value in single.items() if value is not None]
    if given:
        raise fail(
            "some options are about one plan, and there are two",
            " ".join(f"{name} {single[name]}" for name in given),
            f"leave out {' and '.join(given)}, or give one plan",
        )
    plans = [load_whole_plan(path, _ONLY_WHOLE, _HELP) for path in paths]
    tables = [chosen_table(costs, plan.client.backend) for plan in plans]
    found = compare((plans[0], tables[0]), (plans[1], tables[1]))
    if as_json:
        show_json(found)
        return
    show_story(
        [
            (name, "; ".join(filter(None, [f"{path}: {model}, plan {plan[:12]}", backend, way])))
            for name, path, model, plan, backend, way in zip(
                "AB", paths, found.models, found.plan_ids, found.backends, found.ways, strict=True
            )
        ]
    )
    typer.echo()
    rows = [(x.name, _value(x, x.left), _value(x, x.right), *_change(x)) for x in found.rows]
    show_table("", ("", "A", "B", "B - A", "B / A"), rows, STORY_WIDTH)
    typer.echo()
    columns = ("layer", "A", "levels", "seconds", "B", "levels", "seconds", "B / A")
    show_table("", columns, [_layer(x) for x in found.layers], STORY_WIDTH)


def _value(row: Row, value: float | None) -> str:
    if value is None:
        return "-"
    match row.unit:
        case "seconds":
            return duration(value)
        case "bytes":
            return size(value)
        case "bits" | "precision":
            return f"{value:.1f} bits"
        case "share":
            return f"{100 * value:.2f} %"
        case _:
            return f"{value:,.0f}"


def _change(row: Row) -> tuple[str, str]:
    if row.difference is None:
        return "", ""
    if not row.difference:
        return "same", ""
    sign = _MINUS if row.difference < 0 else "+"
    ratio = "" if row.ratio is None or row.unit == "share" else _ratio(row.ratio)
    return f"{sign}{_value(row, abs(row.difference))}", ratio


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None or abs(ratio - 1) < _SAME else f"{ratio:.2f}"


def _layer(row: LayerRow) -> tuple[str, ...]:
    side = row.left or row.right
    label = side.label if side else ""
    if row.left and row.right and row.left.label != row.right.label:
        label = f"{label} | {row.right.label}"
    return (label, *_side(row.left), *_side(row.right), _ratio(row.seconds.ratio))


def _side(side: Side | None) -> tuple[str, str, str]:
    if side is None:
        return "-", "", ""
    operation = side.operation.replace("polynomial of degree", "degree")
    levels = f"{side.level_in} > {side.level_out}"
    return f"{side.number} {operation}", levels, duration(side.seconds)
