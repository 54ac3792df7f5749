"""A residual network from graph to prediction on OpenFHE, at 128 bits of security."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fhe_sessions import MARKS
from hec.compiler import pipeline
from hec.compiler.calibration import Calibration
from hec.compiler.ckks_ir import LinearTransform
from hec.compiler.evaluate import evaluate
from hec.compiler.forecast import CONFIDENCE
from hec.compiler.plan import Plan
from hec.compiler.strategies import Strategies
from hec.compiler.target import Target
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear
from residual_networks import IMAGE, normal, residual_network

pytestmark = MARKS
IMAGES = 2


def test_a_residual_network_is_predicted_on_ciphertexts_within_the_promise(tmp_path: Path) -> None:
    graph, calibration = residual_network(), Calibration(normal(64), margin=1.1)
    target, libraries = Target(), pipeline.libraries()
    way = Strategies(graph, calibration, target, libraries, lambda step: None).refreshing()
    pipeline.plan_of(way, "residual").save(tmp_path / "net.hec")
    plan = Plan.load(tmp_path / "net.hec")
    assert plan.client.parameters.security == 128
    matrices = [x for x in plan.server.program.instructions if isinstance(x, LinearTransform)]
    assert any(x.twin for x in matrices) and matrices[-1].twin == 0
    client = Client(Plan.load_client(tmp_path / "net.hec"))
    client.save(tmp_path / "keys")
    server = Server(plan, tmp_path / "keys" / "evaluation.key")
    samples = normal(IMAGES, 7)["x"]
    found = np.concatenate(
        [np.asarray(client.decrypt(server.run(client.encrypt(x.reshape(IMAGE))))) for x in samples]
    )
    exact = run_clear(plan, samples).raw["y"]
    promise = 2.0**-plan.client.precision
    assert np.abs(found - exact).max() < promise
    typical = float(np.sqrt(np.mean((found - exact) ** 2)))
    assert typical > promise / CONFIDENCE / 8  # the promise is not a loose one
    clear = evaluate(graph, {"x": samples})[graph.outputs[0].operand]
    assert (found.argmax(axis=1) == clear.argmax(axis=1)).all()
