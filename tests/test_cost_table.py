"""Cost tables: what a file must be to be one, and which one a report uses."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cli_runner import hec
from hec.compiler import cost_table, record
from hec.compiler.checked_json import Json
from hec.compiler.cost_table import REFERENCE, CostTable, Line
from hec.compiler.errors import CompileError
from hec.compiler.host_costs import chosen_table, host_file
from sample_plans import DEEP, deep_program, plan_of

HELP = "make it again on this machine: hec calibrate-host"


def damage(path: Path, change: dict[str, Json]) -> None:
    """Write the reference's file with some members replaced."""
    table = record.encode(REFERENCE, [])
    whole: dict[str, Json] = {"format": "hec costs", "version": 2, "table": table}
    path.write_text(json.dumps(whole | change), encoding="utf-8")


def complaint(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        cost_table.load(path)
    return str(caught.value).replace(str(path), "FILE")


def test_a_table_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    cost_table.save(REFERENCE, tmp_path / "costs.json")
    assert cost_table.load(tmp_path / "costs.json") == REFERENCE


def test_the_reference_has_every_ring_of_both_libraries() -> None:
    assert [x.ring_degree for x in REFERENCE.seal] == [4096, 8192, 16384, 32768]
    assert [x.ring_degree for x in REFERENCE.openfhe] == [2**n for n in range(11, 17)]
    assert REFERENCE.told("tenseal").startswith("one thread, reference machine (")
    assert REFERENCE.told("openfhe").startswith("two threads, reference machine (")


def test_a_line_is_fixed_linear_and_square() -> None:
    assert Line(1.0, 0.5, 0.25)(4) == 1 + 2 + 4
    assert Line(1.0, 0.5, 0.25).scaled(2.0) == Line(1.0, 1.0, 0.5)


def test_a_ring_that_was_not_measured_costs_as_its_nearest_by_n_log_n() -> None:
    steps, near = REFERENCE.seal_steps(65536), REFERENCE.seal_steps(32768)
    factor = 2 * 16 / 15
    assert steps.ring_degree == 65536
    assert steps.key_switch.per_square == pytest.approx(factor * near.key_switch.per_square)
    assert steps.key_switch.fixed == near.key_switch.fixed
    wide, known = REFERENCE.openfhe_steps(2**17), REFERENCE.openfhe_steps(2**16)
    assert wide.raise_digit == pytest.approx(2 * 17 / 16 * known.raise_digit)
    assert wide.bootstrap == known.bootstrap


def test_every_step_of_another_ring_takes_as_much_more() -> None:
    for steps in (*REFERENCE.seal, *REFERENCE.openfhe):
        twice = steps.in_ring(2 * steps.ring_degree)
        bits = steps.ring_degree.bit_length() - 1
        factor = 2 * (bits + 1) / bits
        for field in fields(steps):
            mine, theirs = getattr(steps, field.name), getattr(twice, field.name)
            if isinstance(mine, Line):
                assert theirs == mine.scaled(factor), field.name
            elif field.name == "ring_degree":
                assert theirs == 2 * mine
            else:  # a ratio stays, and what every call costs
                stays = field.name in ("bootstrap", "rotation")
                expected = mine if stays else factor * mine
                assert theirs == pytest.approx(expected), field.name


def test_what_is_fitted_together_may_leave_a_share_out(tmp_path: Path) -> None:
    first, *rest = REFERENCE.openfhe
    path, share = tmp_path / "costs.json", replace(first, inner_product=0.0, rotation=0.0)
    table = replace(REFERENCE, openfhe=(share, *rest))
    cost_table.save(table, path)
    assert cost_table.load(path) == table
    free = replace(first, raise_digit=0.0)
    cost_table.save(replace(REFERENCE, openfhe=(free, *rest)), path)
    assert "raise_digit must be seconds" in complaint(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "other"}, "This is not a cost table\n  --> FILE"),
        (
            {"version": 3},
            "The cost table has version 3; this hec reads version 2\n  --> FILE",
        ),
        (
            {"version": "x" * 1000},
            "The cost table has version unknown; this hec reads version 2\n  --> FILE",
        ),
        (
            {"table": 3},
            "The file is damaged: expected an object, found 3\n  --> FILE: table",
        ),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, change: dict[str, Json], expected: str) -> None:
    path = tmp_path / "costs.json"
    damage(path, change)
    assert complaint(path) == f"{expected}\n  help: {HELP}"


