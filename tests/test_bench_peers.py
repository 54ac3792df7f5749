"""The race of the benchmarks: the peers' arrays, turns, failures that are named, ratios."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import peer_environments
from peer_environments import Environment, NotInstalled, python_of
from peer_layers import evaluated, layers_of, output_factor, save
from peer_process import summary
from peers import race, with_ratios

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "mlp": ROOT / "examples" / "models" / "mlp.onnx",
    "lola": ROOT / "hec" / "demo" / "lola.onnx",
    "tenseal": ROOT / "tests" / "data" / "tenseal-convmnist-square.onnx",
}
CLEAR = np.array([[1.0, 0.0], [0.0, 1.0]])
CONTENDER = """
import json, sys
print("noise of a library")
print("row: " + json.dumps({"prepare_seconds": 1.5, "ring_degree": 8192}), flush=True)
for line in sys.stdin:
    answer = {"seconds": 2.0 + int(line), "cpu_seconds": 1.0, "encrypt_seconds": 0.1,
              "decrypt_seconds": 0.1, "peak_bytes": 5.0, "outputs": [1.0, 0.0]}
    print("row: " + json.dumps(answer), flush=True)
"""
STOPS = """
import sys
print("row: {}", flush=True)
sys.stdin.readline()
sys.exit("out of levels")
"""


def images() -> NDArray[np.float32]:
    with np.load(ROOT / "hec" / "demo" / "mnist.npz") as arrays:
        return ((arrays["test_images"][:8, None] / 255.0 - 0.1307) / 0.3081).astype(np.float32)


def contender(program: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-c", program]


@pytest.mark.parametrize("path", MODELS.values(), ids=MODELS)
def test_a_peer_gets_the_network_that_hec_compiles(path: Path) -> None:
    session = onnxruntime.InferenceSession(path)
    feed = session.get_inputs()[0].name
    expected = np.concatenate([session.run(None, {feed: x[None]})[0] for x in images()])
    np.testing.assert_allclose(evaluated(layers_of(path), images()), expected, rtol=0, atol=1e-4)


def test_other_networks_are_refused_by_name() -> None:
    with pytest.raises(SystemExit) as problem:
        layers_of(ROOT / "tests" / "data" / "winml-iris.onnx")
    assert str(problem.value) == "winml-iris.onnx: no peer's example has a Relu such as this"


def test_the_last_layer_is_divided_by_the_factor(tmp_path: Path) -> None:
    layers = layers_of(MODELS["lola"])
    save(layers, images(), 8.0, tmp_path / "arrays.npz")
    with np.load(tmp_path / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["weight0"], layers[0].weight)
        np.testing.assert_array_equal(arrays["geometry0"], [2, 0, 1])
        np.testing.assert_array_equal(8 * arrays["weight2"], layers[2].weight)
        np.testing.assert_array_equal(8 * arrays["bias2"], layers[2].bias)


@pytest.mark.parametrize(("largest", "factor"), [(0.5, 1.0), (1.0, 1.0), (1.1, 2.0), (20.0, 32.0)])
def test_outputs_may_be_twice_as_large_as_those_seen(largest: float, factor: float) -> None:
    assert output_factor(np.array([-largest, 0.0]), 2.0) == factor


def test_contenders_are_asked_in_turns_and_summed_up_without_the_first_answer() -> None:
    found = race({"one": contender(CONTENDER)}, CLEAR)["one"]
    assert found["prepare_seconds"] == 1.5
    assert found["run_seconds"] == 3.0
    assert found["agreement"] == "1/2"
    assert found["error_bits"] == pytest.approx(1.0)


def test_whoever_does_not_run_is_named_with_the_reason() -> None:
    def missing() -> list[str]:
        raise NotInstalled("no wheel fits")

    commands = {
        "missing": missing,
        "fails": contender("raise ValueError('no such ring')"),
        "stops": contender(STOPS),
        "runs": contender(CONTENDER),
    }
    found = race(commands, CLEAR)
    assert list(found) == list(commands)
    assert found["missing"] == {"error": "no wheel fits"}
    assert found["fails"] == {"error": "ValueError: no such ring"}
    assert found["stops"] == {"error": "out of levels"}
    assert "run_seconds" in found["runs"]


def test_medians_leave_out_the_first_answer_unless_it_is_the_only_one() -> None:
    keys = ("cpu_seconds", "encrypt_seconds", "decrypt_seconds", "peak_bytes")
    answers = [
        {**dict.fromkeys(keys, s), "seconds": s, "outputs": [0.0, 1.0]} for s in (9.0, 1.0, 2.0)
    ]
    clear = np.zeros((3, 2))
    found = summary({}, answers, clear)
    assert (found["run_seconds"], found["run_fastest"], found["run_slowest"]) == (1.5, 1.0, 2.0)
    assert found["peak_bytes"] == 9.0
    assert summary({}, answers[:1], clear[:1])["run_seconds"] == 9.0


def test_ratios_are_to_the_faster_of_hecs_backends() -> None:
    about = {"ring_degree": 8192, "modulus_bits": 218}
    table = with_ratios(
        [
            {"contender": "hec, TenSEAL", "run_seconds": 0.5, **about},
            {"contender": "hec, OpenFHE", "run_seconds": 0.25, **about},
            {"contender": "Orion", "run_seconds": 1.0, "ring_degree": 8192, "modulus_bits": 219},
            {"contender": "another", "error": "no wheel fits"},
        ]
    )
    assert [row.get("ratio") for row in table] == [2.0, 1.0, 4.0, None]
    assert [row.get("security") for row in table] == ["128", "128", "under 128", None]


def test_an_environment_that_fails_says_why(tmp_path: Path) -> None:
    broken = Environment("broken", (("anything",),))
    with pytest.raises(NotInstalled) as problem:
        python_of(broken, tmp_path, str(tmp_path / "no-python"))
    assert str(problem.value).startswith("[Errno 2] No such file or directory")
    assert not (tmp_path / "broken" / peer_environments.STAMP).exists()


def test_an_environment_is_made_anew_when_its_list_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = list[list[str]]()

    def run(command: list[str]) -> str:
        commands.append(command)
        (tmp_path / "peer").mkdir(exist_ok=True)
        return "numpy==2.2.6\n"

    monkeypatch.setattr(peer_environments, "_run", run)
    one, other = Environment("peer", (("numpy",),)), Environment("peer", (("numpy<3",),))
    for environment, made in ((one, 3), (one, 0), (other, 3)):
        commands.clear()
        python_of(environment, tmp_path, "python3")
        assert len(commands) == made
