"""The ladder: onnxruntime, graph, Program in the clear, simulator, ciphertexts; rung by rung.

Every rung has an absolute tolerance of its own, so that an error names the arrow that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import hec
from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_import import import_onnx
from hec.compiler.plan import Plan
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Input, TensorGraph
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear, run_simulated

Array = NDArray[np.floating]
ROOT = Path(__file__).resolve().parent.parent
FLOAT32 = 1e-4  # absolute, of outputs up to a few tens: onnxruntime computes in float32
SAMPLES = 32


@dataclass(frozen=True)
class Rung:
    """A model, its inputs, and how far its plan in the clear may be from the model."""

    path: str
    inputs: str
    degree: int | None = None  # of fitted activations
    fitted: float = 0.0  # their root mean square error at the outputs; 0: the plan is exact


MODELS = {
    "lola": Rung("hec/demo/lola.onnx", "normalized"),
    "tenseal": Rung("tests/data/tenseal-convmnist-square.onnx", "normalized"),
    "heman": Rung("tests/data/heman-mnist-small-relu.onnx", "pixels", 7, 0.8),
    "iris": Rung("tests/data/winml-iris.onnx", "iris", 15, 0.25),
}
every_model = pytest.mark.parametrize("name", MODELS)


@lru_cache
def data(kind: str) -> tuple[Array, Array]:
    """Return calibration and test inputs, their first axis counting samples."""
    if kind == "iris":  # the ranges of the four measurements, in cm
        random = np.random.default_rng(0)
        low, high = np.array([4.3, 2.0, 1.0, 0.1]), np.array([7.9, 4.4, 6.9, 2.5])
        values = random.uniform(low, high, (256, 1, 4)).astype(np.float32)
        return values, values[:SAMPLES]
    with np.load(ROOT / "hec" / "demo" / "mnist.npz") as arrays:
        images = arrays["calibration_images"], arrays["test_images"][:SAMPLES]
    calibration, test = ((x[:, None] / 255.0).astype(np.float32) for x in images)
    if kind == "pixels":
        return calibration, test
    return (calibration - 0.1307) / 0.3081, (test - 0.1307) / 0.3081


@lru_cache
def graph_of(name: str) -> TensorGraph:
    return import_onnx(str(ROOT / MODELS[name].path), Target()).graph


@lru_cache
def batched(name: str) -> tuple[Array, Array]:
    """Return calibration and test inputs in the model's own shape."""
    entry = next(x for x in graph_of(name).operations if isinstance(x, Input))
    calibration, test = data(MODELS[name].inputs)
    return (
        calibration.reshape(len(calibration), *entry.shape),
        test.reshape(len(test), *entry.shape),
    )


@lru_cache
def plan_of(name: str) -> Plan:
    model = MODELS[name]
    return hec.compile(ROOT / model.path, batched(name)[0], Target(degree=model.degree))


@lru_cache
def by_onnxruntime(name: str) -> Array:
    """Return the predictions, (samples, elements)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / MODELS[name].path, options)
    feed = session.get_inputs()[0].name
    return np.stack([session.run(None, {feed: x})[0].ravel() for x in batched(name)[1]])


@lru_cache
def in_the_clear(name: str) -> Array:
    """Return what the plan computes without encryption, (samples, elements)."""
    (found,) = run_clear(plan_of(name), batched(name)[1]).outputs.values()
    return found.reshape(SAMPLES, -1)


@every_model
def test_the_graph_is_the_model(name: str) -> None:
    graph, test = graph_of(name), batched(name)[1]
    entry = next(x for x in graph.operations if isinstance(x, Input))
    (output,) = graph.outputs
    values = evaluate(graph, {entry.name: test.reshape(SAMPLES, -1)})
    found = values[output.operand] * output.factor
    np.testing.assert_allclose(found, by_onnxruntime(name), rtol=0, atol=FLOAT32)


@every_model
def test_the_program_in_the_clear_is_the_model(name: str) -> None:
    error = np.abs(in_the_clear(name) - by_onnxruntime(name))
    fitted = MODELS[name].fitted
    if fitted:
        assert FLOAT32 < np.sqrt(np.mean(error**2)) < fitted
    else:
        assert error.max() < FLOAT32


@every_model
def test_the_simulator_keeps_the_promised_precision(name: str) -> None:
    plan = plan_of(name)
    simulation = run_simulated(plan, batched(name)[1])
    (found,) = simulation.outputs.values()
    error = np.abs(found.reshape(SAMPLES, -1) - in_the_clear(name))
    assert 0 < error.max() < 2.0**-plan.client.precision
    assert simulation.overflows == 0


@every_model
def test_encryption_will_not_change_the_predicted_class(name: str) -> None:
    (found,) = run_simulated(plan_of(name), batched(name)[1]).outputs.values()
    classes = found.reshape(SAMPLES, -1).argmax(axis=1)
    np.testing.assert_array_equal(classes, by_onnxruntime(name).argmax(axis=1))


@pytest.mark.encrypted
@every_model
def test_ciphertexts_keep_the_promised_precision(name: str) -> None:
    plan = plan_of(name)
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    for sample, expected in zip(batched(name)[1][:2], in_the_clear(name), strict=False):
        found = np.asarray(client.decrypt(server.run(client.encrypt(sample)))).ravel()
        assert np.abs(found - expected).max() < 2.0**-plan.client.precision
