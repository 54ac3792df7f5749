"""Max, Min and pools of maxima: the tournament is exact, and averages tell what they change."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import hec
from cli_runner import hec as run_hec
from hec.compiler import average_pools
from hec.compiler.calibration import Calibration
from hec.compiler.check import CheckData, check
from hec.compiler.clear_model import ClearModel
from hec.compiler.errors import HecWarning
from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_import import import_onnx
from hec.compiler.onnx_tournament import rounds
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Bootstrap, TensorGraph, inputs, size
from hec.passes import REFRESHING_PASSES, run_tensor_passes
from hec.runtime.client import Client
from hec.runtime.server import Server
from onnx_oracle import import_graph, network, node, oracle, random, results

APPROXIMATE, AVERAGE = Target(maxpool="approximate"), Target(maxpool="average")
TOLERANCE = 1e-6  # absolute, of values of a few units: a + (b - a) rounds
IMAGE = {"x": (2, 3, 7, 6)}

# name: attributes, shape of the input, operator set, activations one after another
POOLS: dict[str, tuple[dict[str, Any], Sequence[int], int, int]] = {
    "2x2": ({"kernel_shape": [2, 2], "strides": [2, 2]}, IMAGE["x"], 12, 2),
    "overlapping": (
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]},
        IMAGE["x"],
        12,
        4,
    ),
    "dilated": (
        {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 1, 0]},
        IMAGE["x"],
        12,
        3,
    ),
    "ceil": ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, IMAGE["x"], 12, 2),
    "ceil padded": (
        {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        IMAGE["x"],
        12,
        4,
    ),
    "ceil starts in padding": (
        {"kernel_shape": [1, 2], "strides": [2, 2], "pads": [0, 1, 0, 1], "ceil_mode": 1},
        (1, 2, 4, 4),
        12,
        1,
    ),
    "same upper": (
        {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        IMAGE["x"],
        12,
        3,
    ),
    "same lower": (
        {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
        IMAGE["x"],
        12,
        2,
    ),
    "one dimension": ({"kernel_shape": [3], "strides": [2]}, (1, 4, 11), 7, 2),
    "three dimensions": (
        {"kernel_shape": [2, 3, 2], "strides": [2, 1, 1], "pads": [1, 0, 1, 0, 1, 0]},
        (1, 2, 4, 5, 3),
        12,
        4,
    ),
    "long": ({"kernel_shape": [5, 4], "storage_order": 1}, IMAGE["x"], 12, 5),
    "wider than the image": ({"kernel_shape": [5], "pads": [2, 2]}, (1, 4, 3), 12, 2),
    "rows only": ({"kernel_shape": [1, 3], "strides": [2, 1]}, IMAGE["x"], 12, 2),
}
OTHERS: dict[str, tuple[ModelProto, int]] = {
    "global": (network([node("GlobalMaxPool", "x")], IMAGE), 6),
    "reduce axes": (network([node("ReduceMax", "x", axes=[-1, 1], keepdims=0)], IMAGE), 5),
    "reduce all": (network([node("ReduceMin", "x")], {"x": (3, 4)}), 4),
    "reduce input axes": (network([node("ReduceMax", "x,a")], IMAGE, {"a": [2, 3]}, 18), 6),
    "reduce one axis": (
        network([node("ReduceMin", "x,a", keepdims=0)], IMAGE, {"a": [1]}, 18),
        2,
    ),
    "max of several": (
        network(
            [node("Max", "w,a,u,b,c")],
            {"a": (3, 4), "b": (3, 1), "c": (2, 1, 4)},
            {"w": random(3, 1), "u": random(2, 1, 1)},
        ),
        3,
    ),
    "max of the same": (network([node("Max", "x,x,x")], IMAGE), 0),
    "min of several": (
        network([node("Min", "a,b,c")], {"a": (3, 4), "b": (3, 1), "c": (2, 1, 4)}),
        2,
    ),
}


def pool(name: str) -> ModelProto:
    attributes, shape, opset, _ = POOLS[name]
    return network([node("MaxPool", "x", **attributes)], {"x": shape}, opset=opset)


def assert_exact(model: ModelProto, activations: int) -> None:
    """Compare with onnxruntime, negative values included, and count what is one after another."""
    graph = import_onnx(model, APPROXIMATE).graph
    for shift in (-5.0, 0.0):
        samples = {
            x.name: random(*x.shape, seed=k) + np.float32(shift)
            for k, (_, x) in enumerate(inputs(graph))
        }
        for found, wanted in zip(results(graph, samples), oracle(model, samples), strict=True):
            assert found.shape == np.shape(wanted)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)
    assert len(comparisons(graph)) == activations


def comparisons(graph: TensorGraph) -> list[Activation]:
    return [operation for operation in graph.operations if isinstance(operation, Activation)]


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_is_a_tournament_that_padding_never_wins(name: str) -> None:
    assert_exact(pool(name), POOLS[name][3])


@pytest.mark.parametrize("name", OTHERS)
def test_other_maxima_are_tournaments(name: str) -> None:
    assert_exact(*OTHERS[name])


def test_pairs_that_windows_share_are_compared_once() -> None:
    model = network([node("MaxPool", "x", kernel_shape=[4])], {"x": (1, 1, 100)})
    first, second = comparisons(import_onnx(model, APPROXIMATE).graph)
    assert (size(first), size(second)) == (99, 97)


def test_a_value_without_a_rival_is_not_compared() -> None:
    model = network([node("MaxPool", "x", kernel_shape=[3], strides=[3])], {"x": (1, 1, 9)})
    first, second = comparisons(import_onnx(model, APPROXIMATE).graph)
    assert (size(first), size(second)) == (3, 3)


def test_rounds_are_the_logarithm_of_the_longest_window() -> None:
    for taps, expected in ((1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (9, 4)):
        assert rounds(np.arange(taps)[None]) == expected
    assert rounds(np.array([[0, -1, -1], [0, 1, -1]])) == 1


@pytest.mark.parametrize("name", POOLS)
def test_an_average_is_that_of_the_same_window_without_padding(name: str) -> None:
    attributes, shape, _, _ = POOLS[name]
    kept = {k: v for k, v in attributes.items() if k != "storage_order"}
    averages = network([node("AveragePool", "x", **kept)], {"x": shape}, opset=19)
    x = {"x": random(*shape)}
    (found,) = results(import_onnx(pool(name), AVERAGE).graph, x)
    (wanted,) = results(import_graph(averages), x)
    np.testing.assert_array_equal(found, wanted)


def test_a_global_average_is_that_of_the_channel() -> None:
    x = {"x": random(*IMAGE["x"])}
    (found,) = results(import_onnx(OTHERS["global"][0], AVERAGE).graph, x)
    np.testing.assert_allclose(found, x["x"].mean(axis=(2, 3), keepdims=True), rtol=0, atol=1e-6)


def test_averages_leave_pools_of_pixels_and_reductions_as_they_are() -> None:
    pixels = network([node("MaxPool", "x", kernel_shape=[1, 1], strides=[2, 2])], IMAGE)
    x = {"x": random(*IMAGE["x"])}
    (found,) = results(import_onnx(pixels, AVERAGE).graph, x)
    np.testing.assert_array_equal(found, x["x"][:, :, ::2, ::2])
    with pytest.raises(hec.CompileError, match="ReduceMin of 12 numbers needs comparisons"):
        import_onnx(OTHERS["reduce all"][0], AVERAGE)


# averages tell what they change


def classifier(outputs: int = 10) -> tuple[ModelProto, NDArray[np.float32]]:
    """Return a small network with a MaxPool, and calibration samples."""
    nodes = [
        node("Conv", "x,w", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"),
        node("Gemm", "f,v", "y"),
    ]
    weights = {"w": random(3, 1, 3, 3), "v": random(12, outputs)}
    return network(nodes, {"x": (1, 1, 6, 6)}, weights), random(300, 1, 1, 6, 6, seed=7)


def told(model: ModelProto, samples: NDArray[np.float32] | None, target: Target) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hec.compile(model, samples, target)
    return [str(w.message) for w in caught if issubclass(w.category, HecWarning)]


HELP = "--maxpool approximate computes the network itself; or train the network with AveragePool"


def test_averages_tell_how_many_classes_they_keep() -> None:
    model, samples = classifier()
    (message,) = told(model, samples, AVERAGE)
    exact = np.stack([oracle(model, {"x": x})[0][0] for x in samples])
    mine = evaluate(import_onnx(model, AVERAGE).graph, {"x": samples.reshape(300, -1)})[-1]
    share = np.mean(exact.argmax(axis=1) == mine.argmax(axis=1))
    assert 0.1 < share < 0.95
    assert message == (
        f"averages in place of MaxPool keep the top-1 class of {100 * share:.1f} % of the samples\n"
        "  --> net: output 'y', 300 calibration samples\n"
        f"  help: {HELP}"
    )


def test_averages_tell_by_how_much_they_change_a_number() -> None:
    model, samples = classifier(1)
    (message,) = told(model, samples, AVERAGE)
    exact = np.stack([oracle(model, {"x": x})[0][0] for x in samples])
    mine = evaluate(import_onnx(model, AVERAGE).graph, {"x": samples.reshape(300, -1)})[-1]
    change = np.sqrt(np.mean((mine - exact) ** 2) / np.mean(exact**2))
    assert 0.1 < change < 2
    assert message == (
        f"averages in place of MaxPool change the output by {100 * change:.1f} % of its root mean "
        "square\n  --> net: output 'y', 300 calibration samples\n"
        f"  help: {HELP}"
    )


def test_nothing_is_told_where_nothing_is_averaged_or_known() -> None:
    model, samples = classifier()
    assert told(model, samples, Target(maxpool="approximate", degree=7)) == []
    (message,) = told(model, None, AVERAGE)
    assert message.startswith("no calibration data")
    dense = network([node("MatMul", "x,w")], {"x": (1, 6)}, {"w": random(6, 3)})
    assert told(dense, random(20, 1, 6), AVERAGE) == []


def test_only_as_many_samples_are_compared_as_a_second_affords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, samples = classifier()
    monkeypatch.setattr(average_pools, "MULTIPLICATIONS", 0)
    (message,) = told(model, samples, AVERAGE)
    assert "output 'y', 64 calibration samples" in message


def test_the_command_line_takes_the_choice(tmp_path: Path) -> None:
    model, samples = classifier()
    onnx.save_model(model, tmp_path / "pool.onnx")
    np.save(tmp_path / "samples.npy", samples)
    arguments = ("compile", tmp_path / "pool.onnx", "-o", tmp_path / "pool.hec")
    refused = run_hec(*arguments)
    assert refused.exit_code == 2
    assert "MaxPool of 4 numbers needs comparisons" in refused.stderr
    calibrated = ("--calibration", tmp_path / "samples.npy")
    averaged = run_hec(*arguments, *calibrated, "--maxpool", "average")
    assert averaged.exit_code == 0
    assert "averages in place of MaxPool keep the top-1 class of " in averaged.stderr
    compared = run_hec(*arguments, *calibrated, "--maxpool", "approximate", "--degree", "7")
    assert (compared.exit_code, compared.stderr) == (0, "")


# under encryption


def flat(images: NDArray[np.floating]) -> NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64)


def rms_error(found: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


def test_fitted_comparisons_keep_the_class() -> None:
    model, samples = classifier()
    plan = hec.compile(model, samples, Target(maxpool="approximate", degree=15))
    test = random(100, 1, 1, 6, 6, seed=8)
    exact = np.stack([oracle(model, {"x": x})[0] for x in test])
    found = np.asarray(hec.simulate(plan, test))
    assert rms_error(found.reshape(exact.shape), exact) < 0.06
    agreement = np.mean(found.reshape(100, 10).argmax(axis=1) == exact[:, 0].argmax(axis=1))
    assert agreement >= 0.93


def test_bootstraps_compare_too() -> None:
    model, samples = classifier()
    graph = import_onnx(model, APPROXIMATE).graph
    given = {"x": samples.reshape(300, -1).astype(np.float64)}
    after = run_tensor_passes(
        graph, Target(degree=31), Calibration(given, margin=1.1), REFRESHING_PASSES
    )
    test = {"x": random(100, 36, seed=8).astype(np.float64)}
    exact = evaluate(graph, test)[graph.outputs[0].operand]
    (output,) = after.outputs
    found = evaluate(after, test)[output.operand] * output.factor
    assert 0.001 < rms_error(found, exact) < 0.04


def test_a_real_network_keeps_its_classes_when_bootstraps_compare(
    models: Path, mnist_calibration: NDArray[np.float32], mnist_test: NDArray[np.float32]
) -> None:
    graph = import_onnx(models / "cntk-mnist-op8.onnx", APPROXIMATE).graph
    given = Calibration({"Input3": flat(mnist_calibration[:64])}, margin=1.1)
    after = run_tensor_passes(graph, Target(degree=31), given, REFRESHING_PASSES)
    bootstraps = [x for x in after.operations if isinstance(x, Bootstrap)]
    assert len(bootstraps) == 8  # two ReLUs, two rounds of 2x2, four of 3x3
    model = onnx.load(models / "cntk-mnist-op8.onnx")
    exact = np.stack([oracle(model, {"Input3": x[None]})[0][0] for x in mnist_test])
    (output,) = after.outputs
    found = evaluate(after, {"Input3": flat(mnist_test)})[output.operand] * output.factor
    np.testing.assert_array_equal(found.argmax(axis=1), exact.argmax(axis=1))
    assert 0.001 < rms_error(found, exact) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("target", "agreement"), [(APPROXIMATE, 1.0), (AVERAGE, 0.95)])
@pytest.mark.filterwarnings("ignore:averages in place of MaxPool")
def test_a_real_network_in_the_simulator(
    target: Target,
    agreement: float,
    models: Path,
    mnist_calibration: NDArray[np.float32],
    mnist_test: NDArray[np.float32],
) -> None:
    target = replace(target, backend="openfhe")
    plan = hec.compile(models / "cntk-mnist-op8.onnx", mnist_calibration, target)
    model = ClearModel.of_plan(plan)
    found = check(plan, model, CheckData(mnist_test))
    assert found.passed and (found.outputs[0].agreement or 0.0) >= agreement


@pytest.mark.encrypted
def test_a_network_with_a_pool_on_real_ciphertexts() -> None:
    model, samples = classifier()
    target = Target(backend="tenseal", maxpool="approximate", degree=7)
    plan = hec.compile(model, samples, target)
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    test = random(3, 1, 1, 6, 6, seed=9)
    simulated = np.asarray(hec.simulate(plan, test)).reshape(3, 10)
    for x, near in zip(test, simulated, strict=True):
        found = np.asarray(client.decrypt(server.run(client.encrypt(x)))).ravel()
        assert np.abs(found - near).max() < 2 * 2.0**-plan.client.precision
        (exact,) = oracle(model, {"x": x})
        assert rms_error(found, exact[0]) < 0.15
