"""Measuring a machine: what is fitted, what is told, what is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from cli_runner import hec
from hec.compiler import cost_table
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.cost_table import REFERENCE
from hec.compiler.host_costs import host_file
from hec.runtime import calibrate, openfhe_primes, step_timing, tenseal_primes, tenseal_steps
from hec.runtime.calibrate import Calibration
from hec.runtime.step_timing import Stopwatch, line

TABLE = replace(REFERENCE, name="this machine", openfhe=())


class Ticks:
    """A clock whose steps take the seconds that a test says."""

    def __init__(self, steps: Iterator[float]) -> None:
        self.now, self.steps = 0.0, steps

    def __call__(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += next(self.steps)


def timed(seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[float, Stopwatch]:
    """Time steps that take `seconds`, the first two of which warm up."""
    ticks = Ticks(iter(seconds))
    monkeypatch.setattr(step_timing, "perf_counter", ticks)
    watch = Stopwatch(clock=ticks)
    return watch.seconds(ticks.step), watch


def test_a_step_takes_the_median_of_its_warm_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    found, watch = timed([9.0, 0.1, *[0.1] * 5, *[0.5] * 4], monkeypatch)
    assert found == pytest.approx(0.1)
    assert watch.spread > 1  # the quartiles are 0.1 and 0.5
    assert watch.waited == 0


def test_slow_steps_are_repeated_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    found, watch = timed([5.0, 2.0, 2.0, 2.0, 3.0], monkeypatch)
    assert found == 2.0
    assert watch.wall == 7.0


def test_fast_steps_are_timed_in_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    found, watch = timed([1e-5] * (2 + 9 * 200), monkeypatch)
    assert found == pytest.approx(1e-5)
    assert watch.wall == pytest.approx(9 * 200 * 1e-5)


def test_a_busy_machine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks(iter([1.0] * 5))
    monkeypatch.setattr(step_timing, "perf_counter", ticks)
    watch = Stopwatch(clock=lambda: ticks.now / 2)
    watch.seconds(ticks.step)
    assert watch.waited == pytest.approx(0.5)


def test_a_line_goes_through_what_was_measured() -> None:
    exact = line((limbs, 3e-4 + 2e-4 * limbs) for limbs in (1, 2, 5))
    assert (exact.fixed, exact.per_limb) == (pytest.approx(3e-4), pytest.approx(2e-4))
    curve = line(((n, 1e-4 + 2e-4 * n + 3e-4 * n * n) for n in (1, 2, 3, 5, 9)), square=True)
    assert curve(7) == pytest.approx(1e-4 + 14e-4 + 147e-4)
    falling = line([(1, 2e-4), (4, 1e-4)])
    assert min(falling.fixed, falling.per_limb) >= 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing."""

    def measured(name: str, tell: Callable[[str, int, int], None]) -> Calibration:
        tell("SEAL", 0, 1)
        return Calibration(replace(TABLE, name=name), 0.02, 0.01, "no OpenFHE here")

    monkeypatch.setattr(calibrate, "calibrate", measured)


@pytest.mark.usefixtures("quick")
def test_the_table_is_kept_with_the_settings() -> None:
    run = hec("calibrate-host")
    assert run.exit_code == 0, run.stderr
    assert cost_table.load(host_file()) == TABLE
    assert run.stderr == (
        "warning: Only SEAL was measured: no OpenFHE here\n  help: install hec[openfhe] for both\n"
    )
    assert "SEAL, 8192, one thread" in run.stdout
    shown = hec("calibrate-host", "--show")
    assert shown.stdout == run.stdout and shown.stderr == ""


