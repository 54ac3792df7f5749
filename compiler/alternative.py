"""An alternative to what was compiled: a change, and what it does, found by compiling it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["option", "model", "data"]
TOLERATED: Final = 0.02  # fall of the agreement up to which a network needs no fine-tuning
_NOTICED: Final = 1.05  # factor from which seconds or memory are another's
_MINUS: Final = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Alternative:
    """One change of the model, of its data, or of the options, compiled and measured."""

    change: Annotated[str, "what to do, in words"]
    kind: Annotated[Kind, "what changes: an option, the model, or its calibration data"]
    backend: Annotated[str, "that runs the changed network"]
    levels: Annotated[int, "rescalings on the longest way, more than before: negative where fewer"]
    bootstraps: Annotated[int, "of one prediction, more than before"]
    seconds: Annotated[float, "of one prediction, predicted"]
    seconds_ratio: Annotated[float, "seconds before over seconds after: 2 is twice as fast"]
    memory: Annotated[int, "bytes that the server takes at its peak"]
    memory_ratio: Annotated[float, "bytes before over bytes after"]
    samples: Annotated[int, "calibration samples that agreement and error are measured on; 0: none"]
    agreement_before: Annotated[
        float | None, "share of samples with the exact network's class; null: not known"
    ]
    agreement_after: Annotated[float | None, "the same for the changed network, not trained again"]
    error_before: Annotated[
        float | None, "of the outputs, as a share of the exact ones' rms; null: not known"
    ]
    error_after: Annotated[float | None, "the same for the changed network, not trained again"]

    @property
    def needs_tuning(self) -> bool:
        """Whether the network has to be trained for the change: it is no longer itself."""
        if self.kind != "model":
            return False
        if self.agreement_before is not None and self.agreement_after is not None:
            return self.agreement_after < self.agreement_before - TOLERATED
        return True

    def __str__(self) -> str:
        gains = [*_counts(self), *_ratios(self)] or ["costs the same"]
        return f"{self.change}: {', '.join([*gains, _quality(self)])}"


def _counts(found: Alternative) -> list[str]:
    named = ((found.levels, "level"), (found.bootstraps, "bootstrap"))
    return [
        f"{_MINUS if count < 0 else '+'}{abs(count)} {word}{'s' if abs(count) > 1 else ''}"
        for count, word in named
        if count
    ]


def _ratios(found: Alternative) -> list[str]:
    told = []
    for ratio, better, worse in (
        (found.seconds_ratio, "faster", "slower"),
        (found.memory_ratio, "less memory", "more memory"),
    ):
        factor = max(ratio, 1 / ratio)
        if factor >= _NOTICED:
            text = f"{factor:.1f}" if factor < 10 else f"{factor:,.0f}"
            told.append(f"{text}× {better if ratio > 1 else worse}")  # noqa: RUF001
    return told


def _quality(found: Alternative) -> str:
    if not found.samples:
        return "agreement not known without calibration data"
    where = f"measured on your {found.samples} calibration samples"
    if found.agreement_before is not None and found.agreement_after is not None:
        before, after = 100 * found.agreement_before, 100 * found.agreement_after
        told = f"agreement {before:.1f} → {after:.1f} %"
    elif found.error_before is not None and found.error_after is not None:
        before, after = 100 * found.error_before, 100 * found.error_after
        told = f"error of the outputs {before:.1f} → {after:.1f} % of their root mean square"
    else:
        return "agreement not known"
    tuning = " as it is, so train it that way first" if found.needs_tuning else ""
    return f"{told}{tuning}, {where}"
