"""Products of encrypted tensors on real ciphertexts: a normalization, and a head of attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hec
from hec.compiler.target import Target
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear
from onnx_oracle import network, node, oracle, random
from test_passes_products import FEATURES, TOKENS, attention

pytestmark = pytest.mark.encrypted

Array = NDArray[np.float64]
FITTED = 0.05  # root mean square error of fitted activations, of outputs up to 3


def normalization() -> Any:
    """Return a model of LayerNormalization between two layers."""
    nodes = [
        node("MatMul", "x,w", "hidden"),
        node("LayerNormalization", "hidden,s,h", "normal"),
        node("MatMul", "normal,o"),
    ]
    weights = {"w": random(8, 8), "s": random(8) / 4 + 1, "h": random(8) / 4, "o": random(8, 3) / 3}
    return network(nodes, {"x": (1, 4, 8)}, weights)


def inputs(count: int, shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(count, *shape))


MODELS = {
    "normalization": (normalization(), (1, 4, 8), None),
    "attention": (attention(0.05), (1, TOKENS, FEATURES), 3),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_a_product_of_ciphertexts_keeps_the_promise(name: str) -> None:
    model, shape, degree = MODELS[name]
    plan = hec.compile(model, inputs(256, shape, 0), Target(backend="tenseal", degree=degree))
    client = Client(plan)
    server = Server(plan, client.evaluation_keys())
    x = inputs(1, shape, 9)
    found = np.asarray(client.decrypt(server.run(client.encrypt(x[0]))), np.float64)
    clear = run_clear(plan, x.reshape(1, -1)).raw["y"].reshape(found.shape)
    assert np.abs(found - clear).max() < 2.0**-plan.client.precision
    (wanted,) = oracle(model, {"x": x[0].astype(np.float32)})
    assert np.sqrt(np.mean((found - wanted) ** 2)) < FITTED
