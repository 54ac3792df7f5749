"""The report on a terminal: the essentials, what stands out, then tables that fit 100 columns."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

import typer

from hec.compiler.cli_errors import printable
from hec.compiler.cli_terminal import duration, interval, share, show_table, size
from hec.compiler.instance_report import ParametersReport, TensorReport
from hec.compiler.layer_report import LayerReport
from hec.compiler.quantities import predictions
from hec.compiler.report import Report
from hec.compiler.report_cards import peaks_early
from hec.compiler.report_words import (
    gaps,
    highlights,
    keys_in_words,
    primes_in_words,
    short_names,
    shortened,
)
from hec.compiler.server_report import ServerReport

COLUMNS: Final = 100  # of a report that is not read on a terminal
_MOST_COLUMNS: Final = 140
_LEAST_COLUMNS: Final = 80
_LAYER_NUMBERS: Final = 75  # columns of the table of layers that are not names
_FACT: Final = 11  # characters of the name of a fact

Facts = list[tuple[str, str]]


def show_report(report: Report) -> None:
    """Print the report of a plan, or of the client's part."""
    width = _width()
    facts = _facts(report)
    server = report.server
    if server is None:
        _show_facts(
            [*facts, ("layers", "not known: this file holds only the client's part")], width
        )
        return
    _show_facts([*facts, *_server_facts(server, report.parameters.batch)], width)
    _show_sentences("What stands out", highlights(report), width)
    if report.advice is not None:
        advice = [str(each) for each in report.advice]
        _show_sentences("Advice", advice or ["no change that was tried is cheaper"], width)
    _show_layers(server, width)
    if server.activations:
        _show_activations(server, width)
    _show_sentences("Not known", gaps(report), width)


def _width() -> int:
    if not sys.stdout.isatty():
        return COLUMNS
    return max(_LEAST_COLUMNS, min(_MOST_COLUMNS, shutil.get_terminal_size().columns))


def _show_facts(facts: Facts, width: int) -> None:
    for name, text in facts:
        lines = _wrapped(text, width - _FACT - 2)
        typer.echo(printable(f"{name:<{_FACT}}  {lines[0]}"))
        for line in lines[1:]:
            typer.echo(printable(f"{'':<{_FACT}}  {line}"))


def _show_sentences(title: str, sentences: Sequence[str], width: int) -> None:
    if not sentences:
        return
    typer.echo(f"\n{title}")
    for sentence in sentences:
        lines = _wrapped(sentence, width - 4)
        typer.echo(
            printable("\n".join([f"  - {lines[0]}", *(f"    {line}" for line in lines[1:])]))
        )


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _facts(report: Report) -> Facts:
    exact = f"outputs exact to {2.0**-report.precision_bits:.3g}"
    keys = report.key_kinds
    return [
        ("model", f"{report.model}, plan {report.plan_id[:12]}, backend {report.backend}"),
        *_parameter_facts(report.parameters),
        ("depth", _depth(report)),
        ("promise", f"{exact} ({report.precision_bits:.1f} bits)"),
        *(("input", _tensor(item)) for item in report.inputs),
        *(("output", _tensor(item)) for item in report.outputs),
        ("keys", f"{report.keys} evaluation keys, {size(report.key_bytes)}: {keys_in_words(keys)}"),
    ]


def _depth(report: Report) -> str:
    if report.server is not None and report.server.bootstraps is not None:
        return f"{report.server.depth} levels, with bootstraps between them"
    return f"{report.depth} levels"


def _parameter_facts(parameters: ParametersReport) -> Facts:
    primes = primes_in_words(parameters.prime_bits, parameters.special_prime_bits)
    limit = f"at most {parameters.modulus_limit_bits} bits of modulus"
    return [
        ("ring degree", f"{parameters.ring_degree}, {_slots(parameters)}"),
        ("modulus", f"{parameters.modulus_bits:.0f} bits: {primes}"),
        (
            "security",
            f"{parameters.security_bits} bits: {limit} ({parameters.security_source})",
        ),
    ]


def _slots(parameters: ParametersReport) -> str:
    slots = parameters.ring_degree // 2
    return (
        f"{slots} slots"
        if parameters.batch == 1
        else f"{slots} slots for {parameters.batch} images"
    )


