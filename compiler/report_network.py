"""The network as a picture: a block for every layer, as high as the levels that it takes.

Only places and words are made here; the template of the page draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hec.compiler.layer_report import LayerReport
from hec.compiler.quantities import duration
from hec.compiler.report import Report
from hec.compiler.report_charts import COLOURS
from hec.compiler.report_tracks import LEFT, RIGHT, Tracks
from hec.compiler.report_words import elided, operators, short_names

_TOP, _BOTTOM = 50.0, 44.0  # pixels above the highest level, and below level 0
_TALLEST, _STEPS = 240.0, (9.0, 44.0)  # pixels of all levels, if one level has from 9 to 44
_LABELLED: Final = 70.0  # pixels of a column that has room for words
_LETTER: Final = 6.3  # pixels of a letter of 11 pixels, on average
_THINNEST: Final = 4.0  # pixels of a block that takes no level
_LEVEL_LINES: Final = 6


@dataclass(frozen=True)
class Block:
    """A layer in the picture; pixels from the top left."""

    number: int
    colour: str
    x: float
    y: float
    width: float
    height: float
    label_y: float
    name: str  # "" where there is no room
    note: str
    told: str  # all of it, to be shown on hovering


@dataclass(frozen=True)
class Edge:
    """A value on its way from one layer to another, as an SVG path."""

    path: str
    skips: bool  # it passes by other layers


@dataclass(frozen=True)
class LevelLine:
    """A level that has a line across the picture."""

    level: int
    y: float


@dataclass(frozen=True)
class NetworkPicture:
    """Everything that the template draws."""

    width: float
    height: float
    left: float
    right: float
    base: float  # of level 0
    blocks: tuple[Block, ...]
    edges: tuple[Edge, ...]
    lines: tuple[LevelLine, ...]
    numbers: tuple[tuple[int, float], ...]  # of columns, and where
    told: str


def network_picture(report: Report) -> NetworkPicture | None:
    """Return the picture; None where the layers are not known."""
    if report.server is None or not report.server.layers:
        return None
    layers = report.server.layers
    top = max(max(x.level_in, x.level_out) for x in layers)
    scale = _Scale(Tracks(len(layers)), top, min(_STEPS[1], max(_STEPS[0], _TALLEST / max(1, top))))
    names = operators(layers, max(4, int(scale.tracks.pitch / _LETTER)))
    full = short_names(layers, 60)
    return NetworkPicture(
        width=scale.tracks.width,
        height=scale.y(0) + _BOTTOM,
        left=LEFT,
        right=scale.tracks.width - RIGHT,
        base=scale.y(0),
        blocks=tuple(
            _block(i, x, name, scale) for i, (x, name) in enumerate(zip(layers, names, strict=True))
        ),
        edges=tuple(_edges(layers, report, scale)),
        lines=tuple(LevelLine(level, scale.y(level)) for level in _levels(top)),
        numbers=tuple((n, scale.tracks.middle(n)) for n in scale.tracks.numbers),
        told="; ".join(
            _told(i, x, name) for i, (x, name) in enumerate(zip(layers, full, strict=True))
        ),
    )


@dataclass(frozen=True)
class _Scale:
    """Where columns and levels are."""

    tracks: Tracks
    top: int  # highest level
    step: float  # pixels of a level

    def y(self, level: float) -> float:
        return _TOP + (self.top - level) * self.step

    def sides(self, place: int) -> tuple[float, float]:
        """Return the left and right ends of the block of the layer at `place`."""
        middle, half = self.tracks.middle(place + 1), self.tracks.bar * self.tracks.pitch / 2
        return middle - half, middle + half


def _block(place: int, layer: LayerReport, name: str, scale: _Scale) -> Block:
    left, right = scale.sides(place)
    high, low = max(layer.level_in, layer.level_out), min(layer.level_in, layer.level_out)
    height = max(_THINNEST, (high - low) * scale.step)
    y = scale.y((high + low) / 2) - height / 2
    roomy = scale.tracks.pitch >= _LABELLED
    return Block(
        number=place + 1,
        colour=COLOURS[layer.kind],
        x=left,
        y=y,
        width=right - left,
        height=height,
        label_y=y - 9,
        name=name if roomy else "",
        note=_note(layer) if roomy else "",
        told=_told(place, layer, elided(layer.nodes, 200)),
    )


def _note(layer: LayerReport) -> str:
    degree = layer.operation.rpartition(" degree ")[2]
    words = {"polynomial": f"degree {degree}", "bootstrap": "bootstrap"}
    return words.get(layer.kind, layer.kind)


def _told(place: int, layer: LayerReport, name: str) -> str:
    return (
        f"{place + 1}: {name}, {layer.operation}, level {layer.level_in} to {layer.level_out},"
        f" {duration(layer.seconds)}"
    )


def _levels(top: int) -> Iterator[int]:
    """Yield the levels that have a line: 0, the top, and a few between."""
    step = next(s for s in (1, 2, 3, 4, 5, 10, 20, 50) if top / s <= _LEVEL_LINES or s == 50)
    yield from (level for level in range(0, top, step) if top - level >= step * 0.7)
    yield top


def _edges(layers: Sequence[LayerReport], report: Report, scale: _Scale) -> Iterator[Edge]:
    for place, layer in enumerate(layers):
        left, right = scale.sides(place)
        for number in layer.inputs:
            start = (LEFT, scale.y(report.inputs[number].level))
            yield Edge(_curve(start, (left, scale.y(layer.level_in))), skips=place > 0)
        for source in layer.reads:
            start = (scale.sides(source)[1], scale.y(layers[source].level_out))
            end = (left, scale.y(layer.level_in))
            yield Edge(_curve(start, end, place - source > 1), place - source > 1)
        if layer.outputs:
            end = (scale.tracks.width - RIGHT, scale.y(layer.level_out))
            yield Edge(_curve((right, scale.y(layer.level_out)), end), skips=False)


def _curve(start: tuple[float, float], end: tuple[float, float], arched: bool = False) -> str:
    """Return a smooth path from left to right; an arched one rises above what it passes by."""
    (x, y), (u, v) = start, end
    rise = min(90.0, 12 + (u - x) / 8) if arched else 0.0
    bend = min((u - x) / 2, 60.0) if arched else (u - x) / 2
    return (
        f"M{x:.1f} {y:.1f}C{x + bend:.1f} {y - rise:.1f} {u - bend:.1f} {v - rise:.1f}"
        f" {u:.1f} {v:.1f}"
    )
