"""Two plans side by side: what differs, by how much, and which layers belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap_plans import parameters, refreshing_program
from cli_runner import hec
from hec.compiler.compare import Comparison, Row, Side
from hec.compiler.compare import compare as compare_with
from hec.compiler.cost_table import REFERENCE
from hec.compiler.packing import Packing
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import CalibrationResult, PlanTensor
from hec.compiler.report import report, server_of
from sample_plans import deep_program, linear_program, plan_of

PACKING = Packing(1, 1, 1, None)


def labelled(plan: Plan, labels: tuple[str, ...], nodes: tuple[tuple[str, ...], ...] = ()) -> Plan:
    """Return the plan with a label, and with nodes, of every instruction."""
    tensors = tuple(PlanTensor(each, (1,), PACKING) for each in nodes)
    sources = tuple(range(len(nodes)))
    server = replace(plan.server, labels=labels, tensors=tensors, sources=sources)
    return Plan.of(plan.client, server)


@pytest.fixture
def linear() -> Plan:
    return labelled(plan_of(linear_program()), ("", "fc1", "fc1", "fc1", ""))


@pytest.fixture
def deep() -> Plan:
    labels = ("", "", *["conv"] * 4, *["square"] * 3, "tanh", "", "")
    return labelled(plan_of(deep_program()), labels)


@pytest.fixture
def refreshing() -> Plan:
    plan = plan_of(refreshing_program(parameters(15)), backend="openfhe")
    return labelled(plan, ("", *["relu1"] * 2, *["fc"] * 2, *["relu2"] * 2, ""))


def compare(left: Plan, right: Plan) -> Comparison:
    return compare_with((left, REFERENCE), (right, REFERENCE))


def pairs(found: Comparison) -> list[tuple[int | None, int | None]]:
    return [
        (x.left.number if x.left else None, x.right.number if x.right else None)
        for x in found.layers
    ]


def test_a_plan_does_not_differ_from_itself(deep: Plan) -> None:
    found = compare(deep, deep)
    known = [row for row in found.rows if row.difference is not None]
    assert len(known) >= 15
    assert all(row.difference == 0 and row.ratio in (1, None) for row in known)
    assert pairs(found) == [(1, 1), (2, 2), (3, 3)]
    assert all(row.left == row.right for row in found.layers)


def test_the_numbers_are_those_of_the_reports(linear: Plan, refreshing: Plan) -> None:
    found = {row.name: row for row in compare(linear, refreshing).rows}
    mine, theirs = report(linear), report(refreshing)
    assert mine.server is not None and theirs.server is not None
    seconds = found["seconds"]
    assert (seconds.left, seconds.right) == (mine.server.seconds, theirs.server.seconds)
    assert seconds.difference == theirs.server.seconds - mine.server.seconds
    assert seconds.ratio == theirs.server.seconds / mine.server.seconds
    assert (found["bootstraps"].left, found["bootstraps"].right) == (0, 2)
    assert found["bootstraps"].ratio is None
    assert found["memory of the server"].right == theirs.server.memory.peak
    precision = found["precision of the outputs"]
    assert (precision.left, precision.ratio) == (mine.precision_bits, None)
    assert found["ring degree"].left == mine.parameters.ring_degree
    assert found["evaluation keys"].left == mine.keys
    assert (found["depth"].left, found["depth"].right) == (1, 3)


def test_every_number_stands_beside_the_same_of_the_other(deep: Plan, refreshing: Plan) -> None:
    told, rows = report(refreshing), compare(deep, refreshing).rows
    server = told.server
    assert server is not None and server.bootstraps is not None
    seconds, sizes = server.seconds_by_kind, (told.inputs[0], told.outputs[0])
    assert [(row.name, row.unit, row.right) for row in rows] == [
        ("ring degree", "", told.parameters.ring_degree),
        ("modulus", "bits", told.parameters.modulus_bits),
        ("security", "bits", told.parameters.security_bits),
        ("levels of a fresh ciphertext", "", len(told.parameters.prime_bits) - 1),
        ("depth", "", 3),
        ("bootstraps", "", server.bootstraps.count),
        ("seconds", "seconds", server.seconds),
        ("  of matrices", "seconds", seconds.matrices),
        ("  of bootstraps", "seconds", seconds.bootstraps),
        ("  of other steps", "seconds", seconds.other),
        ("rotations", "", sum(layer.rotations for layer in server.layers)),
        ("memory of the server", "bytes", server.memory.peak),
        ("  without weights", "bytes", server.memory.least),
        ("evaluation keys", "", told.keys),
        ("  size", "bytes", told.key_bytes),
        ("ciphertexts sent", "", sizes[0].ciphertexts),
        ("  size", "bytes", sizes[0].bytes),
        ("ciphertexts received", "", sizes[1].ciphertexts),
        ("  size", "bytes", sizes[1].bytes),
        ("precision of the outputs", "precision", told.precision_bits),
        ("agreement with the network", "share", None),
        ("error of fits", "share", None),
    ]


def test_what_both_plans_are_is_told(deep: Plan, refreshing: Plan) -> None:
    told = Plan.of(replace(deep.client, model="a.onnx"), replace(deep.server, reason="it is fast"))
    found = compare(told, refreshing)
    servers = [server_of(report(plan)) for plan in (told, refreshing)]
    assert found.models == ("a.onnx", "sample.onnx")
    assert found.plan_ids == (told.plan_id, refreshing.plan_id)
    assert found.ways == ("it is fast", refreshing.server.reason)
    assert found.backends == (
        f"backend tenseal, one thread, seconds of {servers[0].costs}",
        f"backend openfhe, two threads, seconds of {servers[1].costs}",
    )
    again, (conv, *_) = compare(told, told), servers[0].layers
    assert again.layers[0].left == Side(
        1, "conv", "matrix", 4, 3, conv.seconds, conv.rotations, conv.plaintext_bytes
    )
    assert again.layers[0].seconds == Row("seconds", "seconds", conv.seconds, conv.seconds, 0, 1)
    assert found.layers[0].seconds == Row("seconds", "seconds", conv.seconds, None, None, None)


def test_what_a_plan_does_not_tell_is_not_compared(linear: Plan) -> None:
    measured = replace(linear.server, calibrated=CalibrationResult(10, 0.9, 0.01))
    found = {row.name: row for row in compare(linear, Plan.of(linear.client, measured)).rows}
    row = found["agreement with the network"]
    assert (row.left, row.right, row.difference, row.ratio) == (None, 0.9, None, None)
    assert found["error of fits"].right == 0.01


def test_layers_of_other_places_are_aligned_by_their_names(deep: Plan) -> None:
    labels = ("", "", *["conv"] * 4, *["other"] * 3, "tanh", "", "")
    other = labelled(plan_of(deep_program()), labels)
    assert pairs(compare(deep, other)) == [(1, 1), (2, None), (None, 2), (3, 3)]


def test_layers_are_aligned_by_the_nodes_that_they_share(deep: Plan) -> None:
    def nodes(matrix: tuple[str, ...], square: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        return ((), (), *[matrix] * 4, *[square] * 3, ("tanh",), (), ())

    labels = deep.server.labels
    one = labelled(deep, labels, nodes(("conv", "square"), ("square",)))
    other = labelled(deep, labels, nodes(("conv",), ("square", "norm")))
    assert pairs(compare(one, other)) == [(1, 1), (2, 2), (3, 3)]
    swapped = labelled(deep, labels, nodes(("square",), ("conv",)))
    assert pairs(compare(other, swapped))[:2] == [(1, None), (2, None)]  # a matrix is no square


def test_plans_of_other_networks_have_no_layer_together(linear: Plan, deep: Plan) -> None:
    assert pairs(compare(linear, deep)) == [(1, None), (None, 1), (None, 2), (None, 3)]


def test_the_command_shows_both_in_a_hundred_columns(
    deep: Plan, refreshing: Plan, tmp_path: Path
) -> None:
    deep.save(tmp_path / "a.hec")
    refreshing.save(tmp_path / "b.hec")
    run = hec("report", tmp_path / "a.hec", tmp_path / "b.hec")
    assert (run.exit_code, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= 100
    lines = [" ".join(line.split()) for line in run.stdout.splitlines()]
    assert "ring degree 8,192 32,768 +24,576 4.00" in lines
    assert "bootstraps 0 2 +2" in lines
    assert any(line.startswith("tanh 3 degree 3 3 > 1 ") for line in lines)
    assert any(line.startswith("relu2 - 3 bootstrap of degree 15 ") for line in lines)
    same = hec("report", tmp_path / "a.hec", tmp_path / "a.hec").stdout
    assert "ring degree 8,192 8,192 same" in [" ".join(x.split()) for x in same.splitlines()]


def test_json_has_all_numbers(deep: Plan, linear: Plan, tmp_path: Path) -> None:
    deep.save(tmp_path / "a.hec")
    linear.save(tmp_path / "b.hec")
    told = json.loads(hec("report", tmp_path / "a.hec", tmp_path / "b.hec", "--json").stdout)
    assert told["plan_ids"] == [deep.plan_id, linear.plan_id]
    assert {row["name"] for row in told["rows"]} >= {"depth", "seconds", "evaluation keys"}
    assert len(told["layers"]) == 4


def refusal(*arguments: object) -> str:
    run = hec("report", *arguments)
    assert (run.exit_code, run.stdout) == (2, "")
    return run.stderr


def test_three_plans_are_too_many(deep: Plan, tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    deep.save(path)
    assert refusal(path, path, path) == (
        "3 plans do not fit side by side\n"
        f"  --> {path} {path} {path}\n"
        "  help: give one plan, or two to compare them\n"
    )


def test_the_clients_part_cannot_be_compared(deep: Plan, tmp_path: Path) -> None:
    whole, part = tmp_path / "a.hec", tmp_path / "client.hec"
    deep.save(whole)
    deep.save_client(part)
    for order in ((whole, part), (part, whole), (part, part)):
        assert refusal(*order) == (
            "only whole plans can be compared, and this file holds the client's part of one\n"
            f"  --> {part}\n"
            "  help: give the plan that hec compile wrote with -o; hec report alone shows the "
            "client's part\n"
        )


def test_advice_is_on_one_plan(deep: Plan, tmp_path: Path) -> None:
    path = tmp_path / "a.hec"
    deep.save(path)
    assert refusal(path, path, "--advice", "model.onnx") == (
        "some options are about one plan, and there are two\n"
        "  --> --advice model.onnx\n"
        "  help: leave out --advice, or give one plan\n"
    )
