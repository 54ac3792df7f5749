"""What only the server's part of a plan tells: layers, seconds, memory, errors, bootstraps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from hec.compiler.activation_report import ActivationReport, activation_report
from hec.compiler.ckks_ir import Bootstrap, Input, LinearTransform, Output, Program, RotateSum
from hec.compiler.cost import bootstrap_seconds
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.forecast import CONFIDENCE, bootstrap_count
from hec.compiler.layer_report import LayerReport, layer_reports
from hec.compiler.memory import server_memory
from hec.compiler.noise import bootstrapping
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.plan_parts import ServerPart
from hec.compiler.program_depth import depth
from hec.compiler.worker_memory import worker_bytes
from hec.compiler.worker_schedule import best_schedule


@dataclass(frozen=True)
class BootstrapReport:
    """How ciphertexts are refreshed."""

    count: Annotated[int, "of one prediction"]
    levels: Annotated[tuple[int, int], "of CoeffsToSlots, and of SlotsToCoeffs"]
    degrees: Annotated[tuple[int, ...], "of the series, each once"]
    slots: Annotated[int, "that one bootstrap refreshes"]
    digits: Annotated[int, "of key switching"]
    seconds_each: Annotated[tuple[float, ...], "for each of `degrees`"]
    error: Annotated[float, "standard deviation of the argument, of a range of width 1"]


@dataclass(frozen=True)
class SecondsReport:
    """Where the seconds of one prediction go."""

    matrices: Annotated[float, "in matrices, rotations included"]
    bootstraps: Annotated[float, "in bootstraps"]
    messages: Annotated[float, "in reading inputs and writing outputs: in no layer"]
    other: Annotated[float, "in all else: polynomials, products, sums, rescaling"]


@dataclass(frozen=True)
class MemoryReport:
    """Bytes that the server holds at its peak."""

    keys: Annotated[int, "evaluation keys"]
    bootstrapping: Annotated[int, "encoded matrices of the bootstrap"]
    working: Annotated[int, "ciphertexts at work, and the process itself"]
    loading: Annotated[int, "the process and the file of keys, while that is read; 0: not counted"]
    diagonals: Annotated[int, "encoded weights; a server short of memory keeps fewer"]
    least: Annotated[int, "the peak without encoded weights"]
    peak: Annotated[int, "the peak with all of them"]


@dataclass(frozen=True)
class CoresReport:
    """One prediction by several processes, on a core each."""

    cores: Annotated[int, "how many"]
    seconds: Annotated[float, "of one prediction"]
    bytes: Annotated[int, "that the processes take beside the peak of one"]


@dataclass(frozen=True)
class CalibrationReport:
    """What the compiled network did on the calibration samples, in the clear."""

    samples: Annotated[int, "how many"]
    agreement: Annotated[
        float | None, "share that keep the network's class; null: no output tells one"
    ]
    error: Annotated[float, "of the outputs from fitted activations, as a share of their rms"]


@dataclass(frozen=True)
class ServerReport:
    """What only the server's part of a plan tells."""

    layers: Annotated[tuple[LayerReport, ...], "in the order of execution"]
    activations: Annotated[tuple[ActivationReport, ...], "those that are fitted"]
    seconds: Annotated[float, "of one prediction"]
    costs: Annotated[str, "whose seconds: threads, name and machine of the table of costs"]
    depth: Annotated[int, "rescalings on the longest way to an output, bootstraps or not"]
    seconds_by_kind: Annotated[SecondsReport, "where the seconds go"]
    plaintext_bytes: Annotated[int, "encoded weights in memory, of all layers"]
    memory: Annotated[MemoryReport, "that a server takes"]
    rotations: Annotated[int, "of all layers, as counted there"]
    key_switches: Annotated[int, "of all layers, as counted there"]
    encryption_error: Annotated[float, "largest of any output, predicted, in its units"]
    confidence: Annotated[float, "standard deviations that this error and `precision_bits` cover"]
    calibration: Annotated[
        CalibrationReport | None, "what came out on the calibration samples; null: not known"
    ]
    bootstraps: Annotated[BootstrapReport | None, "null: nothing is refreshed"]
    reason: Annotated[str, "why this backend and this way"]
    on_cores: Annotated[
        tuple[CoresReport, ...], "on 2, 4, 8 cores, where more are faster; none on OpenFHE"
    ]


def server_report(server: ServerPart, table: CostTable = REFERENCE) -> ServerReport:
    """Return what the Program costs, layer by layer."""
    program = server.program
    predicted = forecast_of(server, table)
    layers, held = layer_reports(server, predicted), server_memory(program)
    return ServerReport(
        layers=layers,
        activations=tuple(activation_report(item.label, item.fit) for item in server.fits),
        seconds=predicted.total_seconds,
        costs=table.told("openfhe" if program.parameters.digits else "tenseal"),
        depth=depth(program),
        seconds_by_kind=_seconds_by_kind(program, predicted.seconds),
        plaintext_bytes=sum(layer.plaintext_bytes for layer in layers),
        memory=MemoryReport(**asdict(held), least=held.least, peak=held.peak),
        rotations=sum(layer.rotations for layer in layers),
        key_switches=sum(layer.key_switches for layer in layers),
        encryption_error=predicted.output_error,
        confidence=CONFIDENCE,
        calibration=_calibration(server),
        bootstraps=_bootstraps(program, table),
        reason=server.reason,
        on_cores=tuple(_on_cores(program, table)),
    )


def _on_cores(program: Program, table: CostTable) -> Iterator[CoresReport]:
    known = 1
    for cores in (2, 4, 8):
        schedule = best_schedule(program, cores, table=table)
        if schedule is not None and schedule.workers > known:
            known = schedule.workers
            more = worker_bytes(program, schedule)
            yield CoresReport(known, schedule.total_seconds, more)


def _calibration(server: ServerPart) -> CalibrationReport | None:
    found = server.calibrated
    if found is None:
        return None
    return CalibrationReport(found.samples, found.agreement, found.error)


def _seconds_by_kind(program: Program, seconds: Sequence[float]) -> SecondsReport:
    pairs = list(zip(program.instructions, seconds, strict=True))
    matrices = sum(s for x, s in pairs if isinstance(x, LinearTransform | RotateSum))
    bootstraps = sum(s for x, s in pairs if isinstance(x, Bootstrap))
    messages = sum(s for x, s in pairs if isinstance(x, Input | Output))
    rest = sum(seconds) - matrices - bootstraps - messages
    return SecondsReport(matrices, bootstraps, messages, max(0.0, rest))


def _bootstraps(program: Program, table: CostTable) -> BootstrapReport | None:
    parameters = program.parameters
    how, count = parameters.bootstrapping, bootstrap_count(program)
    if how is None or not count:
        return None
    series = [x.coefficients for x in program.instructions if isinstance(x, Bootstrap)]
    degrees = tuple(sorted({coefficients.shape[1] - 1 for coefficients in series}))
    return BootstrapReport(
        count,
        how.levels,
        degrees,
        how.slots,
        parameters.digits,
        tuple(bootstrap_seconds(parameters, degree, table) for degree in degrees),
        bootstrapping(parameters),
    )
