"""`hec report`: what a plan costs and how exact it will be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hec.compiler.cli_terminal import (
    duration,
    interval,
    share,
    show_facts,
    show_json,
    show_table,
    size,
)

if TYPE_CHECKING:
    from hec.compiler.report import ParametersReport, Report, ServerReport, TensorReport


def report(
    plan: Annotated[Path, typer.Argument(help="a plan, or the client's part of one")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    costs: Annotated[
        str | None, typer.Option(help="seconds of: reference, host, FILE [host, if measured]")
    ] = None,
) -> None:
    """Show what a plan costs, and how exact it will be.

    Levels, seconds, sizes, and the quality of fitted activations; nothing is encrypted for it.

    \b
    Example:
      hec report model.hec
    """
    from hec.compiler.cli_files import load_plan_or_part
    from hec.compiler.host_costs import chosen_table
    from hec.compiler.plan import Plan
    from hec.compiler.report import report as report_of

    loaded = load_plan_or_part(plan)
    client = loaded.client if isinstance(loaded, Plan) else loaded
    found = report_of(loaded, chosen_table(costs, client.backend))
    if as_json:
        show_json(found)
        return
    show_facts(_facts(found))
    if found.server is not None:
        _show_server(found.server)


def _facts(found: Report) -> list[tuple[str, str]]:
    facts = [
        ("model", f"{found.model}, plan {found.plan_id[:12]}, backend {found.backend}"),
        *_parameter_facts(found.parameters),
        ("depth", f"{found.depth} levels"),
        ("promise", f"outputs exact to {2.0**-found.precision_bits:.3g} "
         f"({found.precision_bits:.1f} bits)"),
        *(("input", _tensor(item)) for item in found.inputs),
        *(("output", _tensor(item)) for item in found.outputs),
        ("keys", f"{found.keys} evaluation keys, {size(found.key_bytes)}"),
    ]  # fmt: skip
    if found.server is None:
        return [*facts, ("layers", "not known: this file holds only the client's part")]
    return [*facts, *_server_facts(found.server)]


def _server_facts(server: ServerReport) -> list[tuple[str, str]]:
    how, memory, kinds = server.bootstraps, server.memory, server.seconds_by_kind
    if how is None:
        return [
            ("forecast", f"{duration(server.seconds)} for one prediction: {server.costs}"),
            ("memory", f"{size(memory.peak)} on the server, of which encoded weights "
             f"{size(server.plaintext_bytes)}"),
        ]  # fmt: skip
    each = ", ".join(
        f"{duration(seconds)} each of degree {degree}"
        for degree, seconds in zip(how.degrees, how.seconds_each, strict=True)
    )
    return [
        ("bootstraps", f"{how.count} of {how.slots} slots: {each}"),
        ("  levels", f"{how.levels[0]} of CoeffsToSlots, {how.levels[1]} of SlotsToCoeffs; "
         f"{how.digits} digits"),
        ("  error", f"{how.error:.2g} of the range of an activation"),
        ("forecast", f"{duration(server.seconds)} for one prediction: {server.costs}"),
        ("  of which", f"bootstraps {duration(kinds.bootstraps)}, matrices "
         f"{duration(kinds.matrices)}, other {duration(kinds.other)}"),
        ("memory", f"{size(memory.least)} on the server: keys {size(memory.keys)}, bootstraps "
         f"{size(memory.bootstrapping)}"),
        ("  weights", f"{size(memory.diagonals)} more, where encoded weights are kept"),
    ]  # fmt: skip


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.1g}"


def _factor(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _parameter_facts(parameters: ParametersReport) -> list[tuple[str, str]]:
    primes = " + ".join(f"{bits:.0f}" for bits in parameters.prime_bits)
    return [
        ("ring degree", f"{parameters.ring_degree}, {parameters.ring_degree // 2} slots"),
        ("modulus", f"{parameters.modulus_bits:.0f} bits: {primes}, "
         f"special {parameters.special_prime_bits:.0f}"),
        ("security", f"{parameters.security_bits} bits: at most {parameters.modulus_limit_bits} "
         f"bits of modulus ({parameters.security_source})"),
    ]  # fmt: skip


def _tensor(item: TensorReport) -> str:
    shape = ", ".join(map(str, item.shape))
    text = f"'{item.name}' ({shape}): {item.ciphertexts} ciphertexts, {size(item.bytes)}"
    if item.classes is not None:
        more = f" and {len(item.classes) - 10} more" if len(item.classes) > 10 else ""
        text += f", classes {', '.join(map(str, item.classes[:10]))}{more}"
    return text if item.interval is None else f"{text}, calibrated on {interval(item.interval)}"


def _show_server(server: ServerReport) -> None:
    columns = (
        "layer", "operation", "level", "scale bits", "rotations", "diagonals", "seconds",
        "precision bits",
    )  # fmt: skip
    rows = [
        (
            x.nodes,
            x.operation,
            f"{x.level_in} > {x.level_out}",
            f"{x.scale_bits:.1f}",
            str(x.rotations),
            str(x.diagonals),
            f"{x.seconds:.3f}",
            f"{x.precision_bits:.1f}",
        )
        for x in server.layers
    ]
    show_table("\nLayers", columns, rows)
    if server.activations:
        fitted = ("layer", "function", "degree", "rms error", "sensitivity", "error at outputs")
        show_table("Fitted activations", fitted, _activations(server))
        ranges = ("layer", "fitted on", "observed", "bounded on", "tail", "margin")
        show_table("Their ranges", ranges, _ranges(server))


def _activations(server: ServerReport) -> Sequence[Sequence[str]]:
    return [
        (
            x.nodes,
            x.function,
            str(x.degree),
            f"{x.rms_error:.3g}",
            "-" if x.sensitivity is None else f"{x.sensitivity:.3g}",
            share(x.error_at_outputs),
        )
        for x in server.activations
    ]


def _ranges(server: ServerReport) -> Sequence[Sequence[str]]:
    return [
        (
            x.nodes,
            interval(x.interval),
            interval(x.observed),
            interval(x.bounded),
            _probability(x.tail_probability),
            _factor(x.wrap_margin),
        )
        for x in server.activations
    ]
