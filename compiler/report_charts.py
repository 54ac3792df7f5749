"""Charts along the network: modulus and scale, error, time, memory; one column for each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, hypot, log10, nan
from typing import TYPE_CHECKING, Final

from hec.compiler.layer_report import LayerKind, LayerReport
from hec.compiler.quantities import duration, size
from hec.compiler.report_svg import colour, inline_svg, page_style
from hec.compiler.report_tracks import LEFT, RIGHT, Tracks
from hec.compiler.server_report import ServerReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final[dict[LayerKind, str]] = {
    "matrix": "matrix",
    "square": "polynomial",
    "product": "polynomial",
    "polynomial": "polynomial",
    "bootstrap": "bootstrap",
    "sum": "sum",
}
_TOP, _BOTTOM, _GAP = 22.0, 26.0, 34.0  # pixels around and between the axes of a figure
_MARGIN: Final = 0.1  # of a logarithmic axis, powers of ten
_FLOOR, _CEILING = 1e-12, 1e12  # errors beyond are drawn there


@dataclass(frozen=True)
class Picture:
    """A chart for the page: an SVG element, what it shows, and how wide it is."""

    svg: str
    width: float


def level_chart(server: ServerReport, prime_bits: Sequence[float]) -> Picture:
    """Draw the modulus that is left before and after every layer, and the scale of its result."""
    layers, bits = server.layers, tuple(accumulate(prime_bits))
    told = "; ".join(
        f"{i}: level {x.level_in} to {x.level_out}, {bits[x.level_out]:.0f} bits left, scale"
        f" {x.scale_bits:.1f} bits"
        for i, x in enumerate(layers, 1)
    )

    def modulus(axes: Axes) -> None:
        _staircase(axes, [(bits[x.level_in], bits[x.level_out]) for x in layers])
        _bars(
            axes,
            [abs(bits[x.level_in] - bits[x.level_out]) for x in layers],
            [COLOURS[x.kind] for x in layers],
            [bits[min(x.level_in, x.level_out)] for x in layers],
        )

    def scale(axes: Axes) -> None:
        places = range(1, len(layers) + 1)
        values = [x.scale_bits for x in layers]
        axes.step(places, values, where="mid", color=colour("soft"), linewidth=1.2)
        axes.plot(places, values, "o", color=colour("matrix"), markersize=4, linestyle="none")
        axes.set_ylim(min(values) - 3, max(values) + 3)

    parts = (
        _Part("bits of modulus left", 150, modulus),
        _Part("bits of scale", 56, scale),
    )
    return _picture(layers, parts, "Modulus left and scale, layer by layer", told, "levels")


def error_chart(server: ServerReport) -> Picture:
    """Draw each layer's error from encryption and from approximation, and their shares."""
    layers = server.layers
    known = any(x.approximation_error is not None for x in layers)
    told = "; ".join(f"{i}: {_errors_in_words(x)}" for i, x in enumerate(layers, 1))

    def errors(axes: Axes) -> None:
        _error_line(axes, [x.encryption_error for x in layers], "encryption")
        _error_line(axes, [x.approximation_error or 0.0 for x in layers], "approximation")
        bounds = [min(max(x.error_bound, _FLOOR), _CEILING) for x in layers]
        axes.plot(range(1, len(layers) + 1), bounds, ":", color=colour("encryption"), linewidth=1.4)
        _logarithmic(axes, [value for x in layers for value in _known_errors(x)])

    def shares(axes: Axes) -> None:
        encryption = [100 * encryption_share(x) for x in layers]
        rest = [100 - share for share in encryption]
        _bars(axes, rest, "approximation")
        _bars(axes, encryption, "encryption", rest)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 50, 100])

    parts = [_Part("error of values in [-1, 1]", 150, errors)]
    if known:
        parts.append(_Part("share of the variance, %", 56, shares))
    return _picture(layers, parts, "Error of every layer's result", told, "errors")


def time_chart(server: ServerReport) -> Picture:
    """Draw the seconds of every layer."""
    layers = server.layers
    told = "; ".join(f"{i}: {duration(x.seconds)}" for i, x in enumerate(layers, 1))

    def seconds(axes: Axes) -> None:
        _bars(axes, [x.seconds for x in layers], [COLOURS[x.kind] for x in layers])
        _labelled(axes, [x.seconds for x in layers], duration)

    return _picture(
        layers, [_Part("seconds", 120, seconds)], "Seconds of every layer", told, "time"
    )


def memory_chart(server: ServerReport) -> Picture:
    """Draw the encoded weights of every layer, and the ciphertexts that are alive in it."""
    layers = server.layers
    told = "; ".join(
        f"{i}: weights {size(x.plaintext_bytes)}, ciphertexts {size(x.live_bytes)}"
        for i, x in enumerate(layers, 1)
    )

    def memory(axes: Axes) -> None:
        weights = [x.plaintext_bytes / 1e6 for x in layers]
        _bars(axes, weights, "weights")
        _bars(axes, [x.live_bytes / 1e6 for x in layers], "ciphertexts", weights)
        totals = [(x.plaintext_bytes + x.live_bytes) / 1e6 for x in layers]
        _labelled(axes, totals, lambda megabytes: size(1e6 * megabytes))

    title = "Megabytes of encoded weights and of ciphertexts in every layer"
    return _picture(layers, [_Part("MB", 120, memory)], title, told, "memory")


