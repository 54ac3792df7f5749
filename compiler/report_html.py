"""The report as one HTML file that needs nothing else: no script, no font, no network.

Names in a report come from files of others. The template escapes every text, pictures hold none of
them but as escaped text, and the page forbids itself scripts and requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from hec.compiler.activation_report import ActivationReport
from hec.compiler.errors import fail
from hec.compiler.quantities import duration, interval, share, size
from hec.compiler.report import Report
from hec.compiler.report_activation_charts import Sheet
from hec.compiler.report_cards import cards, kinds, memory_parts, peaks_early
from hec.compiler.report_charts import (
    COLOURS,
    Picture,
    error_chart,
    level_chart,
    memory_chart,
    time_chart,
)
from hec.compiler.report_network import network_picture
from hec.compiler.report_tracks import WIDTH, Tracks
from hec.compiler.report_words import (
    gaps,
    highlights,
    keys_in_words,
    primes_in_words,
    short_names,
)
from hec.compiler.server_report import ServerReport
from hec.compiler.variances import FAILURE

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN: Final = 12  # activations that are not folded away
_BACKENDS: Final = {"tenseal": "Microsoft SEAL through TenSEAL", "openfhe": "OpenFHE"}
_NAME_LENGTH: Final = 80  # characters of a layer in the table
_NOTICED: Final = 1.05  # factor from which seconds or memory are another's
_CHANGES: Final = {"option": "an option", "model": "another network", "data": "calibration data"}
_PHONE: Final = 800.0  # pixels below which a chart of few layers scrolls


@dataclass(frozen=True)
class _Activation:
    fit: ActivationReport
    svg: str | None


def html(report: Report) -> str:
    """Return the page; raise `CompileError` where a library that it takes is missing."""
    try:
        import jinja2  # noqa: F401
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise fail(
            f"the HTML report needs the package {error.name}",
            "hec report --html",
            "pip install matplotlib jinja2",
        ) from None
    return _environment().get_template("report.html").render(_context(report))


def frame(report: Report) -> str:
    """Return the page in a frame that neither runs scripts nor touches what is around it."""
    title = escape(f"{report.model}: depth and noise budget")
    style = "width: 100%; height: 760px; border: 1px solid #d5dae2; border-radius: 8px"
    return (
        f'<iframe sandbox="" title="{title}" style="{style}" srcdoc="{escape(html(report))}">'
        "</iframe>"
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hec", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size,
        "duration": duration,
        "share": share,
        "interval": interval,
        "breakable": _breakable,
        "px": lambda value: f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}",
        "times": _times,
        "more": lambda count: f"{count:+d}" if count else "same",
        "probability": lambda value: "not known" if value is None else f"{value:.1g}",
        "growth": lambda value: "-" if value is None else f"{100 * (value - 1):.0f} %",
    }
    return environment


def _breakable(name: str) -> str:
    """Return the name, escaped, with places where a line may end."""
    from markupsafe import Markup

    return Markup(escape(name).replace("/", "/<wbr>"))


def _times(ratio: float, better: str, worse: str) -> str:
    """Return in words what a ratio of before over after means."""
    factor = max(ratio, 1 / ratio) if ratio > 0 else 1.0
    if factor < _NOTICED:
        return "the same"
    return f"{factor:.1f} x {better if ratio > 1 else worse}"


def _context(report: Report) -> Mapping[str, object]:
    server = report.server
    tensors = [("to the server", x) for x in report.inputs]
    tensors += [("back", x) for x in report.outputs]
    context: dict[str, object] = {
        "report": report,
        "backend": _BACKENDS.get(report.backend, report.backend),
        "version": version("hec"),
        "cards": cards(report),
        "highlights": highlights(report),
        "gaps": gaps(report),
        "tensors": tensors,
        "key_words": keys_in_words(report.key_kinds),
        "primes": primes_in_words(
            report.parameters.prime_bits, report.parameters.special_prime_bits
        ),
        "network": None,
        "charts": dict.fromkeys(("levels", "errors", "time", "memory")),
        "activations": (),
        "shown": SHOWN,
        "change_kinds": _CHANGES,
    }
    if server is not None:
        context |= _server_context(report, server)
    return context | {"contents": _contents(report)}


def _server_context(report: Report, server: ServerReport) -> Mapping[str, object]:
    layers = server.layers
    levels = [level for x in layers for level in (x.level_in, x.level_out)]
    return {
        "network": network_picture(report),
        "kinds": kinds(server),
        "least": _least(Tracks(len(layers)).width),
        "charts": _charts(report, server),
        "failure": FAILURE,
        "error_caption": _error_caption(server),
        "time_caption": _time_caption(server),
        "approximated": any(x.approximation_error for x in layers),
        "peaks_early": peaks_early(server.memory),
        "memory_parts": memory_parts(server.memory),
        "activations": _activations(server),
        "names": short_names(layers, _NAME_LENGTH),
        "colours": COLOURS,
        "top": max([1, *levels]),  # a network that moves data has no layers
        "slowest": max((x.seconds for x in layers), default=0.0) or 1.0,
    }


def _charts(report: Report, server: ServerReport) -> Mapping[str, object]:
    from markupsafe import Markup

    if not server.layers:
        return dict.fromkeys(("levels", "errors", "time", "memory"))

    def shown(picture: Picture) -> Mapping[str, object]:
        return {"svg": Markup(picture.svg), "least": _least(picture.width)}

    return {
        "levels": shown(level_chart(server, report.parameters.prime_bits)),
        "errors": shown(error_chart(server)),
        "time": shown(time_chart(server)),
        "memory": shown(memory_chart(server)),
    }


def _least(width: float) -> int:
    """Return the pixels below which a picture of this width scrolls instead of shrinking."""
    return round(width if width > WIDTH else _PHONE)


def _activations(server: ServerReport) -> Sequence[_Activation]:
    """Return the fitted activations; if they are many, those that matter most first."""
    from markupsafe import Markup

    found, sheet = [], Sheet()
    for number, fit in enumerate(server.activations):
        svg = sheet.chart(fit, f"fit{number}")
        found.append(_Activation(fit, None if svg is None else Markup(svg)))
    if len(found) <= SHOWN:
        return found
    return sorted(found, key=lambda item: -(item.fit.error_at_outputs or 0.0))


def _error_caption(server: ServerReport) -> str:
    if not server.activations:
        return "No activation is approximated: all errors come from encryption."
    if all(x.approximation_error is None for x in server.layers):
        return "The share of approximation is not known: the plan has no calibration samples."
    return "Above: both errors, on a logarithmic axis. Below: their shares of the variance."


def _time_caption(server: ServerReport) -> str:
    parts = server.seconds_by_kind
    named = (
        ("bootstraps", parts.bootstraps),
        ("matrices", parts.matrices),
        ("other", parts.other),
        ("reading and writing messages", parts.messages),
    )
    told = [f"{name} {duration(seconds)}" for name, seconds in named if seconds]
    return f"Seconds of each layer. In all: {', '.join(told)}."


def _contents(report: Report) -> Sequence[tuple[str, str]]:
    """Return the sections that the page has: their ids and titles."""
    server = report.server
    has_layers, has_server = server is not None and bool(server.layers), server is not None
    has_fits = server is not None and bool(server.activations)
    sections = (
        ("summary", "Summary", True),
        ("advice", "Advice", report.advice is not None),
        ("network", "Network", has_layers),
        ("levels", "Levels and scale", has_layers),
        ("errors", "Error", has_layers),
        ("time", "Time and memory", has_layers),
        ("activations", "Activations", has_fits),
        ("layers", "Layers", has_server),
        ("keys", "Rotations and keys", True),
        ("traffic", "Inputs and outputs", True),
        ("bootstraps", "Bootstraps", has_server),
        ("security", "Security", True),
    )
    return [(key, words) for key, words, shown in sections if shown]
