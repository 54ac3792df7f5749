"""Batches on real ciphertexts of Microsoft SEAL: answers, and errors as forecast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batch_networks import SAMPLES, exact, plan
from cli_runner import hec
from hec.compiler.check import CheckData, check
from hec.compiler.clear_model import ClearModel
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import run_clear, run_simulated

pytestmark = pytest.mark.encrypted


@pytest.mark.parametrize(("batch", "images"), [(2, 2), (4, 3), (256, 256), (10**6, 300)])
def test_the_answers_are_those_of_the_images(batch: int, images: int) -> None:
    shared = plan(batch)
    client = Client(shared)
    server = Server(shared, client.evaluation_keys())
    x = SAMPLES[:images]
    answer = np.asarray(client.decrypt(server.run(client.encrypt(x))))
    assert answer.shape == (images, 4)
    assert np.abs(answer - exact(x)).max() < 2.0**-shared.client.precision


@pytest.mark.parametrize("batch", [256, 10**6])
def test_errors_are_as_forecast_within_a_bit(batch: int) -> None:
    shared = plan(batch)
    client = Client(shared)
    server = Server(shared, client.evaluation_keys())
    x = SAMPLES[:256]
    clear = run_clear(shared, x).outputs["y"]
    found = np.asarray(client.decrypt(server.run(client.encrypt(x)))) - clear
    simulated = run_simulated(shared, x).outputs["y"] - clear
    measured, predicted = (np.sqrt(np.mean(error**2)) for error in (found, simulated))
    assert abs(np.log2(measured / predicted)) < 1


def test_a_batch_travels_through_files(tmp_path: Path) -> None:
    plan(4).save(tmp_path / "small.hec")
    np.save(tmp_path / "x.npy", SAMPLES[:3])
    np.save(tmp_path / "many.npy", SAMPLES[:9])
    small, keys = tmp_path / "small.hec", tmp_path / "keys"
    lines = (
        ("keygen", small, "-o", keys),
        ("encrypt", small, "--keys", keys, tmp_path / "x.npy", "-o", tmp_path / "x.enc"),
        ("run", small, "--keys", keys / "evaluation.key", tmp_path / "x.enc", "-o",
         tmp_path / "y.enc"),
        ("decrypt", small, "--keys", keys, tmp_path / "y.enc", "-o", tmp_path / "y.npy"),
    )  # fmt: skip
    for line in lines:
        run = hec(*line)
        assert run.exit_code == 0, run.stderr
    assert np.abs(np.load(tmp_path / "y.npy") - exact(SAMPLES[:3])).max() < 2.0**-10
    many = ("encrypt", small, "--keys", keys, tmp_path / "many.npy", "-o", tmp_path / "no.enc")
    assert hec(*many).stderr == (
        "9 samples are more than the 4 that one message carries\n  --> input 'x'\n"
        "  help: encrypt 4 at a time, or compile with a larger --batch\n"
    )


def test_a_check_predicts_batches() -> None:
    shared = plan(4)
    model = ClearModel.of_plan(shared)
    found = check(shared, model, CheckData(SAMPLES), encrypted=6).encrypted
    assert found is not None
    assert found.runs == 6 and len(found.seconds) == 2 and found.kept
