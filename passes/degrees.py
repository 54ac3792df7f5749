"""Degrees: one for each activation, so that predicted seconds are few and the outputs exact enough.

What each degree of a layer does to the outputs is predicted from the error of its fit and the
layer's sensitivity; what it costs, by `Prices`. Of all choices those are of use that no other one
beats in both; the cheapest of them that is exact enough, measured, is found by bisection. Then
single layers are lowered while that holds. With many layers only those choices are looked at that
come from the lowest degrees of all by steps in the order of gain for cost.

Source: algorithms.md, 7 (OLA); the order of gain for cost is the convex hull of a knapsack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import hypot, inf, prod
from operator import itemgetter
from typing import Final, TypeAlias

from hec.passes.prices import Prices
from hec.passes.trials import Trial, Trials

ENUMERATED: Final = 5**5  # choices that are all looked at
FREE: Final = 1e-9  # seconds: the price of a step that saves nothing elsewhere

Ladder: TypeAlias = tuple[int, ...]  # the degrees a layer may have, one for each number of levels
Degrees: TypeAlias = dict[int, int]


@dataclass(frozen=True)
class Choices:
    """What is predicted of degrees before they are tried."""

    ladders: Mapping[int, Ladder]
    errors: Mapping[int, Mapping[int, float]]  # at the outputs, of each layer alone, by degree
    prices: Prices

    def error(self, degrees: Mapping[int, int]) -> float:
        """Return the predicted error at the outputs."""
        return hypot(*(self.errors[layer][degree] for layer, degree in degrees.items()))

    def front(self) -> list[Degrees]:
        """Return ever more exact and dearer degrees, up to the most exact of all."""
        if prod(map(len, self.ladders.values())) > ENUMERATED:
            return self._chain()
        every = (
            dict(zip(self.ladders, degrees, strict=True))
            for degrees in product(*self.ladders.values())
        )
        priced = sorted(
            ((self.prices.seconds(degrees), self.error(degrees), degrees) for degrees in every),
            key=itemgetter(0, 1),
        )
        found, least = list[Degrees](), inf
        for _, error, degrees in priced:
            if error < least:
                found.append(degrees)
                least = error
        return found

    def _chain(self) -> list[Degrees]:
        degrees = {layer: ladder[0] for layer, ladder in self.ladders.items()}
        found = [degrees]
        while (step := self._best_step(degrees)) is not None:
            degrees = {**degrees, **step}
            found.append(degrees)
        return found

    def _best_step(self, degrees: Degrees) -> Degrees | None:
        """Return the layer to raise, and to what: most squared error less for each second more."""
        seconds, best, chosen = self.prices.seconds(degrees), 0.0, None
        for layer, ladder in self.ladders.items():
            now = self.errors[layer][degrees[layer]]
            for degree in ladder[ladder.index(degrees[layer]) + 1 :]:
                gain = now**2 - self.errors[layer][degree] ** 2
                more = self.prices.seconds({**degrees, layer: degree}) - seconds
                if gain / max(more, FREE) > best:
                    best, chosen = gain / max(more, FREE), {layer: degree}
        return chosen


def cheapest(search: Trials, choices: Choices) -> Trial:
    """Return the trial of the cheapest degrees that keep the limits of `search`.

    Where none do, return the one that comes nearest.
    """
    front = choices.front()
    likely = [choices.error(degrees) <= search.limits.error for degrees in front]
    low, high = 0, len(front)  # the first that keeps the limits is in [low, high]
    probe = likely.index(True) if any(likely) else len(front) - 1
    nearest: Trial | None = None
    best: Trial | None = None
    while low < high:
        trial = search.trial(front[probe], nearest)
        if nearest is None or trial.excess < nearest.excess:
            nearest = trial
        if trial.excess <= 1:
            best, high = trial, probe
        else:
            low = probe + 1
        probe = (low + high) // 2
    found = best or nearest or search.trial(front[-1])
    return _lowered(search, choices, found) if best else found


def _lowered(search: Trials, choices: Choices, trial: Trial) -> Trial:
    """Lower layers one step each while the limits are kept, the most saving for harm first."""
    refused = set[int]()
    while True:
        steps = _steps_down(choices, trial, refused)
        if not steps:
            return trial
        _, layer, lower = steps[0]
        lowered = search.trial({**trial.degrees, layer: lower}, trial)
        if lowered.excess <= 1:
            trial = lowered
        else:
            refused.add(layer)


def _steps_down(choices: Choices, trial: Trial, refused: set[int]) -> list[tuple[float, int, int]]:
    """Return (squared error for each second saved, layer, lower degree), the best first."""
    seconds, steps = choices.prices.seconds(trial.degrees), list[tuple[float, int, int]]()
    for layer, degree in trial.degrees.items():
        ladder = choices.ladders[layer]
        if layer in refused or degree == ladder[0]:
            continue
        lower = ladder[ladder.index(degree) - 1]
        saved = seconds - choices.prices.seconds({**trial.degrees, layer: lower})
        harm = choices.errors[layer][lower] ** 2 - choices.errors[layer][degree] ** 2
        if saved > 0:  # a quartic before wide matrices may be dearer than degree 7
            steps.append((harm / saved, layer, lower))
    return sorted(steps)
