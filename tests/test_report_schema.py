"""The report in JSON: its schema, what is validated against it, and the page that explains it."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

import jsonschema
import pytest

from bootstrap_plans import parameters, refreshing_program
from cli_runner import hec
from conftest import Golden
from hec.compiler.alternative import Alternative
from hec.compiler.plan import Plan
from hec.compiler.report import Report, report
from hec.compiler.report_schema import SCHEMA, VERSION, described, document, records, schema
from report_page import PAGE, page
from report_plans import residual_plan, with_results
from sample_plans import deep_program, linear_program, plan_of

PLANS = {
    "one matrix": lambda: plan_of(linear_program()),
    "every operation": lambda: plan_of(deep_program()),
    "with calibration": lambda: with_results(plan_of(deep_program()), ("tanh",) * 12),
    "without portraits": lambda: with_results(plan_of(deep_program()), ("x",) * 12, portrait=False),
    "bootstraps": lambda: plan_of(refreshing_program(parameters(15)), backend="openfhe"),
    "residual": lambda: residual_plan(2),
}
ADVICE = Alternative(
    "leave out conv2", "model", "tenseal", -2, 0, 1.5, 2.0, 10**9, 1.2, 256, 0.99, 0.98, 0.03, 0.02
)


def printed(found: Report) -> object:
    """Return what `hec report --json` prints, read again."""
    return json.loads(json.dumps(document(found), allow_nan=False))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", PLANS)
def test_a_report_keeps_the_schema(name: str) -> None:
    jsonschema.validate(printed(report(PLANS[name]())), schema())


def test_the_clients_part_and_advice_keep_the_schema() -> None:
    plan = plan_of(linear_program())
    jsonschema.validate(printed(report(plan.client)), schema())
    told = printed(report(plan))
    assert isinstance(told, dict)
    assert told["advice"] is None
    advised = {**told, "advice": [json.loads(json.dumps(vars(ADVICE)))]}
    jsonschema.validate(advised, schema())


@pytest.mark.parametrize("key", ["schema", "version", "server", "advice", "depth"])
def test_a_report_without_a_field_breaks_the_schema(key: str) -> None:
    told = printed(report(plan_of(linear_program())))
    assert isinstance(told, dict)
    del told[key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, schema())


def test_a_wrong_type_breaks_the_schema() -> None:
    told = printed(report(plan_of(linear_program())))
    assert isinstance(told, dict)
    told["server"]["layers"][0]["kind"] = "magic"
    with pytest.raises(jsonschema.ValidationError, match="'magic' is not one of"):
        jsonschema.validate(told, schema())


def test_the_document_names_its_schema_first(tmp_path: Path) -> None:
    plan_of(linear_program()).save(tmp_path / "plan.hec")
    told = json.loads(hec("report", tmp_path / "plan.hec", "--json").stdout)
    assert list(told)[:2] == ["schema", "version"]
    assert (told["schema"], told["version"]) == (SCHEMA, VERSION) == ("hec report", 1)


def test_the_command_prints_the_schema_without_a_plan() -> None:
    run = hec("report", "--schema")
    assert run.exit_code == 0
    assert json.loads(run.stdout) == schema()


def test_the_schema_changes_only_when_someone_reads_the_change(golden: Golden) -> None:
    """Within a version fields are only added."""
    golden.check("report-schema.json", json.dumps(schema(), indent=1) + "\n")


@pytest.mark.parametrize("name", PLANS)
def test_every_number_is_finite(name: str) -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for item in value.values() for number in numbers(item)]
        if isinstance(value, list):
            return [number for item in value for number in numbers(item)]
        return [value] if isinstance(value, float) else []

    found = numbers(printed(report(PLANS[name]())))
    assert len(found) > 10
    assert all(map(isfinite, found))


def test_every_field_says_what_it_is() -> None:
    for record in records():
        assert all(text and text == text.strip() for _, _, text in described(record)), record
    assert len(records()) >= 13


def test_the_page_of_fields_is_up_to_date() -> None:
    """`python tests/report_page.py` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_layers_tell_the_graph() -> None:
    server = report(residual_plan(1)).server
    assert server is not None
    names = [layer.nodes.rpartition("/")[2] for layer in server.layers]
    assert names == ["Relu", "Conv", "Relu", "Conv", "Pad", "Add", "Relu"]
    assert [layer.reads for layer in server.layers] == [(), (0,), (1,), (2,), (0,), (3, 4), (5,)]
    assert [layer.inputs for layer in server.layers] == [(0,), (), (), (), (), (), ()]
    assert [layer.outputs for layer in server.layers] == [(), (), (), (), (), (), (0,)]


def test_live_ciphertexts_hold_what_is_still_to_be_read() -> None:
    """While conv1 is rescaled: its operand, for the shortcut, and its result before and after."""
    plan: Plan = residual_plan(1)
    server = report(plan).server
    assert server is not None
    ring = plan.client.parameters.ring_degree
    operand, product, result = (2 * limbs * ring * 8 for limbs in (5, 5, 4))
    assert server.layers[1].live_bytes == operand + product + result


def test_shares_of_calibration_are_told() -> None:
    server = report(residual_plan(1)).server
    assert server is not None
    assert server.calibration is not None
    told = server.calibration
    assert (told.samples, told.agreement, told.error) == (256, 0.9921875, 0.031)
    assert {layer.approximation_error for layer in server.layers} == {1e-3}
    first = server.activations[0]
    assert first.histogram is not None
    assert first.curve is not None
    assert (len(first.histogram.counts), len(first.curve.x)) == (40, 81)


def test_key_switches_are_rotations_and_products() -> None:
    server = report(plan_of(deep_program())).server
    assert server is not None
    by_kind = {layer.kind: layer for layer in server.layers}
    assert by_kind["matrix"].key_switches == by_kind["matrix"].rotations > 0
    assert by_kind["square"].key_switches == 2  # one relinearization for each ciphertext
    assert by_kind["polynomial"].key_switches > by_kind["polynomial"].rotations == 0
    assert server.key_switches == sum(layer.key_switches for layer in server.layers)
    assert server.rotations == sum(layer.rotations for layer in server.layers)
