"""A chart for each fitted activation: function and fit, and below them where its inputs fall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hec.compiler.activation_report import ActivationReport, CurveReport, HistogramReport
from hec.compiler.report_svg import colour, inline_svg, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 300.0, 200.0  # pixels
_LARGEST: Final = 1e30  # of coordinates: no network has larger ones, but a file may
_CURVE: Final = (0.14, 0.42, 0.83, 0.54)  # left, bottom, width, height, as shares
_HISTOGRAM: Final = (0.14, 0.12, 0.83, 0.22)


class Sheet:
    """A figure that is drawn on again and again: making its axes takes most of the time."""

    def __init__(self) -> None:
        from matplotlib.figure import Figure

        with page_style():
            self.figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), frameon=False)
            self.curve, self.histogram = map(self.figure.add_axes, (_CURVE, _HISTOGRAM))
            for axes in (self.curve, self.histogram):
                _prepare(axes)
            self.histogram.tick_params(axis="x", labelbottom=True)
            self.histogram.set_yticks([])

    def chart(self, activation: ActivationReport, key: str) -> str | None:
        """Return the SVG of function, fit and inputs; None where there is nothing to draw."""
        if activation.curve is None and activation.histogram is None:
            return None
        if max(map(abs, _numbers(activation))) > _LARGEST:
            return None
        with page_style():
            for axes in (self.curve, self.histogram):
                _clear(axes, activation)
            if activation.curve is not None:
                _draw_curve(self.curve, activation.curve)
            if activation.histogram is not None:
                _draw_histogram(self.histogram, activation.histogram)
            title = f"{activation.function}, its fit, and its inputs"
            return inline_svg(self.figure, title, _in_words(activation), key)


def _numbers(activation: ActivationReport) -> list[float]:
    """Return all coordinates of the chart."""
    found = [*activation.interval]
    if (curve := activation.curve) is not None:
        found += [*curve.x, *curve.exact, *curve.fitted]
    if (seen := activation.histogram) is not None:
        found += [seen.low, seen.high]
    return found


def _range(activation: ActivationReport) -> tuple[float, float]:
    """Return what the horizontal axis shows: all of histogram and curve, and the interval."""
    ends = [*activation.interval]
    if activation.histogram is not None:
        ends += [activation.histogram.low, activation.histogram.high]
    if activation.curve is not None:
        ends += [activation.curve.x[0], activation.curve.x[-1]]
    return min(ends), max(ends)


def _prepare(axes: Axes) -> None:
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colour("line"))
    axes.tick_params(colors=colour("soft"), length=0, pad=4, labelsize=10, labelbottom=False)
    axes.locator_params(nbins=4)


def _clear(axes: Axes, activation: ActivationReport) -> None:
    """Leave nothing on the axes but the interval of the fit."""
    for artist in (*axes.lines, *axes.patches):
        artist.remove()
    axes.set_xlim(*_range(activation))
    axes.axvspan(*activation.interval, color=colour("wash"), linewidth=0)
    for end in activation.interval:
        axes.axvline(end, color=colour("line"), linewidth=1)


def _draw_curve(axes: Axes, curve: CurveReport) -> None:
    axes.plot(curve.x, curve.exact, color=colour("soft"), linewidth=1.2, linestyle=(0, (4, 2)))
    axes.plot(curve.x, curve.fitted, color=colour("polynomial"), linewidth=1.8)
    low, high = min(curve.exact), max(curve.exact)
    room = 0.35 * (high - low) or 1.0  # beyond, a fit may go anywhere
    axes.set_ylim(low - room, high + room)


def _draw_histogram(axes: Axes, histogram: HistogramReport) -> None:
    bins = len(histogram.counts)
    width = (histogram.high - histogram.low) / bins
    edges = [histogram.low + width * i for i in range(bins + 1)]
    axes.stairs(histogram.counts, edges, fill=True, color=colour("matrix"), linewidth=0)
    axes.set_ylim(0, 1.1 * max(1, *histogram.counts))


def _in_words(activation: ActivationReport) -> str:
    low, high = activation.interval
    told = f"Degree {activation.degree} on [{low:.4g}, {high:.4g}]"
    told += f", root mean square error {activation.rms_error:.3g}"
    histogram = activation.histogram
    if histogram is None:
        return f"{told}. The inputs are not known."
    ends = activation.observed
    return (
        f"{told}. {sum(histogram.counts)} inputs lie in [{ends[0]:.4g}, {ends[1]:.4g}];"
        f" {len(histogram.counts)} bins from {histogram.low:.4g} to {histogram.high:.4g} hold"
        f" {', '.join(map(str, histogram.counts))}."
    )
