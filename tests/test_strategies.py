"""Which way a network is run: the cheapest of those that are possible, and why."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hec.compiler import pipeline, strategies
from hec.compiler.calibration import Calibration
from hec.compiler.ckks_ir import Bootstrap, LinearTransform
from hec.compiler.errors import CompileError, HecWarning, fail
from hec.compiler.memory import server_memory
from hec.compiler.plan_parts import PlanFit
from hec.compiler.security import is_secure
from hec.compiler.strategies import Candidate, Strategies
from hec.compiler.target import BackendName, Target
from hec.compiler.tensor_ir import Activation, Input, TensorGraph
from hec.compiler.tensor_ir import Bootstrap as TensorBootstrap
from hec.passes.place_bootstraps import REFRESH
from hec.runtime.simulate import run_clear, run_simulated
from onnx_oracle import network, node, random
from residual_networks import normal, residual_network
from sample_graphs import Builder

LIBRARIES = pipeline.libraries()
SAMPLES = normal(64)
MISSING = fail("OpenFHE cannot be imported: no wheel", "CPython 3.11", "install it")


def ways(graph: TensorGraph, target: Target, **libraries: Any) -> Strategies:
    calibration = Calibration(SAMPLES, margin=1.1)
    known = replace(LIBRARIES, **libraries)
    return Strategies(graph, calibration, target, known, lambda step: None)


def squares(count: int) -> tuple[TensorGraph, Calibration]:
    b = Builder(np.random.default_rng(0))
    x = b.linear((b.input("x", 1, 16),), 1, 16)
    for _ in range(count):
        x = b.linear((b.multiply(x, x),), 1, 16)
    values = np.random.default_rng(1).uniform(-1, 1, (64, 16))
    return b.graph(x), Calibration({"x": values}, margin=1.1)


def of_squares(count: int, target: Target) -> Strategies:
    graph, calibration = squares(count)
    return Strategies(graph, calibration, target, LIBRARIES, lambda step: None)


def kinds(candidate: Candidate) -> set[type]:
    return {type(x) for x in candidate.choice.lowered.program.instructions}


@pytest.mark.parametrize("backend", ["auto", "openfhe"])
def test_a_network_without_activations_has_nothing_to_refresh(backend: BackendName) -> None:
    found = of_squares(0, Target(backend=backend)).best()
    assert Bootstrap not in kinds(found) and found.reason.startswith("a leveled program of ")


def test_a_shallow_network_is_leveled_on_tenseal() -> None:
    found = of_squares(2, Target()).best()
    assert found.backend == "tenseal" and Bootstrap not in kinds(found)
    assert found.reason.startswith("a leveled program of ")


def test_a_network_that_is_one_matrix_refreshes_nothing() -> None:
    for backend in ("auto", "openfhe"):
        found = of_squares(0, Target(backend=backend)).best()  # type: ignore[arg-type]
        assert found.way == "a leveled program of 0 levels"
        assert Bootstrap not in kinds(found)


def test_the_backend_that_is_asked_for_is_taken() -> None:
    for backend, limit in (("tenseal", 1), ("openfhe", 0)):
        found = of_squares(2, Target(backend=backend)).best()  # type: ignore[arg-type]
        parameters = found.choice.lowered.program.parameters
        assert found.backend == backend
        assert (parameters.digits > 0) == (limit == 0)
        assert is_secure(parameters.ring_degree, parameters.modulus_bits, 128)


@pytest.fixture(scope="module")
def refreshing() -> Candidate:
    return ways(residual_network(), Target()).refreshing()


def test_a_refreshing_program_has_a_bootstrap_for_every_activation(refreshing: Candidate) -> None:
    program = refreshing.choice.lowered.program
    assert refreshing.way == "3 functional bootstraps"
    assert sum(isinstance(x, Bootstrap) for x in program.instructions) == 3
    assert is_secure(program.parameters.ring_degree, program.parameters.modulus_bits, 128)
    how = program.parameters.bootstrapping
    assert how is not None and how.slots == 256  # the tensors have 144 elements: sparse slots
    assert any(x.twin for x in program.instructions if isinstance(x, LinearTransform))


def test_few_samples_are_told_where_a_bootstrap_would_lose_values(
    refreshing: Candidate, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    model = network([node("Relu", "x", "y")], {"x": (1, 4)})

    def told(chosen: Candidate, count: int) -> list[str]:
        made = SimpleNamespace(best=lambda: chosen)
        monkeypatch.setattr(pipeline, "Strategies", lambda *arguments: made)
        pipeline.choose(model, random(count, 4), Target())
        return [str(recwarn.pop(HecWarning).message) for _ in list(recwarn)]

    assert told(refreshing, 63) == [
        "63 calibration samples show little of the ranges of activations, and a bootstrap loses a "
        "value far outside of its range\n"
        "  --> net: bootstraps of 3 tensors\n"
        "  help: pass --calibration with 64 real inputs or more"
    ]
    assert told(refreshing, 64) == []
    assert told(of_squares(1, Target()).best(), 63) == []


def test_its_plan_keeps_the_promise_in_the_simulator(refreshing: Candidate) -> None:
    plan = pipeline.plan_of(refreshing, "residual")
    samples = normal(200, 7)["x"]
    exact, noisy = run_clear(plan, samples).raw["y"], run_simulated(plan, samples)
    assert (noisy.wrapped, noisy.overflows) == (0, 0)
    error = np.abs(noisy.raw["y"] - exact).max()
    assert 2.0 ** -(plan.client.precision + 2.5) < error < 2.0**-plan.client.precision
    assert {fit.fit.function for fit in plan.server.fits} == {"relu"}
    assert isinstance(plan.server.fits[0], PlanFit) and len(plan.server.fits) == 3
    assert plan.server.deviations and plan.client.backend == "openfhe"


def test_what_has_too_many_levels_is_refused_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "SMALLEST_PRIME_BITS", 200)
    with pytest.raises(CompileError) as caught:
        ways(residual_network(), Target(backend="tenseal")).best()
    assert str(caught.value) == (
        "a leveled program would need 10 levels or more, 200 bits each; at 128-bit security a"
        " modulus has 881 bits\n"
        "  --> 8 layers\n"
        "  help: use --backend openfhe, which refreshes ciphertexts, or fewer activations"
    )


def test_where_openfhe_is_missing_the_error_says_what_to_install_and_what_it_would_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strategies, "SMALLEST_PRIME_BITS", 200)
    with pytest.raises(CompileError) as caught:
        ways(residual_network(), Target(), openfhe_error=lambda: MISSING).best()
    (problem,) = caught.value.problems
    assert problem.message.startswith(
        "this network needs 3 functional bootstraps on OpenFHE, which cannot be imported here;"
        " a prediction would take "
    )
    assert problem.message.endswith(" GB")
    assert problem.place.endswith("; CPython 3.11") and problem.help == "install it"


def test_where_openfhe_would_only_be_faster_tenseal_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "FUNCTIONAL_BOOTSTRAP", 0.0)
    chosen = ways(residual_network(), Target(degree=15), openfhe_error=lambda: MISSING)
    slow = replace(chosen.leveled(LIBRARIES.seal))
    monkeypatch.setattr(Candidate, "seconds", property(lambda c: 1e3 * (c.backend == "tenseal")))
    found = chosen.best()
    assert found.backend == slow.backend == "tenseal"
    assert found.reason.endswith("; OpenFHE is faster, and not installed")


def test_what_is_less_exact_than_asked_for_wins_only_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(_: Strategies, found: Candidate) -> Candidate:
        return replace(found, keeps=any(isinstance(x, series) for x in found.graph.operations))

    monkeypatch.setattr(Strategies, "_measured", measured)
    monkeypatch.setattr(Candidate, "seconds", property(lambda c: 1.0 + 1e3 * ("func" in c.way)))
    series, loose = TensorBootstrap, Target(max_error=0.5)
    found = ways(residual_network(), loose, openfhe_error=lambda: None).best()
    assert found.way == "3 functional bootstraps" and found.keeps
    assert ", 1 s, less exact than asked for" in found.reason
    missing = ways(residual_network(), loose, openfhe_error=lambda: MISSING).best()
    assert missing.reason.endswith("; OpenFHE is more exact, and not installed")
    series = Input
    assert (
        ways(residual_network(), loose, openfhe_error=lambda: None)
        .best()
        .way.startswith("a leveled program")
    )


def test_fits_are_measured_on_the_samples_there_are() -> None:
    target = Target(max_error=0.5)
    chosen = ways(residual_network(), target)
    found = chosen.leveled(LIBRARIES.seal)
    assert chosen._measured(found).keeps
    strict = ways(residual_network(), Target(max_error=1e-6))
    assert not strict._measured(found).keeps
    assert ways(residual_network(), Target(degree=3))._measured(found).keeps
    unknown = Strategies(residual_network(), Calibration(None), target, LIBRARIES, print)
    assert unknown._measured(found).keeps


def test_a_leveled_way_is_made_once_where_openfhe_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Candidate, "seconds", property(lambda c: 1e3 * (c.backend == "tenseal")))
    monkeypatch.setattr(strategies, "FUNCTIONAL_BOOTSTRAP", 0.0)
    told: list[str] = []
    missing = replace(LIBRARIES, openfhe_error=lambda: MISSING)
    calibration = Calibration(SAMPLES, margin=1.1)
    found = Strategies(residual_network(), calibration, Target(degree=15), missing, told.append)
    assert found.best().backend == "tenseal"
    assert told.count("polynomials for activations") == 1


def test_a_deep_network_of_squares_may_be_refreshed_plainly() -> None:
    found = of_squares(30, Target()).plain()
    assert found.way.endswith(" plain bootstraps")
    fits = {x.fit.function for x in found.graph.operations if hasattr(x, "fit") and x.fit}
    assert fits == {REFRESH}
    count = sum(isinstance(x, Bootstrap) for x in found.choice.lowered.program.instructions)
    assert 1 <= count < 30
    plan = pipeline.plan_of(found, "squares")
    samples = np.random.default_rng(2).uniform(-1, 1, (50, 16))
    exact, noisy = run_clear(plan, samples).raw["y0"], run_simulated(plan, samples)
    assert noisy.wrapped == 0
    assert np.abs(noisy.raw["y0"] - exact).max() < 2.0**-plan.client.precision


def test_the_ways_are_compared_and_the_reason_tells_all_of_them() -> None:
    found = of_squares(30, Target(backend="openfhe")).best()
    plain, functional = of_squares(30, Target()).plain(), of_squares(30, Target()).refreshing()
    cheaper = min((plain, functional), key=lambda candidate: candidate.seconds)
    assert found.way == cheaper.way
    for told in (plain.way, functional.way, "a leveled program would need"):
        assert told in found.reason


def test_a_network_that_needs_no_refresh_has_no_plain_bootstraps() -> None:
    with pytest.raises(CompileError, match=r"^no placement of bootstraps fits 128-bit security"):
        of_squares(1, Target()).plain()


def test_activations_are_never_refreshed_plainly() -> None:
    chosen = ways(residual_network(), Target(backend="openfhe"))
    assert any(isinstance(x, Activation) for x in chosen._shared.operations)
    assert not chosen._may_win(chosen.plain, [])


def test_the_cap_of_memory_decides_or_refuses(refreshing: Candidate) -> None:
    needed = server_memory(refreshing.choice.lowered.program).least
    with pytest.raises(CompileError) as caught:
        ways(residual_network(), Target(max_ram=needed / 4)).refreshing()
    (problem,) = caught.value.problems
    assert problem.message.startswith("the server needs ")
    assert problem.place == f"--max-ram {needed / 4e9:g}G"
    assert problem.help.startswith("allow ")
    assert problem.message.split(", ")[0].endswith(f"{needed / 1e9:.1f} GB")  # the least there is
    enough = ways(residual_network(), Target(max_ram=1.01 * needed)).refreshing()
    assert server_memory(enough.choice.lowered.program).least <= 1.01 * needed


def test_more_security_than_bootstraps_have_is_refused() -> None:
    with pytest.raises(CompileError) as caught:
        ways(residual_network(), Target(security=256)).refreshing()
    assert str(caught.value) == (
        "no parameters of 256-bit security hold a bootstrap and the layers between two of them\n"
        "  --> --security 256\n"
        "  help: use 128-bit security, or lower-degree activations (--degree 15)"
    )


def test_a_precision_beyond_reach_is_refused() -> None:
    with pytest.raises(CompileError) as caught:
        ways(residual_network(), Target(precision=50)).refreshing()
    (problem,) = caught.value.problems
    assert problem.message.endswith(" bits, not the 50.0 asked for")
    assert problem.message.startswith("the outputs would be exact to ")


def test_a_leveled_program_keeps_the_cap_too() -> None:
    with pytest.raises(CompileError) as caught:
        of_squares(2, Target(backend="tenseal", max_ram=5e7)).best()
    (problem,) = caught.value.problems
    assert problem.message.startswith("a leveled program of ")
    assert problem.message.endswith(" GB more than it may hold")
    assert problem.place == "--max-ram 0.05G"
