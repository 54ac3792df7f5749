"""Choose the ring degree, the modulus chain and the scales for a laid-out graph.

For every sensible `ScalePlan` the graph is lowered once without layouts to learn the chain that it
needs. The smallest ring that holds such a chain at the wanted security wins; within it, the fewest
primes whose predicted error keeps the promised precision; among those, the fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from math import ceil, log2
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp

from hec.compiler import tensor_ir
from hec.compiler.ckks_ir import DiagonalMatrix, EncryptionParameters
from hec.compiler.depth import deepest_path, depth_by_layer, levels
from hec.compiler.errors import CompileError, InvalidProgram, fail
from hec.compiler.forecast import Forecast, forecast
from hec.compiler.instances import LARGEST_PRIME_BITS, Instances, Modulus
from hec.compiler.kernel_sizes import KernelSize, KernelSizes
from hec.compiler.laid_out import LaidOutGraph, LinearKernel
from hec.compiler.layout import Layout, ceil_power_of_two
from hec.compiler.lower import Lowered, ScalePlan, lower, scales
from hec.compiler.schedule import Split
from hec.compiler.security import MAX_MODULUS_BITS, max_modulus_bits
from hec.compiler.target import Target
from hec.compiler.tensor_ir import TensorGraph
from hec.compiler.typing_rules import HEADROOM_BITS

SMALLEST_PRIME_BITS = 22  # below, too few primes are 1 modulo 2N
_FRESH = (4, 8)  # bits by which an input's scale may exceed the working scale,
_COARSE = 30  # where that is as small as this: larger ones leave no error to speak of
_LAYERS_SHOWN = 12  # in the error for a network that is too deep
RELATIVE_PRECISION = 9  # bits of the outputs' range, where the user asks for nothing
_RESCALINGS = 5  # of one operation, at most: (scale + prime) / smallest prime + 2

Layouts = Callable[[int], Sequence[LaidOutGraph]]  # slots -> ways to lay the graph out in them


@dataclass(frozen=True)
class Chain:
    """A modulus chain in bits, and the scales that it was made for."""

    plan: ScalePlan
    first: int  # bits of the prime that stays at level 0
    levels: int

    @property
    def modulus(self) -> Modulus:
        """The modulus without special primes."""
        return Modulus(self.first, self.plan.prime, self.levels)


@dataclass(frozen=True)
class Choice:
    """A Program under chosen parameters, and what it is predicted to do."""

    lowered: Lowered
    forecast: Forecast
    graph: LaidOutGraph
    precision: float  # promised bits of the outputs' absolute error

    @property
    def reserve(self) -> float:
        """Bits to spare: of precision, or for values beyond what calibration saw, if fewer."""
        precise = -log2(self.forecast.output_error) - self.precision
        return min(precise, self.forecast.headroom)


def choose_parameters(
    graph: TensorGraph,
    layouts: Layouts,
    instances: Instances,
    magnitudes: Sequence[float],
    target: Target,
) -> Choice:
    """Return the cheapest program that keeps the promised precision at the wanted security.

    `magnitudes[i]` is the root mean square of tensor i after normalisation to [-1, 1].
    Raises `CompileError` where no leveled parameters are large enough.
    """
    chains = _sorted_chains(graph)
    precision = promised_precision(graph, target)
    closest: Choice | None = None
    rings = _rings(instances, target)
    for ring_degree, limit in rings.items():
        fitting = [chain for chain in chains if instances.fits(chain.modulus, limit)]
        if ring_degree < 4096 or not fitting:
            continue
        slots = ring_degree // (2 * images_in(ring_degree, target))
        if ring_degree < max(rings):
            skeleton = _skeleton(graph, slots)
            least = _least_sizes(skeleton)
            bound = _Search(skeleton, ring_degree, instances, magnitudes, target, least)
            if not bound.has_exact(fitting, precision):
                continue  # saves the layouts, which take seconds for a large network
        ways = [
            _shortest(_Search(each, ring_degree, instances, magnitudes, target), fitting, precision)
            for each in layouts(slots)
        ]
        exact = [found for found in ways if found is not None and _is_exact(found)]
        if exact:
            return min(exact, key=_seconds)
        closest = min(
            (found for found in (closest, *ways) if found is not None),
            key=lambda found: found.forecast.output_error,
            default=None,
        )
    raise _too_deep(graph, chains, closest, precision, (max(rings.items()), target.security))


def images_in(ring_degree: int, target: Target) -> int:
    """Return how many images share a ciphertext: a power of two, as many as are asked for."""
    return min(ceil_power_of_two(target.batch), ring_degree // 2)


def _shortest(search: _Search, chains: Sequence[Chain], precision: float) -> Choice | None:
    """Return the best of the fewest levels that are exact enough, or the most exact choice.

    On OpenFHE more and smaller primes may be faster: fewer digits may do. So lengths are compared
    as long as they get faster.
    """
    closest: Choice | None = None
    fastest: Choice | None = None
    for _, group in groupby(chains, key=lambda chain: chain.levels):
        found = search.best(group, precision)
        if found is None:
            continue
        if _is_exact(found):
            if not found.lowered.program.parameters.digits:
                return found
            if fastest is not None and _seconds(fastest) <= _seconds(found):
                return fastest
            fastest = found
        if closest is None or found.forecast.output_error < closest.forecast.output_error:
            closest = found
    return fastest or closest


def _seconds(choice: Choice) -> float:
    return choice.forecast.total_seconds


def _is_exact(choice: Choice) -> bool:
    return bool(choice.forecast.output_error <= 2.0**-choice.precision)


def _rings(instances: Instances, target: Target) -> dict[int, int]:
    """Return the modulus limit of every ring degree that the library has."""
    limits = MAX_MODULUS_BITS[target.security]
    return {degree: limit for degree, limit in limits.items() if degree <= instances.largest_ring}


def promised_precision(graph: TensorGraph, target: Target) -> float:
    """Return the bits of absolute error that the plan promises for its outputs."""
    if target.precision is not None:
        return target.precision
    largest = max(abs(output.factor) for output in graph.outputs)
    return RELATIVE_PRECISION - log2(largest)


@dataclass
class _Search:
    graph: LaidOutGraph
    ring_degree: int
    instances: Instances
    magnitudes: Sequence[float]
    target: Target
    sizes: KernelSizes = field(default_factory=KernelSizes)

    def best(self, chains: Iterable[Chain], precision: float) -> Choice | None:
        """Return the fastest chain that is exact enough, or the most exact one.

        Inputs have a larger scale only where nothing else is exact enough.
        """
        known, tried = list(chains), list[Choice]()
        for larger in (False, True):
            chosen = (chain for chain in known if (chain.plan.fresh > 0) is larger)
            found = (self._try(chain, precision) for chain in chosen)
            tried += [choice for choice in found if choice is not None]
            exact = list(filter(_is_exact, tried))
            if exact:
                return min(exact, key=lambda c: (_seconds(c), -c.reserve))
        return min(tried, key=lambda c: c.forecast.output_error, default=None)

    def has_exact(self, chains: Sequence[Chain], precision: float) -> bool:
        """Tell whether any chain is exact enough; the longest, likeliest ones are tried first."""
        tried = (self._try(chain, precision) for chain in reversed(chains))
        return any(each is not None and _is_exact(each) for each in tried)

    def _try(self, chain: Chain, precision: float) -> Choice | None:
        ring_degree, security = self.ring_degree, self.target.security
        limit = max_modulus_bits(ring_degree, security)
        try:
            parameters = self.instances.make(ring_degree, chain.modulus, limit, security)
            parameters = replace(parameters, batch=images_in(ring_degree, self.target))
            lowered = lower(self.graph, parameters, chain.plan)
            magnitudes = [self.magnitudes[source] for source in lowered.sources]
            return Choice(
                lowered, forecast(lowered.program, magnitudes, self.sizes), self.graph, precision
            )
        except InvalidProgram:  # the primes fell short by a fraction of a bit
            return None


def _least_sizes(skeleton: LaidOutGraph) -> KernelSizes:
    """Return sizes without rotations, folds or padding: no layout can have less."""
    sizes = KernelSizes()
    for position, kernel in skeleton.kernels.items():
        linear = skeleton.graph.operations[position]
        if isinstance(linear, tensor_ir.Linear):
            for empty, matrix in zip(kernel.matrices, linear.matrices, strict=True):
                sizes.assume(empty, _least_size(matrix, skeleton.slots))
    return sizes


_CHAINS: WeakKeyDictionary[TensorGraph, list[Chain]] = WeakKeyDictionary()


def _sorted_chains(graph: TensorGraph) -> list[Chain]:
    """Return the chains of a graph, found once: one library after the other asks."""
    if graph not in _CHAINS:
        _CHAINS[graph] = sorted(_chains(graph), key=lambda c: (c.levels, c.modulus.bits))
    return _CHAINS[graph]


def _chains(graph: TensorGraph) -> Iterator[Chain]:
    skeleton = _skeleton(replace(graph, outputs=()))  # an output would switch to the last level
    longest = 1 + _RESCALINGS * sum(levels(graph.operations[i]) for i in deepest_path(graph))
    for plan in _plans(graph):
        chain = _chain(skeleton, plan, longest)
        if chain is None:  # nor with inputs of a larger scale
            continue
        yield chain
        for fresh in _FRESH if plan.scale <= _COARSE else ():
            larger = _chain(skeleton, replace(plan, fresh=fresh), longest)
            if larger is not None:
                yield larger


def _plans(graph: TensorGraph) -> Iterator[ScalePlan]:
    """Yield the scale plans worth trying.

    Series of higher degree want primes of the working scale. Without them, a prime may also take
    the growth of a matrix, or of a matrix and a square, at once.
    """
    if any(isinstance(operation, tensor_ir.Polynomial) for operation in graph.operations):
        for bits in range(SMALLEST_PRIME_BITS, LARGEST_PRIME_BITS + 1):
            yield ScalePlan(bits, bits, bits)
        return
    for scale, plain, lazy in product(range(20, 48), range(14, 41, 2), (False, True)):
        for prime in sorted({scale, plain, scale + plain, scale + 2 * plain, LARGEST_PRIME_BITS}):
            if SMALLEST_PRIME_BITS <= prime <= LARGEST_PRIME_BITS and prime > lazy * scale:
                yield ScalePlan(scale, plain, prime, lazy)


def _chain(skeleton: LaidOutGraph, plan: ScalePlan, longest: int) -> Chain | None:
    """Return the shortest chain for the plan, or None where its first prime would be too large."""
    nominal = EncryptionParameters(
        4, (2**LARGEST_PRIME_BITS, *[2**plan.prime] * longest), (2**LARGEST_PRIME_BITS,), 0
    )
    values = scales(skeleton, nominal, plan)
    lowest = min(level for level, _ in values)
    first = max(
        log2(scale) + HEADROOM_BITS - (level - lowest) * plan.prime for level, scale in values
    )
    bits = max(SMALLEST_PRIME_BITS, ceil(first + 0.1))
    if bits > LARGEST_PRIME_BITS:
        return None
    return Chain(plan, bits, longest - lowest)


def _skeleton(graph: TensorGraph, slots: int = 2) -> LaidOutGraph:
    """Return the graph with trivial layouts and empty matrices: enough to place rescalings."""
    one = Layout(np.zeros((1, slots), np.int32))
    kernels = {}
    for position, linear in enumerate(graph.operations):
        if isinstance(linear, tensor_ir.Linear):
            count = len(linear.operands)
            matrices = tuple(_empty_matrix(slots) for _ in range(count))
            kernels[position] = LinearKernel(matrices, (Split(1, 0),) * count, ())
    return LaidOutGraph(graph, slots, (one,) * len(graph.operations), kernels)


def _empty_matrix(slots: int) -> DiagonalMatrix:
    return DiagonalMatrix(slots, 1, 1, np.zeros((0, 3), np.int32), sp.csr_array((0, slots)))


def _least_size(matrix: sp.csr_array, slots: int) -> KernelSize:
    """Return the size that `matrix` would have in the best of layouts."""
    rows = np.diff(matrix.indptr)
    squares = np.add.reduceat(matrix.data**2, matrix.indptr[:-1][rows > 0])
    terms, power = float(rows.mean()), float(squares.max(initial=0.0))
    return KernelSize(0, False, 0, terms, power, encoded=terms * min(1.0, rows.size / slots))


def _too_deep(
    graph: TensorGraph,
    chains: Sequence[Chain],
    closest: Choice | None,
    precision: float,
    largest: tuple[tuple[int, int], int],
) -> CompileError:
    (ring_degree, limit), security = largest
    help = (
        "use fewer or lower-degree activations (--degree 2), give --calibration so that intervals"
        " are narrow, or ask for less --precision; --backend openfhe refreshes ciphertexts"
    )
    if closest is not None:
        reached = -log2(closest.forecast.output_error)
        return fail(
            f"the outputs would be exact to {reached:.1f} bits, not the {precision:.1f} asked for",
            f"ring degree {closest.lowered.program.parameters.ring_degree}, the largest modulus of"
            f" {security}-bit security",
            help,
        )
    depths = depth_by_layer(graph)
    levels = sum(depths.values())
    shortest = min((chain.modulus.bits for chain in chains), default=0)
    fitting = levels * (limit - LARGEST_PRIME_BITS) // max(shortest, 1)
    return fail(
        f"the model needs {levels} levels, {shortest} bits of modulus or more; at"
        f" {security}-bit security ring degree {ring_degree} holds {limit} bits,"
        f" about {fitting} levels",
        f"levels by layer: {_dearest(depths)}",
        help,
    )


def _dearest(depths: Mapping[str, int]) -> str:
    """Name the layers that cost the most levels, the first ones first where they cost the same."""
    ordered = sorted(depths.items(), key=lambda layer: -layer[1])
    shown = ", ".join(f"{name}: {count}" for name, count in ordered[:_LAYERS_SHOWN])
    rest = ordered[_LAYERS_SHOWN:]
    if not rest:
        return shown
    return f"{shown}, and {len(rest)} more layers: {sum(count for _, count in rest)}"