@pytest.mark.usefixtures("quick")
def test_the_table_may_go_to_a_file_and_to_machines(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    run = hec("calibrate-host", "-o", path, "--json", "--name", "the server")
    assert json.loads(run.stdout)["name"] == "the server"
    assert cost_table.load(path).name == "the server"
    assert not host_file().exists()
    missing = hec("calibrate-host", "-o", tmp_path / "nowhere" / "costs.json")
    assert missing.exit_code == 2 and "the folder of the output does not exist" in missing.stderr


def test_nothing_is_shown_of_a_machine_that_was_not_measured() -> None:
    run = hec("calibrate-host", "--show")
    assert run.exit_code == 2
    assert run.stderr == (
        f"This machine was not measured yet\n  --> {host_file()}\n"
        "  help: measure this machine: hec calibrate-host\n"
    )


def test_a_damaged_table_is_to_be_made_again() -> None:
    host_file().parent.mkdir(parents=True)
    host_file().write_text("{}")
    run = hec("calibrate-host", "--show")
    assert run.exit_code == 2
    assert run.stderr == (
        f"This is not a cost table\n  --> {host_file()}\n"
        "  help: make it again on this machine: hec calibrate-host\n"
    )


def test_a_folder_for_settings_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("a file")
    run = hec("calibrate-host")
    assert run.exit_code == 2
    assert run.stderr == (
        f"Cannot make the folder: Not a directory\n  --> {host_file().parent}\n"
        "  help: choose a file with --output\n"
    )


def test_a_busy_machine_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Calibration(REFERENCE, 0.123, 0.5, "")
    monkeypatch.setattr(calibrate, "calibrate", lambda name, tell: busy)
    assert hec("calibrate-host").stderr == (
        "warning: The machine was busy: repeats differ by 12.30 %, and 50.00 % of the time went to"
        " other programs\n  help: run hec calibrate-host again while nothing else runs\n"
    )


@pytest.mark.encrypted
def test_seal_is_measured_through_its_backend() -> None:
    told: list[str] = []
    steps = tenseal_steps.measure(4096, Stopwatch(), told.append)
    assert told == ["SEAL, ring degree 4096, 1 limbs", "SEAL, ring degree 4096, 2 limbs"]
    assert steps.add(1) < steps.multiply_plain(1) < steps.key_switch(1) < 1
    table = replace(REFERENCE, seal=(steps,))
    assert cost_table.read(_bytes(table), "table") == table


def _bytes(table: cost_table.CostTable) -> bytes:
    from hec.compiler import record
    from hec.compiler.checked_json import dump

    return dump(
        {
            "format": cost_table.FORMAT,
            "version": cost_table.VERSION,
            "table": record.encode(table, []),
        }
    )


@pytest.mark.encrypted
@pytest.mark.openfhe
@pytest.mark.parametrize("ring_degree", [2**12, 2**13])
def test_openfhe_is_measured_through_its_backend(ring_degree: int) -> None:
    pytest.importorskip("openfhe", exc_type=ImportError)
    from hec.runtime import openfhe_steps

    steps = openfhe_steps.measure(ring_degree, Stopwatch())
    assert steps.ring_degree == ring_degree
    parts = (steps.raise_digit, steps.inner_product + steps.drop_special, steps.rescale(3))
    assert min(*parts, steps.load(3), steps.save(3)) > 0
    table = replace(REFERENCE, openfhe=(steps,))
    assert cost_table.read(_bytes(table), "table") == table


@pytest.mark.encrypted
@pytest.mark.openfhe
def test_a_bootstrap_of_openfhe_is_measured() -> None:
    pytest.importorskip("openfhe", exc_type=ImportError)
    from hec.runtime import openfhe_steps

    assert openfhe_steps.measure_bootstrap(REFERENCE.openfhe_steps(2**12), Stopwatch()) > 0


@pytest.mark.encrypted
@pytest.mark.openfhe
def test_rotations_are_taken_apart_by_what_they_share() -> None:
    pytest.importorskip("openfhe", exc_type=ImportError)
    from hec.compiler.openfhe_costs import OpenfheCosts
    from hec.runtime import openfhe_steps

    known = replace(REFERENCE.openfhe_steps(2**14), conversion=1e-5)
    turned = []
    for digits in (10, 3):
        parameters = openfhe_steps._leveled(2**14, digits=digits)
        costs = OpenfheCosts(parameters, known)
        for limbs, turns in product((1, 2, 5, 10), (1, 4)):
            seconds = costs.decompose(limbs) + turns * costs.hoisted_rotation(limbs)
            turned.append(openfhe_steps._Turned(parameters, limbs, turns, seconds))
    found = openfhe_steps._rotations(turned)
    shares = ("raise_digit", "conversion", "inner_product", "drop_special", "rotation")
    assert found == pytest.approx([getattr(known, share) for share in shares])


@pytest.mark.encrypted
@pytest.mark.parametrize("digits", [0, pytest.param(3, marks=pytest.mark.openfhe)])
def test_one_ring_is_measured_for_its_programs(digits: int) -> None:
    if digits:
        pytest.importorskip("openfhe", exc_type=ImportError)
    bits = (26, 26, 26)
    moduli, special = (
        openfhe_primes.chain(8192, bits) if digits else (tenseal_primes.primes(8192, bits), (0,))
    )
    table = calibrate.calibrate_ring(EncryptionParameters(8192, moduli, special, 128, digits))
    steps = table.openfhe if digits else table.seal
    assert [each.ring_degree for each in steps] == [8192]
    assert table.machine.threads >= 1
