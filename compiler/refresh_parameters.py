"""Choose ring, modulus chain and bootstrap for a laid-out graph whose activations are refreshed.

The graph settles how many levels a value needs between two bootstraps, and how long their series
are. Left to choose are the levels of the two transforms, the digits of key switching and the bits
of a prime: all that fit the modulus at the wanted security are priced, and the fastest wins that is
exact enough and whose server stays below the memory cap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, log2

from hec.compiler.bootstrapping import top_level
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters, Program
from hec.compiler.cost import bootstrap_seconds
from hec.compiler.depth import levels
from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.compiler.forecast import forecast
from hec.compiler.instances import LARGEST_PRIME_BITS
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.lower import Lowered, ScalePlan, lower
from hec.compiler.memory import server_memory
from hec.compiler.noise import bootstrapping
from hec.compiler.observed import Observed
from hec.compiler.parameters import Choice
from hec.compiler.predicted_errors import Known
from hec.compiler.rotation_costs import rescheduled
from hec.compiler.security import max_modulus_bits
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Bootstrap, Input, TensorGraph, operands
from hec.passes.pair_diagonals import pair_diagonals

RING_DEGREES = (32768, 65536)  # below, no modulus holds a bootstrap
BUDGETS = tuple(product((2, 3, 4), (2, 3)))  # levels of CoeffsToSlots, and of SlotsToCoeffs
BABY_STEPS = ((0, 0), (0, 16))  # of the two transforms: OpenFHE's own, and fewer keys (005)
SMALLEST_BITS = 28  # of a prime: below, the error of a bootstrap is a hundredth of its range
EXACT = 1e-3  # error of a bootstrap, of a range of width 1, unless a precision is asked for
GIGABYTE = 0.02  # share of the seconds that a gigabyte of the server's memory is worth
KEPT_BITS = 0.5  # of precision that the promise leaves to chance
_CLOSE = 6  # instances, the fastest and the most exact, for which the whole program is priced

# ring degree, bits of each prime from level 0 upwards, digits -> primes, special primes
Chains = Callable[[int, Sequence[int], int], tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class Needs:
    """What a graph asks of its bootstraps."""

    after: int  # levels between two of them, or between the input and the first
    degree: int  # of the longest series
    count: int  # bootstraps of one prediction


def needs(graph: TensorGraph, blocks: Callable[[int], int]) -> Needs:
    """Return what `graph` asks for; `blocks` tells the ciphertexts of a tensor by position."""
    spent: list[int] = []
    after, degree, count = 1, 0, 0
    for position, operation in enumerate(graph.operations):
        before = max((spent[operand] for operand in operands(operation)), default=0)
        if isinstance(operation, Input | Bootstrap):
            spent.append(0)
        else:
            spent.append(before + levels(operation))
        if isinstance(operation, Bootstrap):
            after = max(after, before)
            degree = max(degree, operation.coefficients.shape[1] - 1)
            count += blocks(position)
    return Needs(after, degree, count)


def choose_refreshing(
    graph: TensorGraph,
    layouts: Callable[[int], LaidOutGraph],
    source: tuple[Chains, Sequence[int]],
    observed: Observed,
    target: Target,
) -> Choice:
    """Return the fastest program with bootstraps that keeps precision, security and memory cap.

    `source` has OpenFHE's primes and the ring degrees to try, in order. Raise `CompileError` where
    no parameters do.
    """
    closest: list[tuple[tuple[float, float, float], Choice]] = []
    chains, rings = source
    for ring_degree in rings:
        if not max_modulus_bits(ring_degree, target.security):
            continue
        search = _Search(layouts(ring_degree // 2), chains, observed, target, KernelSizes())
        found = search.best()
        if found is not None:
            closest.append((search.rank(found), found))
            if closest[-1][0][:2] == (0.0, 0.0):  # within the memory, and as exact as asked for
                return found
    raise _impossible(min(closest, key=lambda ranked: ranked[0])[1] if closest else None, target)


def instances(
    ring_degree: int, slots: int, needed: Needs, target: Target, chains: Chains
) -> list[EncryptionParameters]:
    """Return the instances that refresh `slots` as `needed`, the fastest first.

    Of each kind, that with the most exact primes that the security limit holds; where no precision
    is asked for, only those as exact as networks were measured to tolerate.
    """
    found = []
    limit = max_modulus_bits(ring_degree, target.security)
    for budget, babies in product(BUDGETS, BABY_STEPS):
        how = Bootstrapping(budget, babies, slots)
        top = top_level(how, needed.degree, needed.after)
        for digits in range(2, top + 2):
            bits = range(max(SMALLEST_BITS, limit // (top + 1) - 8), limit // (top + 1) + 1)
            made = (
                _instance(ring_degree, how, [b + 1, *[b] * top], digits, (target.security, chains))
                for b in bits
                if b < LARGEST_PRIME_BITS
            )
            fitting = [p for p in made if p is not None and p.modulus_bits <= limit]
            found += sorted(fitting, key=bootstrapping)[:1]
    if target.precision is None:
        found = [p for p in found if bootstrapping(p) <= EXACT]
    return sorted(found, key=lambda p: bootstrap_seconds(p, needed.degree))


def _instance(
    ring_degree: int,
    how: Bootstrapping,
    bits: list[int],
    digits: int,
    origin: tuple[int, Chains],
) -> EncryptionParameters | None:
    security, chains = origin
    try:
        primes, special = chains(ring_degree, bits, digits)
    except InvalidProgram:  # no such digits, or too few primes
        return None
    return EncryptionParameters(ring_degree, tuple(primes), tuple(special), security, digits, how)


@dataclass
class _Search:
    graph: LaidOutGraph
    chains: Chains
    observed: Observed
    target: Target
    sizes: KernelSizes

    def best(self) -> Choice | None:
        """Return the fastest acceptable choice, else the one that is nearest to being one."""
        graph, layouts = self.graph.graph, self.graph.layouts
        needed = needs(graph, lambda position: layouts[position].blocks)
        slots = _refreshed_slots(self.graph)
        found = instances(2 * self.graph.slots, slots, needed, self.target, self.chains)
        close = dict.fromkeys((*found[:_CLOSE], *sorted(found, key=bootstrapping)[:_CLOSE]))
        tried = [self._choice(parameters) for parameters in close]
        choices = [choice for choice in tried if choice is not None]
        best = min(choices, key=self.rank, default=None)
        if best is None:
            return None
        faster = rescheduled(pair_diagonals(best.lowered.program))
        return self._priced(replace(best.lowered, program=faster))

    def rank(self, choice: Choice) -> tuple[float, float, float]:
        """Return bytes beyond the cap, bits short of the precision, and the price."""
        memory = server_memory(choice.lowered.program).least
        cap = self.target.max_ram or inf
        asked = -inf if self.target.precision is None else self.target.precision
        price = choice.forecast.total_seconds * (1 + GIGABYTE * memory / 1e9)
        return max(0.0, memory - cap), max(0.0, asked - choice.precision), price

    def _choice(self, parameters: EncryptionParameters) -> Choice | None:
        bits = round(log2(parameters.primes[-1]))
        try:
            lowered = lower(self.graph, parameters, ScalePlan(bits, bits, bits))
            return self._priced(lowered)
        except InvalidProgram:  # a value needs more headroom than the first prime leaves
            return None

    def _priced(self, lowered: Lowered) -> Choice:
        magnitudes = [self.observed.magnitudes[source] for source in lowered.sources]
        measured = self.observed.deviations(lowered.program.parameters, lowered.sources)
        predicted = forecast(lowered.program, Known(magnitudes, measured), self.sizes)
        precision = -log2(predicted.output_error) - KEPT_BITS
        if self.target.precision is not None and precision >= self.target.precision:
            precision = self.target.precision
        return Choice(lowered, predicted, self.graph, precision)


def _refreshed_slots(graph: LaidOutGraph) -> int:
    """Return the fewest slots after which every tensor that is refreshed repeats."""
    periods = [
        graph.layouts[position].period
        for position, operation in enumerate(graph.graph.operations)
        if isinstance(operation, Bootstrap)
    ]
    return max(periods, default=graph.slots)


def _impossible(closest: Choice | None, target: Target) -> CompileError:
    if closest is None:
        return fail(
            f"no parameters of {target.security}-bit security hold a bootstrap and the layers"
            " between two of them",
            f"--security {target.security}",
            "use 128-bit security, or lower-degree activations (--degree 15)",
        )
    program = closest.lowered.program
    memory = server_memory(program).least
    if target.max_ram is not None and memory > target.max_ram:
        return fail(
            f"the server needs {memory / 1e9:.1f} GB, {(memory - target.max_ram) / 1e9:.1f} GB more"
            " than it may hold",
            f"--max-ram {target.max_ram / 1e9:g}G",
            _what_would_fit(program),
        )
    return fail(
        f"the outputs would be exact to {closest.precision:.1f} bits, not the"
        f" {target.precision or 0:.1f} asked for",
        f"ring degree {program.parameters.ring_degree}, {len(program.parameters.primes)} primes",
        "ask for less --precision, or calibrate on more samples so that intervals are narrow",
    )


def _what_would_fit(program: Program) -> str:
    memory = server_memory(program)
    return (
        f"allow {memory.least / 1e9:.1f} GB, of which keys {memory.keys / 1e9:.1f} GB and the"
        f" bootstrap's matrices {memory.bootstrapping / 1e9:.1f} GB; a leveled program needs less:"
        " use fewer or smoother activations"
    )
