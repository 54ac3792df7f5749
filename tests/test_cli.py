"""The command line: help, exit codes, warnings, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cli_runner import MLP, hec
from hec.compiler import pipeline
from hec.compiler.errors import InvalidProgram, warn

COMMANDS = (
    "compile",
    "lint",
    "report",
    "explain",
    "check",
    "keygen",
    "encrypt",
    "run",
    "decrypt",
    "demo",
    "calibrate-host",
)
HEAVY = ("numpy", "scipy", "onnx", "onnxruntime", "tenseal", "networkx", "rich")


def test_the_command_line_starts_without_heavy_imports() -> None:
    program = (
        "import sys\nfrom hec.compiler import cli\n"
        "try:\n    cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]", run.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_is_for_and_shows_an_example(command: str) -> None:
    run = hec(command, "--help")
    assert run.exit_code == 0
    assert f"Example:\n    hec {command}" in run.stdout


def test_all_commands_fit_a_line_of_the_overview() -> None:
    listed = hec("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert not [line for line in listed if line.endswith("...")]


def test_the_version_is_that_of_the_package() -> None:
    assert hec("--version").stdout == "hec 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "place", "message"),
    [
        (("nothing",), "hec", "No such command 'nothing'"),
        (("--nothing",), "hec", "No such option"),
        (("report", "--nothing", "x"), "hec report", "No such option"),
        (("report",), "hec report", "Missing argument"),
        (("compile", "x", "-o", "y", "--degree", "two"), "hec compile", "'--degree'"),
    ],
)
def test_a_wrong_usage_is_told_in_three_parts(
    arguments: tuple[str, ...], place: str, message: str
) -> None:
    run = hec(*arguments)
    first, where, help_ = run.stderr.splitlines()
    assert (run.exit_code, run.stdout) == (2, "")
    assert message in first
    assert where == f"  --> {place}"
    assert help_ == f"  help: '{place} --help' shows what can be given"


def failing(error: BaseException) -> Callable[..., None]:
    def compile(*arguments: object) -> None:
        raise error

    return compile


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidProgram("fold_scales broke a rule"), 3),
        (ZeroDivisionError("division by zero"), 3),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 2),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compile", failing(error))
    run = hec("compile", MLP, "-o", tmp_path / "x.hec")
    assert (run.exit_code, run.stdout) == (code, "")
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_bug_is_called_a_bug_and_asks_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compile", failing(InvalidProgram("fold_scales: level -1")))
    message, place, help_ = hec("compile", MLP, "-o", tmp_path / "x.hec").stderr.splitlines()
    assert message == "internal error: InvalidProgram: fold_scales: level -1"
    assert place.startswith("  --> hec compile (test_cli.py:")
    assert "; hec 0.1.0, Python 3." in place
    assert help_ == (
        "  help: this is a bug in hec, and not your fault: please report it with this text and, if"
        " you can, the model; HEC_TRACEBACK=1 prints more"
    )


def test_a_warning_is_printed_once_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(*arguments: object) -> None:
        warn("two ranges are wide", "node 'a'", "calibrate")
        warn("two ranges are wide", "node 'a'", "calibrate")
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "compile", compile)
    run = hec("compile", MLP, "-o", tmp_path / "x.hec")
    assert run.stderr == (
        "warning: two ranges are wide\n  --> node 'a'\n  help: calibrate\ninterrupted\n"
    )


def test_names_from_files_cannot_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compile", failing(InvalidProgram("node '\x1b[2J'")))
    run = hec("compile", MLP, "-o", tmp_path / "x.hec")
    assert "\x1b" not in run.stderr
    assert "node '\N{REPLACEMENT CHARACTER}[2J'" in run.stderr


def test_compile_prints_only_json_to_stdout(
    tmp_path: Path, mnist_calibration: NDArray[np.float32]
) -> None:
    np.savez(tmp_path / "any_name.npz", pixels=mnist_calibration[:64])
    plan = tmp_path / "x.hec"
    run = hec("compile", MLP, "-o", plan, "--calibration", tmp_path / "any_name.npz", "--json")
    told = json.loads(run.stdout)
    assert (run.exit_code, run.stderr) == (0, "")
    assert told["plan"] == str(plan)
    assert told["bytes"] == plan.stat().st_size
    assert told["security_bits"] == 128


def test_the_options_of_compile_reach_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def compile(model: Path, samples: object, target: object, progress: object) -> None:
        seen.append((model, samples, target))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "compile", compile)
    hec(
        "compile", MLP, "-o", tmp_path / "x.hec", "--degree", 7, "--precision", 9.5,
        "--max-error", 0.01, "--security", 192, "--backend", "tenseal",
        "--input", "a=b=1,3", "--input", "c=2", "--input-range", "-2,3",
    )  # fmt: skip
    from hec.compiler.target import Target

    target = Target("tenseal", 192, 9.5, 0.01, 7, {"a=b": (1, 3), "c": (2,)}, (-2.0, 3.0))
    assert seen == [(MLP, None, target)]


def test_an_agreement_reaches_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_test: NDArray[np.float32]
) -> None:
    seen = []

    def compile(model: Path, samples: object, target: object, progress: object) -> None:
        seen.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "compile", compile)
    np.save(tmp_path / "x.npy", mnist_test[:1])
    options = ("--calibration", tmp_path / "x.npy", "--min-agreement", 0.97)
    hec("compile", MLP, "-o", tmp_path / "x.hec", *options)
    from hec.compiler.target import Target

    assert seen == [Target(min_agreement=0.97)]