def slow(table: CostTable, seconds: float) -> CostTable:
    first, *rest = table.seal
    return replace(table, seal=(replace(first, add=Line(0.0, seconds)), *rest))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            slow(REFERENCE, -1.0),
            "add must be seconds from 0 to 60, not all 0\n  --> FILE: table.seal, ring degree 4096",
        ),
        (
            slow(REFERENCE, 0.0),
            "add must be seconds from 0 to 60, not all 0\n  --> FILE: table.seal, ring degree 4096",
        ),
        (
            slow(REFERENCE, 61.0),
            "add must be seconds from 0 to 60, not all 0\n  --> FILE: table.seal, ring degree 4096",
        ),
        (
            replace(REFERENCE, openfhe=REFERENCE.openfhe[::-1]),
            "ring degrees must be rising powers of two, 131072 at most\n  --> FILE: table.openfhe",
        ),
        (
            replace(REFERENCE, seal=(replace(REFERENCE.seal[0], ring_degree=4095),)),
            "ring degrees must be rising powers of two, 131072 at most\n  --> FILE: table.seal",
        ),
        (
            replace(REFERENCE, seal=(replace(REFERENCE.seal[0], ring_degree=2**18),)),
            "ring degrees must be rising powers of two, 131072 at most\n  --> FILE: table.seal",
        ),
        (
            replace(REFERENCE, seal=()),
            "no step of SEAL was measured\n  --> FILE: table.seal",
        ),
        (
            replace(REFERENCE, name="x" * 201),
            "a text is too long\n  --> FILE: table.machine",
        ),
    ],
    ids=["negative", "nothing", "slow", "order", "no power", "large", "empty", "name"],
)
def test_numbers_that_no_machine_has_are_refused(
    tmp_path: Path, table: CostTable, expected: str
) -> None:
    path = tmp_path / "costs.json"
    damage(path, {"table": record.encode(table, [])})
    assert complaint(path) == f"The file is damaged: {expected}\n  help: {HELP}"


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(b" " * (2**18 + 1))
    assert "The cost table is too large" in complaint(path)
    assert "invalid JSON" in _told(path, b"{")
    assert "Cannot read the cost table" in complaint(tmp_path / "missing")


def _told(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return complaint(path)


# which table


def other(path: Path, openfhe: bool = True) -> CostTable:
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = REFERENCE.openfhe if openfhe else ()
    table = replace(REFERENCE, name="this machine", openfhe=steps)
    cost_table.save(table, path)
    return table


def test_a_report_uses_this_machines_table_where_there_is_one() -> None:
    assert chosen_table(None, "tenseal") is REFERENCE
    table = other(host_file())
    assert chosen_table(None, "tenseal") == chosen_table("host", "openfhe") == table
    assert chosen_table("reference", "tenseal") is REFERENCE


def test_a_table_may_come_from_any_file(tmp_path: Path) -> None:
    table = other(tmp_path / "server.json")
    assert chosen_table(str(tmp_path / "server.json"), "openfhe") == table


def test_without_steps_of_openfhe_the_reference_serves_unless_another_was_asked_for() -> None:
    other(host_file(), openfhe=False)
    assert chosen_table(None, "openfhe") is REFERENCE
    with pytest.raises(CompileError) as caught:
        chosen_table("host", "openfhe")
    told = f"The cost table has no steps of OpenFHE\n  --> {host_file()}\n  help: {HELP}"
    assert str(caught.value) == told


def test_a_machine_that_was_not_measured_is_said_to_be_so() -> None:
    with pytest.raises(CompileError) as caught:
        chosen_table("host", "tenseal")
    assert str(caught.value) == (
        f"This machine was not measured yet\n  --> {host_file()}"
        "\n  help: measure this machine: hec calibrate-host"
    )


def test_the_folder_for_settings_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CONFIG_HOME", "not/absolute")
    assert host_file() == Path("/home/somebody/.config/hec/costs.json")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/xdg")
    assert host_file() == Path("/etc/xdg/hec/costs.json")


def test_the_report_says_whose_seconds_they_are(tmp_path: Path) -> None:
    plan = tmp_path / "model.hec"
    plan_of(deep_program(DEEP)).save(plan)
    assert "one thread, reference machine (" in hec("report", plan).stdout
    other(host_file())
    assert "one thread, this machine (" in hec("report", plan).stdout
    assert "reference machine (" in hec("report", plan, "--costs", "reference").stdout
    found = json.loads(hec("report", plan, "--json").stdout)["server"]["costs"]
    assert found.startswith("one thread, this machine (")
    missing = hec("report", plan, "--costs", tmp_path / "missing.json")
    assert missing.exit_code == 2 and "Cannot read the cost table" in missing.stderr
