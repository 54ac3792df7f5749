"""How a cost grows along an axis: networks of growing size, fitted exponents, one picture of all.

The law of an axis is the arithmetic's own: how the products of numbers in the clear grow with the
size. A cost that is fitted by a larger exponent grows faster than the arithmetic demands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from networks import Convolution, Dense, Layer, Shape

Network = tuple[Shape, tuple[Layer, ...]]
TOLERANCE = 0.2  # of an exponent: what a step of the ring degree does to a fit over a few sizes
CLASSES = 10


@dataclass(frozen=True)
class Axis:
    """Networks that grow in one way."""

    name: str
    says: str  # of what grows
    sizes: tuple[int, ...]
    run: tuple[int, ...]  # the sizes that are run for real, if any are
    law: float  # exponent of the arithmetic, for large sizes
    network: Callable[[int], Network]
    gentle: bool = False  # quadratics for squares
    batched: bool = False  # the size is how many inputs are predicted at once


def wide(width: int) -> Network:
    """Return two square matrices and ten outputs."""
    return (width,), (Dense(width), Dense(width), Dense(CLASSES))


def deep(depth: int) -> Network:
    """Return `depth` matrices of 64 by 64, and ten outputs."""
    return (64,), (*[Dense(64)] * depth, Dense(CLASSES))


def large(side: int) -> Network:
    """Return two convolutions of four channels over an image, halved, and ten outputs."""
    layers = Convolution(4, 3, 2, padded=True), Convolution(4, 3, padded=True), Dense(CLASSES)
    return (1, side, side), layers


def thick(channels: int) -> Network:
    """Return two convolutions over 16 by 16, of `channels`, and ten outputs."""
    first, second = Convolution(channels, 3, padded=True), Convolution(channels, 3, 2, padded=True)
    return (channels, 16, 16), (first, second, Dense(CLASSES))


def several(_: int) -> Network:
    """Return the same small network for every batch."""
    return (1, 28, 28), (Convolution(5, 2, 2), Dense(100), Dense(CLASSES))


AXES: tuple[Axis, ...] = (
    Axis(
        "width",
        "side of square matrices",
        (16, 32, 64, 128, 256, 512, 1024, 2048),
        (64, 256),
        2,
        wide,
    ),
    Axis("depth", "64 by 64 matrices in a row", (1, 2, 3, 4, 6, 8, 10, 12), (2, 6), 1, deep, True),
    Axis(
        "image",
        "side of the image",
        (8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 256),
        (16, 32, 80),
        2,
        large,
    ),
    Axis("channels", "channels of convolutions", (2, 4, 8, 16, 32, 64), (4, 8), 2, thick),
    Axis("batch", "inputs at once", (1, 4, 16, 64, 256), (1, 16), 1, several, batched=True),
)


def axis(name: str) -> Axis:
    """Return the axis of this name; leave with a message if there is none."""
    found = {each.name: each for each in AXES}
    if name not in found:
        raise SystemExit(f"no axis {name}; there are {', '.join(found)}")
    return found[name]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the slope of the line through the points, both logarithms: value ~ size^slope.

    None for fewer than two sizes, and where a value is not positive.
    """
    if len(set(sizes)) < 2 or min(values) <= 0:
        return None
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(slope)


def upper(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the exponent of the larger half of the sizes, where constants matter least."""
    start = (len(sizes) - 1) // 2
    return exponent(sizes[start:], values[start:])


def is_faster(found: float | None, law: float) -> bool:
    """Return whether a cost grows faster than the arithmetic."""
    return found is not None and found > law + TOLERANCE


@dataclass(frozen=True)
class Series:
    """One cost over the sizes of an axis."""

    sizes: tuple[float, ...]
    forecast: tuple[float, ...]
    run_sizes: tuple[float, ...]  # where it was measured
    measured: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """What the picture shows of an axis."""

    of: Axis
    seconds: Series
    gigabytes: Series


def draw(panels: Sequence[Panel], output: Path) -> None:
    """Write the picture: a panel for each axis, seconds and gigabytes over the size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = 2 if len(panels) <= 4 else 3
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(5.2 * columns, 3.9 * lines), layout="constrained", squeeze=False
    )
    for place in grid.flat[len(panels) :]:
        place.set_axis_off()
    for place, panel in zip(grid.flat, panels, strict=False):
        for series, color, unit in (
            (panel.seconds, "tab:blue", "seconds"),
            (panel.gigabytes, "tab:orange", "gigabytes"),
        ):
            slope = upper(series.sizes, series.forecast)
            told = f"{unit} ~ n^{slope:.1f}" if slope is not None else unit
            place.plot(series.sizes, series.forecast, "o-", color=color, label=told)
            place.plot(series.run_sizes, series.measured, "x", color=color, markersize=9)
        law = np.array(panel.seconds.sizes, np.float64) ** panel.of.law
        scaled = law * panel.seconds.forecast[-1] / law[-1]
        place.plot(
            panel.seconds.sizes, scaled, ":", color="gray", label=f"arithmetic ~ n^{panel.of.law:g}"
        )
        place.set(xscale="log", yscale="log", title=panel.of.name, xlabel=panel.of.says)
        place.set_xticks(panel.seconds.sizes, [f"{size:g}" for size in panel.seconds.sizes])
        place.minorticks_off()
        place.legend(fontsize="small")
        place.grid(alpha=0.3)
    figure.savefig(output, dpi=110, metadata={"Software": None})
    plt.close(figure)