def _server_facts(server: ServerReport, batch: int) -> Facts:
    memory, found = server.memory, server.calibration
    most = "; most while keys are read" if peaks_early(memory) else ""
    facts = [
        (
            "forecast",
            f"{duration(server.seconds)} for {predictions(batch)}: {server.costs}",
        ),
        *_more_cores(server),
        (
            "memory",
            f"{size(memory.peak)} on the server: keys {size(memory.keys)}, encoded weights"
            f" {size(memory.diagonals)}{most}",
        ),
    ]
    if found is not None and found.agreement is not None:
        kept = f"{share(found.agreement)} of {found.samples} calibration samples keep their class"
        facts.append(("agreement", kept))
    if found is not None:
        facts.append(("fits", f"move the outputs by {share(found.error)} of their size"))
    return [*facts, *_bootstrap_facts(server)]


def _more_cores(server: ServerReport) -> Facts:
    """Return what more cores would gain."""
    if not server.on_cores:
        return []
    told = ", ".join(
        f"{duration(x.seconds)} on {x.cores} ({size(x.bytes)} more)" for x in server.on_cores
    )
    return [("more cores", told)]


def _bootstrap_facts(server: ServerReport) -> Facts:
    how, memory, kinds = server.bootstraps, server.memory, server.seconds_by_kind
    if how is None:
        return []
    each = ", ".join(
        f"{duration(seconds)} each of degree {degree}"
        for degree, seconds in zip(how.degrees, how.seconds_each, strict=True)
    )
    return [
        ("bootstraps", f"{how.count} of {how.slots} slots: {each}"),
        (
            "  levels",
            f"{how.levels[0]} of CoeffsToSlots, {how.levels[1]} of SlotsToCoeffs;"
            f" {how.digits} digits",
        ),
        ("  error", f"{how.error:.2g} of the range of an activation"),
        (
            "  seconds",
            f"bootstraps {duration(kinds.bootstraps)}, matrices {duration(kinds.matrices)},"
            f" other {duration(kinds.other)}",
        ),
        (
            "  memory",
            f"{size(memory.bootstrapping)} of encoded matrices; {size(memory.least)} in all where"
            " no encoded weights are kept",
        ),
    ]


def _tensor(item: TensorReport) -> str:
    shape = ", ".join(map(str, item.shape))
    text = f"'{item.name}' ({shape}): {item.ciphertexts} ciphertexts, {size(item.bytes)}"
    if item.classes is not None:
        more = f" and {len(item.classes) - 10} more" if len(item.classes) > 10 else ""
        text += f", classes {', '.join(map(str, item.classes[:10]))}{more}"
    return text if item.interval is None else f"{text}, calibrated on {interval(item.interval)}"


def _show_layers(server: ServerReport, width: int) -> None:
    names = short_names(server.layers, width - _LAYER_NUMBERS)
    columns = (
        "layer", "#", "operation", "levels", "time", "weights", "rotations", "bits", "fit error",
    )  # fmt: skip
    rows = [
        (
            name,
            str(number),
            x.operation.replace("of degree ", ""),
            f"{x.level_in} > {x.level_out}",
            duration(x.seconds),
            size(x.plaintext_bytes) if x.plaintext_bytes else "-",
            str(x.rotations or "-"),
            f"{x.precision_bits:.1f}",
            _fit_error(x),
        )
        for number, (x, name) in enumerate(zip(server.layers, names, strict=True), 1)
    ]
    show_table("\nLayers", columns, rows, width)


def _fit_error(layer: LayerReport) -> str:
    error = layer.approximation_error
    return "?" if error is None else f"{error:.2g}" if error else "-"


def _show_activations(server: ServerReport, width: int) -> None:
    fitted = ("layer", "function", "degree", "rms error", "sensitivity", "error at outputs")
    rows = [
        (
            shortened(x.nodes, width - 66),
            shortened(x.function, 14),
            str(x.degree),
            f"{x.rms_error:.3g}",
            "-" if x.sensitivity is None else f"{x.sensitivity:.3g}",
            share(x.error_at_outputs),
        )
        for x in server.activations
    ]
    show_table("Fitted activations", fitted, rows, width)
    ranges = ("layer", "fitted on", "observed", "bounded on", "tail", "margin")
    rows = [
        (
            shortened(x.nodes, 24),
            interval(x.interval),
            interval(x.observed),
            interval(x.bounded),
            "" if x.tail_probability is None else f"{x.tail_probability:.1g}",
            "" if x.wrap_margin is None else f"{x.wrap_margin:.2f}",
        )
        for x in server.activations
    ]
    show_table("Their ranges", ranges, rows, width)
