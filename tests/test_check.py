"""`hec check` in the simulator: what it finds, what it lets pass, what it says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cli_runner import compile_mlp, hec
from hec.compiler import cli_check
from hec.compiler.agreement import agreement, classes, error
from hec.compiler.check import BootstrapCheck, Check, CheckData, OutputCheck, check
from hec.compiler.clear_model import ClearModel
from hec.compiler.encrypted_check import EncryptedCheck
from hec.compiler.errors import CompileError
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanOutput
from hec.compiler.tensor_ir import EpilogueStep


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    mnist_calibration: NDArray[np.float32],
    mnist_test: NDArray[np.float32],
    mnist_pixels: dict[str, NDArray[np.uint8]],
) -> Path:
    path = tmp_path_factory.mktemp("check")
    compile_mlp(path, mnist_calibration)
    np.save(path / "x.npy", mnist_test)
    np.save(path / "labels.npy", mnist_pixels["test_labels"])
    return path


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return Plan.load(folder / "mlp.hec")


def test_a_sound_plan_agrees_with_its_network(
    plan: Plan, mnist_test: NDArray[np.float32], mnist_pixels: dict[str, NDArray[np.uint8]]
) -> None:
    data = CheckData(mnist_test, mnist_pixels["test_labels"])
    found = check(plan, ClearModel.of_plan(plan), data)
    (output,) = found.outputs
    assert found.passed
    assert (found.samples, found.overflows, found.outside) == (64, 0, 0.0)
    assert output.agreement == 1.0
    assert found.accuracy == found.model_accuracy == 1.0
    assert (
        0 < output.encryption_error.rms < output.encryption_error.max < 2.0**-found.precision_bits
    )
    assert output.model_error is not None
    assert output.model_error.max < 0.2


def test_samples_outside_the_calibrated_interval_are_counted(
    plan: Plan, mnist_test: NDArray[np.float32]
) -> None:
    samples = mnist_test[:4].copy()
    samples[1, 0, 3, 3] = 50.0
    assert check(plan, ClearModel.of_plan(plan), CheckData(samples)).outside == 0.25


def test_a_damaged_network_loses_agreement(plan: Plan, mnist_test: NDArray[np.float32]) -> None:
    """The comparison is with the network, not with the plan itself."""
    model = ClearModel.of_plan(plan)
    found = check(plan, model, CheckData(mnist_test))
    program = plan.server.program
    (position,) = [i for i, x in enumerate(program.instructions) if type(x).__name__ == "Output"]
    layout = program.instructions[position].layout  # type: ignore[union-attr]
    shuffled = replace(layout, elements=np.where(layout.elements < 0, -1, 9 - layout.elements))
    outputs = (replace(plan.client.outputs[0], layout=shuffled),)
    broken = Plan(replace(plan.client, outputs=outputs), plan.server)
    assert found.outputs[0].agreement == 1.0
    assert check(broken, model, CheckData(mnist_test)).outputs[0].agreement < 0.3  # type: ignore[operator]


def test_only_the_server_part_holds_the_network(plan: Plan, folder: Path) -> None:
    onnx = plan.server.onnx.tobytes()
    assert b"Gemm" in onnx
    assert b"Gemm" not in (folder / "client.hec").read_bytes()
    assert (folder / "client.hec").stat().st_size < len(onnx) / 10


def test_a_plan_without_its_network_asks_for_it(plan: Plan) -> None:
    bare = Plan(plan.client, replace(plan.server, onnx=np.zeros(0, np.uint8)))
    with pytest.raises(CompileError) as caught:
        ClearModel.of_plan(bare)
    assert str(caught.value) == (
        "the plan holds no copy of its network: the file would be over 2 GiB\n"
        "  --> mlp.onnx\n"
        "  help: give the network that was compiled with --model"
    )


def output(*steps: EpilogueStep, plan: Plan) -> PlanOutput:
    return replace(plan.client.outputs[0], epilogue=steps)


def test_what_counts_as_a_class(plan: Plan) -> None:
    scores = np.array([[[0.1, 0.9]], [[0.7, 0.2]]])
    one = np.array([[0.7], [0.2]])
    whole = np.array([[3], [1]])
    sigmoid, argmax = EpilogueStep("sigmoid"), EpilogueStep("argmax")
    assert classes(scores, output(plan=plan)).tolist() == [1, 0]  # type: ignore[union-attr]
    assert classes(one, output(plan=plan)) is None
    assert classes(one, output(sigmoid, plan=plan)).tolist() == [1, 0]  # type: ignore[union-attr]
    assert classes(whole, output(argmax, plan=plan)).tolist() == [3, 1]  # type: ignore[union-attr]
    assert agreement(scores, scores[::-1], output(plan=plan)) == 0.0
    assert agreement(one, one, output(plan=plan)) is None


def test_an_error_has_a_largest_a_mean_and_bits() -> None:
    found = error(np.array([[1.0, 2.0]]), np.array([[1.25, 2.0]]))
    assert (found.max, found.bits) == (0.25, 2.0)
    assert found.rms == pytest.approx(0.25 / np.sqrt(2))
    assert error(np.ones(2), np.ones(2)).bits is None


def a_check(plan: Plan, overflows: int, kept: bool | None) -> Check:
    small = error(np.zeros(1), np.full(1, 0.5))
    real = None
    if kept is not None:
        real = EncryptedCheck(1, 1.0, small, kept, (1.0,), 1.0, 10**6, 1000, 500, 10**8)
    outputs = (OutputCheck("logits", 0.5, small, None, None),)
    return Check(2, 1.0, None, overflows, None, None, outputs, real)


@pytest.mark.parametrize(
    ("overflows", "kept", "code"), [(0, None, 0), (0, True, 0), (0, False, 1), (3, None, 1)]
)
def test_the_exit_code_tells_whether_the_check_passed(
    overflows: int,
    kept: bool | None,
    code: int,
    plan: Plan,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = a_check(plan, overflows, kept)
    monkeypatch.setattr(cli_check, "_check", lambda *arguments: found)
    run = hec("check", folder / "mlp.hec", "--data", folder / "x.npy")
    assert run.exit_code == code
    assert run.stdout.splitlines()[-1].split() == ["result", "passed" if code == 0 else "FAILED"]
    told = hec("check", folder / "mlp.hec", "--data", folder / "x.npy", "--json")
    assert told.exit_code == code
    assert json.loads(told.stdout) == json.loads(json.dumps({**asdict(found), "passed": code == 0}))


def test_the_command_prints_the_check(folder: Path) -> None:
    run = hec(
        "check", folder / "mlp.hec", "--data", folder / "x.npy", "--labels", folder / "labels.npy"
    )
    facts = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert (run.exit_code, run.stderr) == (0, "")
    assert facts["samples"] == "64"
    assert facts["agreement"] == "100.00 % have the network's top-1 (simulated)"
    assert facts["accuracy"] == "100.00 %; the network itself 100.00 %"
    assert facts["overflows"] == "none"
    assert facts["result"] == "passed"


def test_the_network_can_be_given_as_a_file(folder: Path, root: Path) -> None:
    model = root / "examples" / "models" / "mlp.onnx"
    run = hec("check", folder / "mlp.hec", "--data", folder / "x.npy", "--model", model, "--json")
    assert json.loads(run.stdout)["outputs"][0]["agreement"] == 1.0


def test_a_sample_that_wrapped_fails_the_check(plan: Plan) -> None:
    sound = replace(a_check(plan, 0, None), bootstraps=BootstrapCheck(19, 0))
    lost = replace(sound, bootstraps=BootstrapCheck(19, 1))
    assert sound.passed
    assert not lost.passed
    told = [dict(cli_check._facts(found)) for found in (sound, lost)]
    assert told[0]["bootstraps"] == "19 for one prediction; no sample wrapped around"
    wrapped = "1 of 2 samples wrapped around in a bootstrap"
    assert told[1]["bootstraps"] == f"19 for one prediction; {wrapped}"
    assert told[1]["result"] == "FAILED"


def test_a_plan_that_refreshes_nothing_tells_of_no_bootstrap(
    plan: Plan, mnist_test: NDArray[np.float32]
) -> None:
    found = check(plan, ClearModel.of_plan(plan), CheckData(mnist_test[:2]))
    assert found.bootstraps is None
    assert "bootstraps" not in dict(cli_check._facts(found))
