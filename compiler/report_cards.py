"""The essentials of a report: a few numbers with a line of context each."""

from __future__ import annotations

from dataclasses import dataclass

from hec.compiler.quantities import duration, predictions, share, size
from hec.compiler.report import Report
from hec.compiler.server_report import MemoryReport, ServerReport


@dataclass(frozen=True)
class Card:
    """One number, its unit, and what it means."""

    label: str
    value: str  # "": not known
    unit: str
    note: str


@dataclass(frozen=True)
class Part:
    """A part of the server's memory."""

    label: str
    bytes: int
    colour: str  # of the page's palette


def cards(report: Report) -> tuple[Card, ...]:
    """Return the essentials, the ones that people ask for first at the front."""
    parameters, server = report.parameters, report.server
    exact = f"outputs exact to {2.0**-report.precision_bits:.2g}"
    limit = f"{parameters.modulus_bits:.0f} of {parameters.modulus_limit_bits} bits of modulus"
    if server is None:
        unknown = "only the client's part"
        of_server = [Card(label, "", "", unknown) for label in ("Time", "Agreement")]
        memory = Card("Server's memory", "", "", unknown)
    else:
        of_server = [_time(server, report.parameters.batch), _agreement(server)]
        memory = _measured("Server's memory", size(server.memory.peak), _memory_note(server.memory))
    return (
        *of_server,
        Card("Precision", f"{report.precision_bits:.1f}", "bits", f"promised: {exact}"),
        _depth(report),
        memory,
        _measured("Evaluation keys", size(report.key_bytes), f"{report.keys} keys, sent once"),
        _measured(
            "Each prediction",
            size(report.request_bytes),
            f"sent, {size(report.reply_bytes)} received",
        ),
        Card("Security", str(parameters.security_bits), "bits", limit),
    )


def peaks_early(memory: MemoryReport) -> bool:
    """Tell whether most is needed while the file of keys is read, not during a prediction."""
    return memory.loading > memory.working + memory.diagonals


def memory_parts(memory: MemoryReport) -> tuple[Part, ...]:
    """Return what the peak of the server's memory consists of."""
    parts = [
        Part("evaluation keys", memory.keys, "keys"),
        Part("bootstrap", memory.bootstrapping, "bootstrap"),
    ]
    if peaks_early(memory):
        parts.append(Part("process and file of keys", memory.loading, "process"))
    else:
        parts.append(Part("encoded weights", memory.diagonals, "weights"))
        parts.append(Part("ciphertexts and process", memory.working, "process"))
    return tuple(part for part in parts if part.bytes)


def kinds(server: ServerReport) -> tuple[tuple[str, str], ...]:
    """Return colour and words of the kinds of layers that occur."""
    words = {
        "matrix": ("matrix", {"matrix"}),
        "polynomial": ("activation or product", {"polynomial", "square", "product"}),
        "bootstrap": ("bootstrap", {"bootstrap"}),
        "sum": ("sum", {"sum"}),
    }
    found = {layer.kind for layer in server.layers}
    return tuple((colour, word) for colour, (word, those) in words.items() if found & those)


def _depth(report: Report) -> Card:
    server = report.server
    if server is not None and server.bootstraps is not None:
        note = f"on a way of {server.depth} levels"
        return Card("Bootstraps", str(server.bootstraps.count), "", note)
    note = "and bootstraps" if report.key_kinds.bootstrapping else "no bootstraps"
    return Card("Depth", str(report.depth), "levels", note)


def _time(server: ServerReport, batch: int) -> Card:
    note = f"{predictions(batch)}, {server.costs.partition(' (')[0]}"
    return _measured("Time", duration(server.seconds), note)


def _agreement(server: ServerReport) -> Card:
    found = server.calibration
    if found is None:
        return Card("Agreement", "", "", "no calibration samples in this plan")
    if found.agreement is None:
        note = f"of the outputs, on {found.samples} calibration samples"
        return _measured("Error of approximation", share(found.error), note)
    note = f"of {found.samples} calibration samples keep their class"
    return _measured("Agreement", f"{100 * found.agreement:.1f} %", note)


def _memory_note(memory: MemoryReport) -> str:
    parts = f"keys {size(memory.keys)}, weights {size(memory.diagonals)}"
    return f"{parts}; most while keys are read" if peaks_early(memory) else parts


def _measured(label: str, text: str, note: str) -> Card:
    value, _, unit = text.partition(" ")
    return Card(label, value, unit, note)