def encryption_share(layer: LayerReport) -> float:
    """Return the share of encryption in the variance of a layer's error."""
    both = hypot(layer.encryption_error, layer.approximation_error or 0.0)
    return (layer.encryption_error / both) ** 2 if both else 1.0


@dataclass(frozen=True)
class _Part:
    """One pair of axes of a figure."""

    label: str  # of the vertical axis
    height: float  # pixels
    draw: Callable[[Axes], None]


def _picture(
    layers: Sequence[LayerReport], parts: Sequence[_Part], title: str, told: str, key: str
) -> Picture:
    """Return a figure of `parts`, one below the other, over the columns of the layers."""
    from matplotlib.figure import Figure

    tracks = Tracks(len(layers))
    height = sum(part.height for part in parts) + _TOP + _BOTTOM + _GAP * (len(parts) - 1)
    with page_style():
        figure = Figure(figsize=(tracks.width / 72, height / 72), frameon=False)
        top = height - _TOP
        for part in parts:
            axes = _axes(figure, tracks, (top - part.height) / height, part.height / height)
            part.draw(axes)
            axes.set_title(part.label, loc="left", fontsize=11, color=colour("soft"), pad=6)
            top -= part.height + _GAP
        axes.set_xticks(tracks.numbers)
        axes.tick_params(axis="x", labelbottom=True)
        return Picture(inline_svg(figure, title, f"{title}. {told}.", key), tracks.width)


def _axes(figure: Figure, tracks: Tracks, bottom: float, height: float) -> Axes:
    width = tracks.width
    axes = figure.add_axes((LEFT / width, bottom, (width - LEFT - RIGHT) / width, height))
    axes.patch.set_visible(False)
    axes.set_xlim(0.5, tracks.count + 0.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colour("line"))
    axes.tick_params(colors=colour("soft"), length=0, pad=6, labelsize=11, labelbottom=False)
    axes.grid(axis="y", color=colour("line"), linewidth=1)
    axes.set_axisbelow(True)
    axes.locator_params(axis="y", nbins=4)
    axes.set_xticks([])
    return axes


def _bars(
    axes: Axes,
    heights: Sequence[float],
    names: str | Sequence[str],
    bottoms: Sequence[float] | float = 0.0,
) -> None:
    """Draw a bar for every layer, in one colour or a colour each."""
    wide, places = Tracks(len(heights)).bar, range(1, len(heights) + 1)
    colours = colour(names) if isinstance(names, str) else [colour(name) for name in names]
    axes.bar(places, heights, wide, bottoms, color=colours, linewidth=0, zorder=3)


def _staircase(axes: Axes, steps: Sequence[tuple[float, float]]) -> None:
    """Draw heights before and after every layer: an area, and a line between the bars."""
    half = Tracks(len(steps)).bar / 2
    places, line = list[float](), list[float]()
    for i, (before, after) in enumerate(steps, 1):
        places += [i - 0.5, i - half, i, i + half, i + 0.5]
        line += [before, before, nan, after, after]
    axes.plot(places, line, color=colour("soft"), linewidth=1.2)
    corners = [i + side for i in range(1, len(steps) + 1) for side in (-0.5, 0.0, 0.0, 0.5)]
    heights = [height for before, after in steps for height in (before, before, after, after)]
    axes.fill_between(corners, heights, color=colour("wash"), linewidth=0, zorder=0)
    axes.set_ylim(0, 1.06 * max(map(max, steps)))


def _labelled(axes: Axes, values: Sequence[float], words: Callable[[float], str]) -> None:
    """Write the value above the bars that are not small."""
    top = max(values) or 1.0
    axes.set_ylim(0, 1.16 * top)
    wide = Tracks(len(values)).pitch > 44
    for place, value in enumerate(values, 1):
        if value > 0 and wide:
            axes.text(place, value + 0.02 * top, words(value), ha="center", va="bottom",
                      color=colour("ink"), fontsize=11)  # fmt: skip


def _error_line(axes: Axes, errors: Sequence[float], name: str) -> None:
    """Draw the errors that are not zero: a logarithm has no place for the others."""
    shown = [(place, error) for place, error in enumerate(errors, 1) if error > _FLOOR]
    places, heights = [place for place, _ in shown], [min(error, _CEILING) for _, error in shown]
    axes.plot(places, heights, color=colour(name), linewidth=1.6)
    axes.plot(places, heights, "o", color=colour(name), markersize=6, linestyle="none")


def _known_errors(layer: LayerReport) -> list[float]:
    values = (layer.encryption_error, layer.approximation_error, layer.error_bound)
    return [min(max(x, _FLOOR), _CEILING) for x in values if x]


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Make the vertical axis logarithmic, with a tick at some powers of ten."""
    low = floor(log10(min(values, default=_FLOOR)) - _MARGIN)
    high = max(low + 1, ceil(log10(max(values, default=1.0)) + _MARGIN))
    step = max(1, (high - low) // 4)
    powers = range(low, high + 1, step)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_ylim(10.0**low, 10.0**high)
    axes.set_yticks([10.0**p for p in powers], [f"1e{p}" if p else "1" for p in powers])


def _errors_in_words(layer: LayerReport) -> str:
    told = f"encryption {layer.encryption_error:.2g} (at most {layer.error_bound:.2g})"
    if layer.approximation_error is None:
        return f"{told}, approximation not known"
    return f"{told}, approximation {layer.approximation_error:.2g}"
