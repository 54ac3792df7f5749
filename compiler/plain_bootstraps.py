"""Refresh a network where its levels run out: how many levels after a bootstrap, and where.

Bootstraps that evaluate an activation are there already, and stay; for a network of exact
polynomials there are none.

More levels after a bootstrap mean fewer bootstraps, each dearer, on a larger modulus. For every
number of levels that the security limit allows, the placement is the cheapest of all
(`bootstrap_placement`); the number with the cheapest placement is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import inf, sqrt
from typing import Final

from hec.compiler.bootstrap_placement import Placement, RefreshCosts, place
from hec.compiler.bootstrapping import input_level
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.cost import bootstrap_seconds, costs_of
from hec.compiler.errors import CompileError, fail
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.layout import ceil_power_of_two
from hec.compiler.memory import client_memory
from hec.compiler.refresh_parameters import RING_DEGREES, Chains, Needs, instances
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Bootstrap, Linear, TensorGraph, longest_series, size
from hec.passes.place_bootstraps import DEGREE

MOST_LEVELS: Final = 20  # after a bootstrap; no modulus of 128-bit security holds more
_KEYS: Final = KeyManifest((), relinearization=True, bootstrapping=True)


@dataclass(frozen=True)
class Refreshes:
    """A placement, and the instance that it was priced for."""

    placement: Placement
    parameters: EncryptionParameters


def cheapest_refreshes(
    graph: TensorGraph, chains: Chains, target: Target, rings: Sequence[int] = RING_DEGREES
) -> Refreshes:
    """Return the cheapest placement over all numbers of levels after a bootstrap, and `rings`.

    Raise `CompileError` where no instance has levels enough, or none fits `--max-ram`.
    """
    degree = longest_series(graph)
    found = [
        Refreshes(placement, parameters)
        for fresh, parameters in _fastest_instances(
            graph, degree or DEGREE, (chains, rings), target
        )
        if (placement := place(graph, _costs(graph, parameters, fresh))) is not None
        if placement.readers or degree  # else a leveled program, which wants another modulus
    ]
    best = min(found, key=lambda each: each.placement.seconds, default=None)
    if best is None:
        raise _none(target)
    return best


def _fastest_instances(
    graph: TensorGraph, degree: int, source: tuple[Chains, Sequence[int]], target: Target
) -> Iterator[tuple[int, EncryptionParameters]]:
    cap, (chains, rings) = target.max_ram or inf, source
    for ring_degree, fresh in product(rings, range(1, MOST_LEVELS + 1)):
        slots = min(ring_degree // 2, ceil_power_of_two(max(map(size, graph.operations))))
        found = instances(ring_degree, slots, Needs(fresh, degree, 1), target, chains)
        fitting = (p for p in found if client_memory(p, _KEYS).least <= cap)
        yield from ((fresh, parameters) for parameters in islice(fitting, 1))


def _costs(graph: TensorGraph, parameters: EncryptionParameters, fresh: int) -> RefreshCosts:
    """Return what operations cost, before layouts are known: a matrix by its non-zeros."""
    costs, slots = costs_of(parameters), parameters.slots
    degree = longest_series(graph) or DEGREE
    floor = input_level(parameters.bootstrapping) if parameters.bootstrapping else 0

    def blocks(position: int) -> int:
        return -(-size(graph.operations[position]) // slots)

    def seconds(position: int, level: int) -> float:
        limbs, operation = max(level + floor, 0) + 1, graph.operations[position]
        if isinstance(operation, Bootstrap):
            return refresh(position)
        if not isinstance(operation, Linear):
            return blocks(position) * (costs.key_switch(limbs) + costs.rescale(limbs))
        diagonals = sum(m.nnz / max(min(*m.shape, slots), 1) for m in operation.matrices)
        turns = 2 * sqrt(diagonals) * costs.key_switch(limbs)
        return turns + diagonals * (costs.multiply_plain(limbs) + costs.add(limbs))

    def refresh(position: int) -> float:
        return blocks(position) * bootstrap_seconds(parameters, degree)

    return RefreshCosts(fresh, fresh, seconds, refresh, reserve=floor)


def _none(target: Target) -> CompileError:
    cap = "" if target.max_ram is None else f" and a server of {target.max_ram / 1e9:g} GB"
    return fail(
        f"no placement of bootstraps fits {target.security}-bit security{cap}",
        f"--security {target.security}",
        "allow more --max-ram, use 128-bit security, or polynomials of lower degree",
    )
