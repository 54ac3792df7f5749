"""Advice says what compiling the changed network says, and what its outputs are on the samples."""

# ruff: noqa: RUF001 (the texts have signs of their own)

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from cli_runner import MLP, hec
from hec.compiler import advice as module
from hec.compiler import alternatives, pipeline
from hec.compiler.advice import advice
from hec.compiler.alternative import Alternative
from hec.compiler.errors import CompileError, HecWarning, fail
from hec.compiler.evaluate import evaluate
from hec.compiler.memory import server_memory
from hec.compiler.onnx_import import import_onnx
from hec.compiler.pipeline import choose
from hec.compiler.plan import Plan
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.program_depth import depth, depths
from hec.compiler.report import report
from hec.compiler.target import Target
from hec.runtime.simulate import run_simulated
from pooled_networks import pooled, samples
from sample_plans import deep_program, linear_program, plan_of
from test_advice_rules import FOUND, TARGET


@pytest.fixture(scope="module", autouse=True)
def few_rules() -> Iterator[None]:
    """Averages for MaxPool, quadratics, and less precision: enough, and soon compiled."""
    with pytest.MonkeyPatch.context() as patch:
        rules = (alternatives.average_pools, alternatives.quadratics, alternatives.precisions)
        patch.setattr(alternatives, "RULES", rules)
        yield


@pytest.fixture(scope="module")
def found() -> dict[str, Alternative]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is told of networks that nobody asked for
        return {x.change: x for x in advice(pooled(), samples(), TARGET)}


