"""Numbers in words: sizes, durations, shares and intervals, for people."""

from __future__ import annotations


def size(count: float) -> str:
    """Return bytes in a unit that suits them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def duration(seconds: float) -> str:
    """Return seconds in a unit that suits them."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 1000:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 100 * 60 else f"{seconds / 3600:.3g} h"


def share(value: float | None) -> str:
    """Return a share as percent."""
    return "-" if value is None else f"{100 * value:.2f} %"


def interval(ends: tuple[float, float] | None) -> str:
    """Return an interval with four digits, or a dash."""
    return "-" if ends is None else f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def predictions(batch: int) -> str:
    """Return what one run of a plan predicts."""
    return "one prediction" if batch == 1 else f"{batch} predictions at once"
