"""Deep networks, whose activations are evaluated by functional bootstraps on OpenFHE.

python bench/deep.py [MODEL ...] --data FOLDER --simulated 2000 --encrypted 1

Compiles and simulates each network in a process of its own; then the client makes keys and
encrypts, and the server predicts, each as a process of its own too, so that its peak is its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import hec
import rows
import session
from hec.compiler.forecast import CONFIDENCE
from hec.compiler.memory import DEFAULT_MAX_RAM
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.report import report
from hec.runtime.simulate import run_clear, run_simulated
from models import data_folder, select
from serving import serve

GIGA = 1e9
NOISE_SAMPLES = 100  # on which the simulator's noise is told from the error of the fits
NETWORK = rows.Column("network", "model")


def _gigabytes(number: float) -> str:
    return f"{number / GIGA:.2f}"


TABLES = {
    "Agreement": [
        NETWORK,
        rows.Column("simulated", "simulated_samples", rows.whole),
        rows.Column("agreement %", "agreement", rows.percent),
        rows.Column("top-1 %", "accuracy", rows.percent),
        rows.Column("clear top-1 %", "clear_accuracy", rows.percent),
        rows.Column("samples outside", "outside", rows.whole),
        rows.Column("samples wrapped", "wrapped", rows.whole),
        rows.Column("rms of logits", "output_rms"),
        rows.Column("rms error, simulated", "simulated_error"),
        rows.Column("encrypted agree", "encrypted_agreement"),
        rows.Column("rms error, encrypted", "encrypted_error"),
        rows.Column("promised bits", "promised_bits", rows.tenths),
        rows.Column("rms of encryption, forecast", "forecast_error"),
        rows.Column("simulated", "noise_simulated"),
        rows.Column("measured", "noise_measured"),
        rows.Column("bits kept, worst", "kept_bits", rows.tenths),
    ],
    "Cost": [
        NETWORK,
        rows.Column("compile s", "compile_seconds", rows.tenths),
        rows.Column("ring", "ring_degree", rows.whole),
        rows.Column("levels", "levels", rows.whole),
        rows.Column("modulus bits", "modulus_bits", rows.whole),
        rows.Column("bootstraps", "bootstraps", rows.whole),
        rows.Column("forecast s", "forecast_seconds", rows.tenths),
        rows.Column("server s", "run_seconds", rows.tenths),
        rows.Column("cpu s", "cpu_seconds", rows.tenths),
        rows.Column("fastest", "run_fastest", rows.tenths),
        rows.Column("slowest", "run_slowest", rows.tenths),
        rows.Column("forecast GB", "forecast_bytes", _gigabytes),
        rows.Column("server peak GB", "server_peak_bytes", _gigabytes),
        rows.Column("keys GB", "key_bytes", _gigabytes),
        rows.Column("keygen s", "key_seconds", rows.tenths),
        rows.Column("load s", "load_seconds", rows.tenths),
        rows.Column("request MB", "request_bytes", rows.megabytes),
        rows.Column("reply MB", "reply_bytes", rows.megabytes),
    ],
}


def measure(name: str, folder: Path, simulated: int, encrypted: int) -> rows.Row:
    """Compile, simulate `simulated` samples, encrypt `encrypted` of them; compare."""
    (model,) = select([name])
    samples = model.samples(folder)
    test = samples.test[:simulated]
    clear = session.clear_outputs(folder / "models" / model.path, test)
    plan, compile_seconds = session.compile_model(model, folder, samples, "openfhe")
    found = report(plan)
    row: rows.Row = {"compile_seconds": compile_seconds, **session.parameters(plan)}
    if found.server is not None:
        row |= {
            "forecast_seconds": found.server.seconds,
            "forecast_bytes": min(found.server.memory.peak, DEFAULT_MAX_RAM),
            "bootstraps": found.server.bootstraps.count if found.server.bootstraps else 0,
            "forecast_error": _forecast_error(plan),
        }
    row |= _simulated(plan, test, clear)
    if samples.labels is not None:
        row["clear_accuracy"] = float((clear.argmax(1) == samples.labels[:simulated]).mean())
    with tempfile.TemporaryDirectory(prefix="hec-bench-") as scratch:
        plan_file = Path(scratch) / "model.hec"
        plan.save(plan_file)
        if encrypted:
            exact = session.as_matrix(run_clear(plan, test[:encrypted]).outputs, encrypted)
            del plan, samples  # the processes to come need the memory
            row |= _encrypted(plan_file, test[:encrypted], clear[:encrypted], exact)
    return row


def _simulated(plan: hec.Plan, test: session.NDArray[np.float32], clear: session.Array) -> rows.Row:
    simulation = run_simulated(plan, test)
    predicted = session.as_matrix(simulation.outputs, len(test))
    few = test[:NOISE_SAMPLES]
    exact = session.as_matrix(run_clear(plan, few).outputs, len(few))
    return {
        "noise_simulated": session.rms(predicted[: len(few)] - exact),
        "simulated_samples": len(test),
        "agreement": session.agreement(predicted, clear),
        "outside": sum(outside for outside, _ in filter(None, simulation.exceedances)),
        "wrapped": simulation.wrapped,
        "simulated_error": session.rms(predicted - clear),
        "output_rms": session.rms(clear),
        "promised_bits": plan.client.precision,
    }


def _forecast_error(plan: hec.Plan) -> float:
    """Return the root mean square error that encryption is predicted to add to the outputs."""
    server = plan.server
    predicted = forecast_of(server)
    return predicted.output_error / CONFIDENCE


def _encrypted(
    plan: Path, test: session.NDArray[np.float32], clear: session.Array, exact: session.Array
) -> rows.Row:
    """Run client and server on the files of a plan, as its users do."""
    served = serve(plan, test)
    outputs = served.outputs
    return {
        **served.measured,
        "run_seconds": float(np.median(served.seconds)),
        "run_fastest": float(served.seconds.min()),
        "run_slowest": float(served.seconds.max()),
        "key_seconds": served.key_seconds,
        "encrypted_agreement": f"{(outputs.argmax(1) == clear.argmax(1)).sum()}/{len(test)}",
        "encrypted_error": session.rms(outputs - clear),
        "noise_measured": session.rms(outputs - exact),
        "kept_bits": float(-np.log2(np.abs(outputs - exact).max())),
    }


def main(
    models: Annotated[list[str] | None, typer.Argument(help="names; all without any")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
    simulated: Annotated[int, typer.Option(min=1, help="samples in the simulator")] = 2000,
    encrypted: Annotated[int, typer.Option(help="samples on real ciphertexts")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("bench/results"),
    again: Annotated[bool, typer.Option("--again", help="forget earlier rows")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure agreement, error, time and memory of each deep network."""
    folder = data_folder(data)
    if child:
        rows.hand_over(measure(child, folder, simulated, encrypted))
        return
    arguments = [f"--data={folder}", f"--simulated={simulated}", f"--encrypted={encrypted}"]
    names = [model.name for model in select(models or [], "deep")]
    table = rows.measure_each(Path(__file__), names, arguments, out, again)
    rows.show(TABLES, table, out / "deep.md")
    raise typer.Exit(code=any("error" in row for row in table))


if __name__ == "__main__":
    typer.run(main)
