"""What one prediction takes, counted and not timed: against the counts of the last commit.

python bench/counts.py [MODEL ...] --data FOLDER          # exit code 1 if a plan got slower
python bench/counts.py [MODEL ...] --data FOLDER --update # and rewrite bench/counts.json

Leveled networks are counted on both backends, as MODEL:BACKEND; deep ones, by name, on OpenFHE. It
need not be installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import hec
import rows
import session
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.program_counts import counts_of
from models import data_folder, select

STEPS = (  # what makes a plan slower; keys, messages and plaintexts make it larger
    "ring_degree",
    "levels",
    "modulus_bits",
    "key_switches",
    "key_switch_limbs",
    "plain_products",
    "products",
    "rescalings",
    "bootstraps",
)
STORE = Path(__file__).with_name("counts.json")
Counts = dict[str, int]

COLUMNS = [
    rows.Column("network", "model"),
    rows.Column("ring", "ring_degree", rows.whole),
    rows.Column("levels", "levels", rows.whole),
    rows.Column("modulus bits", "modulus_bits", rows.whole),
    rows.Column("inputs", "input_ciphertexts", rows.whole),
    rows.Column("keys", "evaluation_keys", rows.whole),
    rows.Column("key switches", "key_switches", rows.whole),
    rows.Column("their limbs", "key_switch_limbs", rows.whole),
    rows.Column("plain products", "plain_products", rows.whole),
    rows.Column("products", "products", rows.whole),
    rows.Column("rescalings", "rescalings", rows.whole),
    rows.Column("bootstraps", "bootstraps", rows.whole),
    rows.Column("plaintext MB", "plaintext_bytes", rows.megabytes),
    rows.Column("forecast s", "forecast_seconds"),
    rows.Column("compile s", "compile_seconds"),
]


def measure(name: str, folder: Path) -> rows.Row:
    """Return the counts of MODEL:BACKEND, and what the reference cost table makes of them."""
    title, _, backend = name.partition(":")
    (model,) = select([title])
    try:
        plan, seconds = session.compile_model(model, folder, model.samples(folder), backend)
    except hec.CompileError as refusal:
        return {"refused": refusal.problems[0].message}
    counts: rows.Row = {**asdict(counts_of(plan.server.program))}
    forecast = forecast_of(plan.server).total_seconds
    return {**counts, "forecast_seconds": forecast, "compile_seconds": seconds}


def counts_in(row: rows.Row) -> Counts:
    """Return the counts among the values of a row; none where the backend refused."""
    names = [column.key for column in COLUMNS]
    numbers = {name: row[name] for name in names if isinstance(row.get(name), int)}
    return {name: int(number or 0) for name, number in numbers.items()}


def changes(before: Mapping[str, Counts], now: Mapping[str, Counts]) -> tuple[list[str], bool]:
    """Return what changed, a line for each network, and whether any plan got slower.

    Slower is a plan of which any of `STEPS` grew, and a network that is refused now. If that is
    the price of something better, `--update` says so in the same commit.
    """
    lines, slower = list[str](), False
    for name, counts in now.items():
        old = before.get(name)
        if old is None:
            lines.append(f"{name}: new")
        elif bool(old) != bool(counts):
            lines.append(f"{name}: {'compiles' if counts else 'is refused'} now")
            slower = slower or not counts
        elif differences := _differences(old, counts):
            lines.append(f"{name}: {', '.join(differences)}")
            slower = slower or any(counts.get(key, 0) > old.get(key, 0) for key in STEPS)
    return lines, slower


def _differences(old: Counts, counts: Counts) -> list[str]:
    return [
        f"{key.replace('_', ' ')} {old.get(key, 0)} -> {number}"
        for key, number in counts.items()
        if number != old.get(key, 0)
    ]


def _names(models: list[str]) -> list[str]:
    return [
        f"{model.name}:{backend}"
        for model in select(models, None if models else "accuracy")
        for backend in ("tenseal", "openfhe")
        if backend == "openfhe" or model.bench != "deep"
    ]


def _store(counts: Mapping[str, Counts]) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(counts[name])}" for name in sorted(counts)]
    STORE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(
    models: Annotated[
        list[str] | None, typer.Argument(help="names; small ones without any")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    update: Annotated[bool, typer.Option("--update", help="rewrite bench/counts.json")] = False,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Count what predictions take, and compare with the counts of the last commit."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder))
        return
    script, arguments = Path(__file__), [f"--data={folder}"]
    table = rows.measure_each(script, _names(models or []), arguments, out, again=True)
    rows.show({"Counts of one prediction": COLUMNS}, table, out / "counts.md")
    before: dict[str, Counts] = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    now = {str(row["model"]): counts_in(row) for row in table if "error" not in row}
    lines, slower = changes(before, now)
    print("\n".join(lines) or "no count has changed")
    if update:
        _store({**before, **now})
    failed = any("error" in row for row in table)
    raise typer.Exit(code=failed or (slower and not update))


if __name__ == "__main__":
    typer.run(main)