def test_the_alternative_is_what_compiling_it_says(found: dict[str, Alternative]) -> None:
    before = choose(pooled(), samples(), TARGET).chosen
    told = found["replace MaxPool by AveragePool"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after = choose(pooled(), samples(), replace(TARGET, maxpool="average")).chosen
    programs = [x.choice.lowered.program for x in (before, after)]
    assert told.levels == depth(programs[1]) - depth(programs[0]) < -5
    assert told.seconds == pytest.approx(after.seconds, rel=1e-6)
    assert told.seconds_ratio == pytest.approx(before.seconds / after.seconds, rel=1e-6)
    assert told.memory == server_memory(programs[1]).peak
    assert told.memory_ratio == server_memory(programs[0]).peak / told.memory
    assert (told.bootstraps, told.backend, told.kind) == (0, "tenseal", "model")


def test_agreement_is_that_of_the_simulated_plan(found: dict[str, Alternative]) -> None:
    told, x = found["replace MaxPool by AveragePool"], samples()
    exact = import_onnx(pooled(), TARGET).graph
    values = evaluate(exact, {"x": x.reshape(len(x), -1).astype(np.float64)})
    wanted = values[exact.outputs[0].operand].argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = choose(pooled(), x, replace(TARGET, maxpool="average")).plan()
    outputs = run_simulated(plan, {"x": x.reshape(len(x), -1).astype(np.float64)}).outputs
    measured = float(np.mean(outputs["y"].reshape(len(x), -1).argmax(axis=1) == wanted))
    assert told.samples == len(x)
    assert told.agreement_after == pytest.approx(measured, abs=1.5 / len(x))
    assert told.agreement_before is not None and told.agreement_before >= 0.97
    assert told.error_after is not None and told.error_before is not None
    assert told.error_after > told.error_before


def test_only_gains_are_told_and_the_largest_first(found: dict[str, Alternative]) -> None:
    ratios = [x.seconds_ratio for x in found.values()]
    assert ratios == sorted(ratios, reverse=True)
    assert len(found) >= 2
    for x in found.values():
        assert x.seconds_ratio > 1.05 or x.memory_ratio > 1.1


def test_without_samples_agreement_is_not_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = advice(pooled(), None, replace(TARGET, degree=2))
    assert told
    for each in told:
        assert (each.samples, each.agreement_before, each.agreement_after) == (0, None, None)
        assert str(each).endswith("agreement not known without calibration data")


def test_progress_is_told_and_the_budget_is_kept() -> None:
    told: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", HecWarning)
        with pytest.warns(HecWarning) as warned:
            assert advice(pooled(), samples(), TARGET, progress, budget=-1.0) == ()
        assert [str(x.message) for x in warned] == [
            "time was up after -1 s: 3 of 3 changes were not tried\n"
            "  --> pooled\n"
            "  help: compile on an idle machine, or with fewer calibration samples"
        ]
        assert told == [("the network itself", 0, 0)]
        advice(pooled("AveragePool"), samples(), Target(backend="tenseal", degree=2), progress)
    assert told[-1][0].startswith("allow outputs an error of ")
    assert told[-1][1:] == (0, 1)


def test_a_network_that_cannot_run_here_is_compared_with_its_program_on_openfhe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    really = choose

    def refusing(*arguments: object) -> object:
        target = arguments[2]
        assert isinstance(target, Target)
        asked.append(target.backend)
        if target.backend == "tenseal":
            raise CompileError
        return really(pooled(), samples(), target)

    monkeypatch.setattr(module, "choose", refusing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = module._made(pooled(), samples(), TARGET)
    assert asked == ["tenseal", "openfhe"]
    assert (made.target.backend, made.chosen.backend) == ("tenseal", "openfhe")
    assert made.libraries.openfhe_error() is None


def test_errors_of_the_network_are_told_as_they_are() -> None:
    model = pooled()
    model.graph.node[0].op_type = "Unknown"
    with pytest.raises(CompileError) as mine:
        advice(model, samples(), TARGET)
    with pytest.raises(CompileError) as theirs:
        choose(model, samples(), TARGET)
    assert str(mine.value) == str(theirs.value)


TEXTS = [
    (
        FOUND,
        "replace MaxPool by AveragePool: −14 levels, 3.1× faster, 2.0× less memory, agreement "
        "99.4 → 99.1 %, measured on your 256 calibration samples",
    ),
    (
        replace(FOUND, levels=1, bootstraps=-2, seconds_ratio=0.5, memory_ratio=1.0),
        "replace MaxPool by AveragePool: +1 level, −2 bootstraps, 2.0× slower, agreement 99.4 → "
        "99.1 %, measured on your 256 calibration samples",
    ),
    (
        replace(FOUND, levels=0, seconds_ratio=1234.5, memory_ratio=0.5, agreement_after=0.1),
        "replace MaxPool by AveragePool: 1,234× faster, 2.0× more memory, agreement 99.4 → 10.0 % "
        "as it is, so train it that way first, measured on your 256 calibration samples",
    ),
    (
        replace(FOUND, levels=0, seconds_ratio=1.0, memory_ratio=1.0, agreement_before=None),
        "replace MaxPool by AveragePool: costs the same, error of the outputs 5.0 → 6.0 % of their "
        "root mean square as it is, so train it that way first, measured on your 256 calibration "
        "samples",
    ),
    (
        replace(FOUND, kind="option", agreement_after=0.1, change="an option"),
        "an option: −14 levels, 3.1× faster, 2.0× less memory, agreement 99.4 → 10.0 %, measured "
        "on your 256 calibration samples",
    ),
    (
        replace(FOUND, samples=0, agreement_before=None, agreement_after=None),
        "replace MaxPool by AveragePool: −14 levels, 3.1× faster, 2.0× less memory, agreement not "
        "known without calibration data",
    ),
]


@pytest.mark.parametrize(("told", "text"), TEXTS)
def test_the_text(told: Alternative, text: str) -> None:
    assert str(told) == text


def test_depth_counts_rescalings_and_polynomials() -> None:
    assert depth(linear_program()) == 1
    assert depths(deep_program()) == [0, 0, 0, 1, 0, 1, 1, 2, 2, 3, 2, 3]


def test_a_plan_keeps_its_advice(tmp_path: Path) -> None:
    plan = plan_of(linear_program())
    kept = Plan.of(plan.client, replace(plan.server, advice=(FOUND,)))
    kept.save(tmp_path / "a.hec")
    loaded = Plan.load(tmp_path / "a.hec")
    assert loaded.server.advice == (FOUND,) == report(loaded).advice
    assert report(plan).advice is None
    assert report(kept.client).advice is None
    with pytest.raises(CompileError, match="an alternative costs nothing"):
        Plan.of(plan.client, replace(plan.server, advice=(replace(FOUND, seconds=0.0),)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pooled.onnx, x.npy, and advised.hec, which was compiled with advice."""
    folder = tmp_path_factory.mktemp("advice")
    onnx.save_model(pooled(), folder / "pooled.onnx")
    np.save(folder / "x.npy", samples())
    run = hec(
        "compile", folder / "pooled.onnx", "-o", folder / "advised.hec", "--calibration",
        folder / "x.npy", "--backend", "tenseal", "--maxpool", "approximate", "--advice", "--json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    (folder / "told.json").write_text(run.stdout)
    return folder


def test_compile_tells_the_advice(files: Path, found: dict[str, Alternative]) -> None:
    told = json.loads((files / "told.json").read_text())["advice"]
    assert [x["change"] for x in told] == list(found)
    assert [x["text"] for x in told] == [str(x) for x in found.values()]
    assert told[0]["levels"] == next(iter(found.values())).levels


def test_report_shows_the_advice_that_the_plan_keeps(files: Path) -> None:
    run = hec("report", files / "advised.hec")
    assert run.exit_code == 0, run.stderr
    shown = " ".join(run.stdout.split())
    for each in Plan.load(files / "advised.hec").server.advice or ():
        assert str(each) in shown
    assert "Advice" in shown


def test_report_computes_the_advice_on_the_options_of_the_plan(
    files: Path, found: dict[str, Alternative]
) -> None:
    arguments = ("--advice", files / "pooled.onnx", "--calibration", files / "x.npy")
    run = hec("report", files / "advised.hec", *arguments, "--json")
    assert run.exit_code == 0, run.stderr
    told = json.loads(run.stdout)["advice"]
    assert [x["change"] for x in told] == list(found)
    assert told[0]["seconds"] == pytest.approx(next(iter(found.values())).seconds, rel=1e-6)


def refusal(*arguments: object) -> str:
    run = hec("report", *arguments)
    assert (run.exit_code, run.stdout) == (2, "")
    return run.stderr


def test_advice_on_another_network_is_refused(files: Path) -> None:
    output = import_onnx(MLP, Target()).graph.outputs[0].name
    assert refusal(files / "advised.hec", "--advice", MLP) == (
        "the network is not the one that was compiled, pooled.onnx\n"
        f"  --> {MLP}: outputs '{output}'\n"
        "  help: the plan has outputs 'y'\n"
    )


def test_samples_without_a_network_are_refused(files: Path) -> None:
    assert refusal(files / "advised.hec", "--calibration", "x.npy") == (
        "samples are for the advice, and no network to advise on is given\n"
        "  --> --calibration x.npy\n"
        "  help: give the network, too: --advice model.onnx\n"
    )


def test_what_cannot_be_compiled_gets_its_advice_with_the_error(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> object:
        raise CompileError(*TOO_DEEP.problems)

    monkeypatch.setattr(pipeline, "choose", refused)
    monkeypatch.setattr(module, "advice", lambda *arguments: (FOUND,))
    run = hec("compile", files / "pooled.onnx", "-o", files / "deep.hec", "--advice")
    assert (run.exit_code, run.stdout) == (2, "")
    assert run.stderr == f"advice: {FOUND}\n{TOO_DEEP}\n"
    assert not (files / "deep.hec").exists()


TOO_DEEP = fail("the model needs 40 levels", "levels by layer", "use fewer activations")


def test_the_forecast_of_the_plan_is_the_one_compared(files: Path) -> None:
    plan = Plan.load(files / "advised.hec")
    server = plan.server
    total = forecast_of(server).total_seconds
    for each in server.advice or ():
        assert each.seconds * each.seconds_ratio == pytest.approx(total, rel=1e-6)
