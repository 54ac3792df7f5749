"""How far encrypted predictions are from the network's own: every network, simulated and real.

python bench/accuracy.py [MODEL ...] --data FOLDER

Each network in a process of its own, so that its peak memory is its own. Interrupted runs resume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import hec
import rows
import session
from hec.compiler.ckks_ir import Output
from hec.compiler.plan_forecast import forecast_of
from hec.runtime.simulate import run_clear
from models import data_folder, select

FEW = 100  # samples on which the error of encryption alone is simulated
NETWORK = rows.Column("network", "model")
TABLES = {
    "Accuracy": [
        NETWORK,
        rows.Column("activations", "activations"),
        rows.Column("simulated samples", "simulated_samples", rows.whole),
        rows.Column("agreement %", "agreement", rows.percent),
        rows.Column("top-1 %", "accuracy", rows.percent),
        rows.Column("clear top-1 %", "clear_accuracy", rows.percent),
        rows.Column("rms of outputs", "output_rms"),
        rows.Column("rms error, simulated", "simulated_error"),
        rows.Column("rms error, encrypted", "encrypted_error"),
        rows.Column("of encryption alone: forecast", "noise_forecast"),
        rows.Column("simulated", "noise_simulated"),
        rows.Column("measured", "noise_measured"),
        rows.Column("promised bits", "promised_bits", rows.tenths),
        rows.Column("bits kept, worst", "kept_bits", rows.tenths),
        rows.Column("encrypted agree", "encrypted_agreement"),
    ],
    "Cost": [
        NETWORK,
        rows.Column("compile s", "compile_seconds"),
        rows.Column("ring degree", "ring_degree", rows.whole),
        rows.Column("levels", "levels", rows.whole),
        rows.Column("modulus bits", "modulus_bits", rows.whole),
        rows.Column("keys s", "key_seconds"),
        rows.Column("predict s", "run_seconds"),
        rows.Column("peak MB", "peak_bytes", rows.megabytes),
        rows.Column("keys MB", "key_bytes", rows.megabytes),
        rows.Column("request MB", "request_bytes", rows.megabytes),
        rows.Column("reply MB", "reply_bytes", rows.megabytes),
    ],
}


def measure(name: str, folder: Path, backend: str, simulated: int, encrypted: int) -> rows.Row:
    """Compile, simulate `simulated` samples, encrypt `encrypted` of them; compare."""
    (model,) = select([name])
    samples = model.samples(folder)
    test = samples.test[:simulated]
    plan, compile_seconds = session.compile_model(model, folder, samples, backend)
    clear = session.clear_outputs(folder / "models" / model.path, test)
    predicted = session.as_matrix(hec.simulate(plan, test), len(test))
    row: rows.Row = {
        "activations": model.activations,
        "compile_seconds": compile_seconds,
        "simulated_samples": len(test),
        "agreement": session.agreement(predicted, clear),
        "simulated_error": session.rms(predicted - clear),
        "output_rms": session.rms(clear),
        **session.parameters(plan),
    }
    few = test[:FEW]
    exact = session.as_matrix(run_clear(plan, few).outputs, len(few))
    row["noise_forecast"] = _forecast_error(plan)
    row["noise_simulated"] = session.rms(predicted[: len(few)] - exact)
    if samples.labels is not None:
        labels = samples.labels[:simulated]
        row["accuracy"] = float((predicted.argmax(axis=1) == labels).mean())
        row["clear_accuracy"] = float((clear.argmax(axis=1) == labels).mean())
    if encrypted:
        row |= _encrypted(plan, test[:encrypted], clear[:encrypted])
    return row | {"peak_bytes": session.peak_bytes()}


def _forecast_error(plan: hec.Plan) -> float:
    """Return the root mean square of the error that encryption adds to the outputs, predicted."""
    deviations = forecast_of(plan.server).deviations
    values = zip(plan.server.program.instructions, deviations, strict=True)
    return max(found * abs(x.factor) for x, found in values if isinstance(x, Output))


def _encrypted(
    plan: hec.Plan,
    test: session.NDArray[np.float32],
    clear: session.Array,
) -> rows.Row:
    exact = session.as_matrix(run_clear(plan, test).outputs, len(test))
    client, key_seconds = session.timed(lambda: hec.Client(plan))
    keys = client.evaluation_keys()
    key_bytes = len(keys)
    server = hec.Server(plan, keys, workers=1)
    del keys  # the server has its own copy: gigabytes, for the deepest network
    outputs, seconds = [], []
    for sample in test:
        request = client.encrypt(sample[None])
        reply, elapsed = session.timed(lambda request=request: server.run(request))
        outputs.append(session.as_matrix(client.decrypt(reply), 1)[0])
        seconds.append(elapsed)
    found = np.stack(outputs)
    return {
        "encrypted_error": session.rms(found - clear),
        "noise_measured": session.rms(found - exact),
        "promised_bits": plan.client.precision,
        "kept_bits": float(-np.log2(np.abs(found - exact).max())),
        "encrypted_agreement": f"{(found.argmax(1) == clear.argmax(1)).sum()}/{len(test)}",
        "run_seconds": float(np.median(seconds)),
        "key_seconds": key_seconds,
        "key_bytes": key_bytes,
        "request_bytes": len(request),
        "reply_bytes": len(reply),
    }


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names; all without any")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    backend: str = "auto",
    simulated: Annotated[int, typer.Option(help="samples in the simulator")] = 1000,
    encrypted: Annotated[int, typer.Option(help="samples on real ciphertexts")] = 3,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure agreement, error, memory and sizes of each network."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, backend, simulated, encrypted))
        return
    options = {"data": folder, "backend": backend, "simulated": simulated, "encrypted": encrypted}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    names = [model.name for model in select(models or [], "accuracy")]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show(TABLES, table, out / "accuracy.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
