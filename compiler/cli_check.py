"""`hec check`: a plan against its network, on the user's data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hec.compiler.cli_errors import CHECK_FAILED
from hec.compiler.cli_terminal import (
    duration,
    interval,
    progress,
    share,
    show_facts,
    show_json,
    show_table,
    size,
)

if TYPE_CHECKING:
    from hec.compiler.check import BootstrapCheck, Check, OutputCheck
    from hec.compiler.encrypted_check import EncryptedCheck


def check(
    plan: Annotated[Path, typer.Argument(help="the plan, with its weights")],
    data: Annotated[
        Path, typer.Option(help="samples, .npz by input name or .npy, batch axis first")
    ],
    labels: Annotated[Path | None, typer.Option(help="the class of each sample, .npy")] = None,
    encrypted: Annotated[int, typer.Option(help="so many samples on real ciphertexts, too")] = 0,
    model: Annotated[
        Path | None, typer.Option(help="the network, instead of the copy in the plan")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare a plan's predictions with its network's.

    All samples are predicted in the simulator. A check fails if values overflow or wrap around in
    a bootstrap, or if real ciphertexts do not keep the precision that the plan promises; the exit
    code is 1 then.

    \b
    Example:
      hec check model.hec --data samples.npz --labels y.npy --encrypted 3
    """
    found = _check(plan, (data, labels), encrypted, model)
    if as_json:
        show_json({**asdict(found), "passed": found.passed})
    else:
        show_facts(_facts(found))
        if found.activations:
            show_table("\nFitted activations", _COLUMNS, _activations(found))
    if not found.passed:
        raise typer.Exit(CHECK_FAILED)


def _check(
    path: Path, files: tuple[Path, Path | None], encrypted: int, model: Path | None
) -> Check:
    from hec.compiler.check import CheckData
    from hec.compiler.check import check as run_check
    from hec.compiler.clear_model import ClearModel
    from hec.compiler.cli_arrays import load_array, load_arrays
    from hec.compiler.errors import fail
    from hec.compiler.plan import Plan

    if encrypted < 0:
        raise fail(
            "a number of encrypted predictions cannot be negative",
            f"--encrypted {encrypted}",
            "give 0 or more",
        )
    with progress() as show:
        show("load", 0, 0)
        plan = Plan.load(path)
        data, labels = files
        read = CheckData(
            load_arrays(data), None if labels is None else load_array(labels, "labels")
        )
        clear = ClearModel.of_plan(plan) if model is None else ClearModel.of_file(model)
        return run_check(plan, clear, read, encrypted, show)


def _facts(found: Check) -> list[tuple[str, str]]:
    facts = [("samples", str(found.samples))]
    for output in found.outputs:
        facts += _output_facts(output)
    if found.accuracy is not None:
        text = f"{share(found.accuracy)}; the network itself {share(found.model_accuracy)}"
        facts.append(("accuracy", text))
    outside = "not known: the plan was made without calibration"
    if found.outside is not None:
        outside = f"{share(found.outside)} of the samples leave the calibrated interval"
    facts.append(("range", outside))
    facts.append(("overflows", f"{found.overflows} values" if found.overflows else "none"))
    if found.bootstraps is not None:
        facts += _bootstrap_facts(found.bootstraps, found.samples)
    if found.encrypted is not None:
        facts += _encrypted_facts(found.encrypted, found.precision_bits)
    facts.append(("result", "passed" if found.passed else "FAILED"))
    return facts


_COLUMNS = ("layer", "function", "fitted on", "samples outside", "bounded on", "outside that")


def _activations(found: Check) -> list[tuple[str, ...]]:
    return [
        (
            x.nodes,
            x.function,
            interval(x.interval),
            "-" if x.outside is None else str(x.outside),
            interval(x.bounded),
            "-" if x.unbounded is None else str(x.unbounded),
        )
        for x in found.activations
    ]


def _bootstrap_facts(found: BootstrapCheck, samples: int) -> list[tuple[str, str]]:
    wrapped = "no sample wrapped around"
    if found.wrapped:
        wrapped = f"{found.wrapped} of {samples} samples wrapped around in a bootstrap"
    return [("bootstraps", f"{found.count} for one prediction; {wrapped}")]


def _output_facts(output: OutputCheck) -> list[tuple[str, str]]:
    error = output.encryption_error
    facts = [
        ("output", f"'{output.name}'"),
        ("  agreement", f"{share(output.agreement)} have the network's top-1 (simulated)"),
        ("  encryption", f"error {error.max:.3g} at most, {error.rms:.3g} rms (simulated)"),
    ]
    if output.agreement is None:
        facts[1] = ("  agreement", "not known: this output tells no class")
    if output.model_error is not None:
        error = output.model_error
        text = f"error {error.max:.3g} at most, {error.rms:.3g} rms against onnxruntime"
        facts.append(("  in all", f"{text}, whose rms is {output.model_rms:.3g}"))
    return facts


def _encrypted_facts(found: EncryptedCheck, precision: float) -> list[tuple[str, str]]:
    kept = "kept" if found.kept else "NOT KEPT"
    seconds = sum(found.seconds) / found.runs  # a batch shares its own
    return [
        ("encrypted", f"{found.runs} predictions, {duration(seconds)} each, "
         f"keys in {duration(found.key_seconds)}"),
        ("  agreement", share(found.agreement)),
        ("  error", f"{found.error.max:.3g} at most, {found.error.rms:.3g} rms"),
        ("  promise", f"{2.0**-precision:.3g} at most: {kept}"),
        ("  sizes", f"keys {size(found.key_bytes)}, request {size(found.request_bytes)}, "
         f"reply {size(found.reply_bytes)}"),
        ("  memory", f"{size(found.peak_bytes)} at most, client and server together"),
    ]  # fmt: skip
