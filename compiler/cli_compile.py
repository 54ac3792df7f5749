"""`hec compile`: from a network to a plan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hec.compiler.cli_terminal import duration, progress, show_facts, show_json, size

if TYPE_CHECKING:
    from hec.compiler.cli_options import CompileOptions
    from hec.compiler.plan import Plan


MaxError = Annotated[
    float | None,
    typer.Option(help="of fitted activations at the outputs, share of their rms [0.1]"),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(help="instead: share of the calibration samples that keep their top-1 [0.99]"),
]
Degree = Annotated[int | None, typer.Option(help="one degree for every fitted activation, 2 to 31")]
Precision = Annotated[
    float | None,
    typer.Option(help="bits: -log2 of the outputs' absolute error [8 below their range]"),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--input", help="NAME=SHAPE, fixes dynamic axes; may be repeated"),
]

MaxPool = Annotated[
    str | None, typer.Option(help="approximate or average: what stands for MaxPool [refused]")
]
ClientOnly = Annotated[
    Path | None, typer.Option(help="write the part without weights, for the data owner, too")
]
Advice = Annotated[
    bool, typer.Option("--advice", help="compile what could be changed, too, and tell what pays")
]
Annotation = Annotated[
    Path | None, typer.Option(help="write the network with levels and costs for Netron, .onnx")
]
Batch = Annotated[
    int, typer.Option(help="images that are predicted together: more in a second, each later")
]
MaxRam = Annotated[str | None, typer.Option(help="memory of the server, such as 16G [any]")]


def compile(
    model: Annotated[Path, typer.Argument(help="the network, an .onnx file")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the plan to write")],
    calibration: Annotated[
        Path | None, typer.Option(help="samples, .npz by input name or .npy, batch axis first")
    ] = None,
    max_error: MaxError = None,
    min_agreement: MinAgreement = None,
    degree: Degree = None,
    precision: Precision = None,
    security: Annotated[int, typer.Option(help="128, 192 or 256 bits")] = 128,
    backend: Annotated[str, typer.Option(help="auto, tenseal or openfhe")] = "auto",
    inputs: Shapes = None,
    input_range: Annotated[
        str | None, typer.Option(help="LO,HI of the inputs, without calibration [-1,1]")
    ] = None,
    max_ram: MaxRam = None,
    maxpool: MaxPool = None,
    batch: Batch = 1,
    client_only: ClientOnly = None,
    advice: Advice = False,
    annotate: Annotation = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compile a network to a plan for encrypted prediction.

    \b
    Example:
      hec compile model.onnx -o model.hec --calibration samples.npz
    """
    from hec.compiler.cli_files import check_distinct, check_output
    from hec.compiler.cli_options import CompileOptions

    options = CompileOptions(
        backend, security, precision, max_error, degree, inputs or (), input_range,
        calibration is not None, max_ram, maxpool, min_agreement, batch,
    )  # fmt: skip
    outputs = {"-o": output, "--client-only": client_only, "--annotate": annotate}
    for option, path in outputs.items():
        if path is not None:
            check_output(path, [model, calibration], option)
    check_distinct(list(outputs.values()))
    start = time.perf_counter()
    plan = _plan(model, calibration, options, advice)
    plan.save(output)
    if client_only is not None:
        plan.save_client(client_only)
    _annotate(plan, model, annotate)
    _tell(plan, output, time.perf_counter() - start, as_json)


def _annotate(plan: Plan, model: Path, output: Path | None) -> None:
    from hec.compiler.annotate import annotate

    if output is not None:
        annotate(plan, model, output)


def _plan(model: Path, calibration: Path | None, options: CompileOptions, advise: bool) -> Plan:
    from hec.compiler import pipeline
    from hec.compiler.cli_advice import compile_with_advice
    from hec.compiler.cli_arrays import load_arrays
    from hec.compiler.cli_options import target_of

    target = target_of(options)
    samples = None if calibration is None else load_arrays(calibration)
    if advise:
        return compile_with_advice(model, samples, target)
    with progress() as show:
        show("import", 0, 0)
        return pipeline.compile(model, samples, target, lambda step: show(step, 0, 0))


def _forecast(seconds: float, batch: int, threads: str) -> str:
    """Tell how long predictions take: one, or all that share ciphertexts."""
    if batch == 1:
        return f"{duration(seconds)} for one prediction, {threads}"
    return (
        f"{duration(seconds)} for {batch} images at once: {duration(seconds / batch)} each,"
        f" {batch / seconds:.3g} in a second, {threads}"
    )


def _tell(plan: Plan, output: Path, seconds: float, as_json: bool) -> None:
    from hec.compiler.cli_advice import plain, show_advice
    from hec.compiler.report import report

    told = report(plan)
    predicted = told.server.seconds if told.server else 0.0
    if as_json:
        show_json(
            {
                "plan": str(output),
                "plan_id": told.plan_id,
                "bytes": output.stat().st_size,
                "compile_seconds": seconds,
                "backend": told.backend,
                "ring_degree": told.parameters.ring_degree,
                "depth": told.depth,
                "security_bits": told.parameters.security_bits,
                "precision_bits": told.precision_bits,
                "forecast_seconds": predicted,
                "batch": told.parameters.batch,
                "forecast_seconds_per_image": predicted / told.parameters.batch,
                "reason": told.server.reason if told.server else "",
                "keys": told.keys,
                "key_bytes": told.key_bytes,
                "advice": None if plan.server.advice is None else plain(plan.server.advice),
            }
        )
        return
    show_facts(
        [
            ("plan", f"{output}, {size(output.stat().st_size)}, made in {duration(seconds)}"),
            (
                "parameters",
                f"ring degree {told.parameters.ring_degree}, depth {told.depth}, "
                f"{told.parameters.security_bits}-bit security",
            ),
            ("promise", f"outputs exact to {2.0**-told.precision_bits:.3g}"),
            ("backend", f"{told.backend}: {told.server.reason if told.server else ''}"),
            ("forecast", _forecast(predicted, told.parameters.batch, told.threads)),
            ("next", f"hec check {output} --data samples.npz"),
        ]
    )
    if plan.server.advice is not None:
        show_advice(plan.server.advice)
