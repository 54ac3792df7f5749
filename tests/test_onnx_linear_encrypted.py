"""Networks with transposed convolutions, interpolation, and norms, up to real ciphertexts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import hec
from hec.compiler.plan import Plan
from hec.compiler.target import Target
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear, run_simulated
from onnx_oracle import network, node, oracle, random

Array = NDArray[np.float32]


def decoder() -> ModelProto:
    """Return a small decoder: an image halved, squared, and brought back to its size twice."""
    nodes = [
        node("Conv", "x,c", "a", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Mul", "a,a", "b"),
        node("ConvTranspose", "b,t,v", "d", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Resize", "d,,s", mode="linear"),
    ]
    constants = {
        "c": random(4, 1, 3, 3) / 3,
        "t": random(4, 2, 4, 4) / 4,
        "v": random(2),
        "s": np.float32([1, 1, 2, 2]),
    }
    return network(nodes, {"x": (1, 1, 8, 8)}, constants)


def norms() -> ModelProto:
    """Return a layer whose outputs are the lengths of vectors of eight."""
    nodes = [
        node("Gemm", "x,w,b", "a"),
        node("Reshape", "a,g", "r"),
        node("ReduceL2", "r", axes=[2], keepdims=0),
    ]
    constants = {"w": random(16, 32) / 4, "b": random(32), "g": [1, 4, 8]}
    return network(nodes, {"x": (1, 16)}, constants)


NETWORKS: dict[str, tuple[Callable[[], ModelProto], float]] = {
    # and how far the plan in the clear may be from onnxruntime, of outputs up to ten
    "decoder": (decoder, 1e-5),
    "norms": (norms, 0.02),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@lru_cache
def samples(name: str) -> Array:
    model = NETWORKS[name][0]()
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return random(256, *shape[1:], seed=7)


@lru_cache
def plan_of(name: str) -> Plan:
    return hec.compile(NETWORKS[name][0](), samples(name), Target(degree=7))


@lru_cache
def in_the_clear(name: str) -> NDArray[np.floating]:
    (found,) = run_clear(plan_of(name), samples(name)[:8]).outputs.values()
    return found.reshape(8, -1)


@every_network
def test_the_plan_in_the_clear_is_the_model(name: str) -> None:
    make, tolerance = NETWORKS[name]
    expected = [oracle(make(), {"x": x[None]})[0].ravel() for x in samples(name)[:8]]
    np.testing.assert_allclose(in_the_clear(name), expected, rtol=0, atol=tolerance)


@every_network
def test_the_simulator_keeps_the_promised_precision(name: str) -> None:
    simulation = run_simulated(plan_of(name), samples(name)[:8])
    (found,) = simulation.outputs.values()
    error = np.abs(found.reshape(8, -1) - in_the_clear(name)).max()
    assert 0 < error < 2.0 ** -plan_of(name).client.precision
    assert simulation.overflows == 0


@pytest.mark.encrypted
@every_network
def test_ciphertexts_keep_the_promised_precision(name: str) -> None:
    plan = plan_of(name)
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    for sample, expected in zip(samples(name)[:2], in_the_clear(name), strict=False):
        found = np.asarray(client.decrypt(server.run(client.encrypt(sample[None])))).ravel()
        assert np.abs(found - expected).max() < 2.0**-plan.client.precision


def test_a_decoder_is_two_matrices_around_a_square() -> None:
    kinds = [type(x).__name__ for x in plan_of("decoder").server.program.instructions]
    assert kinds.count("LinearTransform") == 2
