"""The report counts what the Program holds, and shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap_plans import parameters, refreshing_program
from cli_runner import hec
from hec.compiler.cost import bootstrap_seconds
from hec.compiler.errors import InvalidProgram
from hec.compiler.instance_report import SECURITY_SOURCE, key_bytes
from hec.compiler.memory import count_keys
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanFit
from hec.compiler.report import report, server_of
from hec.compiler.schedule import Split, rotations
from hec.compiler.tensor_ir import Fit
from sample_plans import DEEP, SMALL, deep_program, linear_program, plan_of

FIT = Fit(
    "relu",
    7,
    (-3.0, 3.0),
    (-2.5, 2.0),
    0.01,
    bounded=(-4.8, 4.8),
    sensitivity=0.5,
    at_outputs=0.004,
)


def labelled(plan: Plan, labels: tuple[str, ...]) -> Plan:
    server = replace(plan.server, labels=labels, fits=(PlanFit("relu1", FIT),))
    return Plan.of(plan.client, server)


@pytest.fixture
def linear() -> Plan:
    return labelled(plan_of(linear_program()), ("", "fc1", "fc1", "fc1", ""))


@pytest.fixture
def deep() -> Plan:
    conv, square, tanh = ["conv"] * 4, ["square"] * 3, ["tanh"]
    return labelled(plan_of(deep_program()), ("", "", *conv, *square, *tanh, "", ""))


def test_a_layer_is_the_instructions_of_its_nodes(deep: Plan) -> None:
    server = report(deep).server
    assert server is not None
    assert [(x.nodes, x.operation) for x in server.layers] == [
        ("conv", "matrix"),
        ("square", "square"),
        ("tanh", "polynomial of degree 3"),
    ]
    assert [(x.level_in, x.level_out) for x in server.layers] == [(4, 3), (3, 2), (3, 1)]


def test_seconds_and_memory_add_up(deep: Plan) -> None:
    server = report(deep).server
    assert server is not None
    messages = server.seconds_by_kind.messages
    assert server.seconds == pytest.approx(messages + sum(x.seconds for x in server.layers))
    assert server.plaintext_bytes == sum(layer.plaintext_bytes for layer in server.layers)
    assert all(layer.seconds > 0 for layer in server.layers)


def test_a_matrix_counts_rotations_diagonals_and_plaintexts(linear: Plan) -> None:
    matrix = linear.server.program.instructions[1].matrix  # type: ignore[union-attr]
    server = report(linear).server
    assert server is not None
    (layer,) = server.layers
    assert layer.diagonals == 12
    assert layer.rotations == rotations(matrix.index, Split(4, -4), SMALL.slots)
    limbs = 12 * 2 + 1  # twelve diagonals at level 1, one bias at level 0
    assert layer.plaintext_bytes == limbs * SMALL.ring_degree * 8


def test_the_parameters_name_the_rule_that_they_keep(deep: Plan) -> None:
    told = report(deep).parameters
    assert (told.ring_degree, told.security_bits, told.modulus_limit_bits) == (8192, 128, 218)
    assert told.modulus_bits <= told.modulus_limit_bits
    assert [round(bits) for bits in told.prime_bits] == [38, 28, 28, 28, 28]
    assert told.security_source == SECURITY_SOURCE
    assert report(deep).depth == 3


def test_keys_are_those_of_the_manifest(deep: Plan) -> None:
    keys = deep.client.keys
    assert report(deep).keys == len(keys.rotations) + 1
    none = replace(deep.client, keys=replace(keys, rotations=(), relinearization=False))
    assert key_bytes(none) == 0


def test_a_fit_is_told_with_its_ranges(linear: Plan) -> None:
    server = report(linear).server
    assert server is not None
    (fit,) = server.activations
    assert (fit.nodes, fit.function, fit.degree) == ("relu1", "relu", 7)
    assert (fit.interval, fit.observed, fit.rms_error) == ((-3.0, 3.0), (-2.5, 2.0), 0.01)
    assert (fit.bounded, fit.sensitivity, fit.error_at_outputs) == ((-4.8, 4.8), 0.5, 0.004)


def test_the_clients_part_alone_tells_all_but_the_layers(deep: Plan, tmp_path: Path) -> None:
    deep.save(tmp_path / "plan.hec")
    deep.save_client(tmp_path / "client.hec")
    whole = json.loads(hec("report", tmp_path / "plan.hec", "--json").stdout)
    client = json.loads(hec("report", tmp_path / "client.hec", "--json").stdout)
    assert client.pop("server") is None
    assert whole.pop("server") is not None
    assert client == whole
    last = hec("report", tmp_path / "client.hec").stdout.splitlines()[-1]
    assert last == "layers       not known: this file holds only the client's part"


def test_the_command_shows_every_layer_and_fit(deep: Plan, tmp_path: Path) -> None:
    deep.save(tmp_path / "plan.hec")
    run = hec("report", tmp_path / "plan.hec")
    lines = [" ".join(line.split()) for line in run.stdout.splitlines()]
    assert (run.exit_code, run.stderr) == (0, "")
    assert f"ring degree {DEEP.ring_degree}, 4096 slots" in lines
    assert "depth 3 levels" in lines
    assert any(line.startswith("conv 1 matrix 4 > 3 ") for line in lines)
    assert "relu1 relu 7 0.01 0.5 0.40 %" in lines
    assert "relu1 [-3, 3] [-2.5, 2] [-4.8, 4.8] 1.20" in lines
    tables = run.stdout.partition("Fitted activations")[2].splitlines()
    assert len(tables) > 8
    assert max(map(len, tables)) <= 100


def test_names_are_shown_as_they_are(linear: Plan, tmp_path: Path) -> None:
    """Neither as rich's markup nor as commands to the terminal."""
    server = replace(linear.server, labels=("", "[red]a[/]\x1b[2J", *["b"] * 2, ""))
    Plan.of(linear.client, server).save(tmp_path / "plan.hec")
    shown = hec("report", tmp_path / "plan.hec").stdout
    assert "[red]a[/]\N{REPLACEMENT CHARACTER}[2J" in shown
    assert "\x1b" not in shown


@pytest.fixture
def refreshing() -> Plan:
    fit = replace(FIT, degree=15, tail=2e-7)
    plan = plan_of(refreshing_program(parameters(15)), backend="openfhe")
    labels = ("", *["relu1"] * 2, *["fc"] * 2, *["relu2"] * 2, "")
    return Plan.of(plan.client, replace(plan.server, labels=labels, fits=(PlanFit("relu1", fit),)))


def test_bootstraps_are_told_with_their_seconds_and_memory(refreshing: Plan) -> None:
    server, chosen = report(refreshing).server, refreshing.client.parameters
    assert server is not None
    assert server.bootstraps is not None
    told = server.bootstraps
    assert (told.count, told.levels, told.degrees) == (2, (3, 2), (15,))
    assert (told.slots, told.digits) == (16384, 8)
    assert told.seconds_each == (bootstrap_seconds(chosen, 15),)
    kinds = server.seconds_by_kind
    assert kinds.bootstraps == pytest.approx(2 * told.seconds_each[0])
    parts = kinds.bootstraps + kinds.matrices + kinds.messages + kinds.other
    assert parts == pytest.approx(server.seconds)
    assert kinds.matrices > 0
    held = server.memory
    assert held.least == held.keys + held.bootstrapping + held.working
    assert held.peak == held.least + held.diagonals
    assert report(refreshing).key_bytes == held.keys
    assert report(refreshing).keys == count_keys(chosen, refreshing.client.keys)
    (fit,) = server.activations
    assert (fit.tail_probability, fit.wrap_margin) == (2e-7, pytest.approx(1.2))


def test_the_command_shows_bootstraps(refreshing: Plan, tmp_path: Path) -> None:
    refreshing.save(tmp_path / "plan.hec")
    run = hec("report", tmp_path / "plan.hec")
    lines = [" ".join(line.split()) for line in run.stdout.splitlines()]
    assert (run.exit_code, run.stderr) == (0, "")
    assert any(line.startswith("bootstraps 2 of 16384 slots: ") for line in lines)
    assert "levels 3 of CoeffsToSlots, 2 of SlotsToCoeffs; 8 digits" in lines
    assert any(line.startswith("relu2 3 bootstrap 15 3 > 4") for line in lines)
    assert "relu1 relu 15 0.01 0.5 0.40 %" in lines
    assert "relu1 [-3, 3] [-2.5, 2] [-4.8, 4.8] 2e-07 1.20" in lines


def test_whose_threads_a_forecast_is_for(deep: Plan, refreshing: Plan) -> None:
    assert (report(deep).threads, report(refreshing).threads) == ("one thread", "two threads")


def test_the_clients_part_has_nothing_of_the_server(deep: Plan) -> None:
    assert server_of(report(deep)) == report(deep).server
    with pytest.raises(InvalidProgram, match="a whole plan has a server part"):
        server_of(report(deep.client))


def test_a_plan_without_bootstraps_tells_of_none(deep: Plan) -> None:
    server = report(deep).server
    assert server is not None
    assert server.bootstraps is None
    assert server.seconds_by_kind.bootstraps == server.memory.bootstrapping == 0
