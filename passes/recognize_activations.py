"""Recognize activations: elementwise operations on one tensor become one `Activation`."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import assert_never

from hec.compiler.calibration import Calibration
from hec.compiler.errors import InvalidProgram
from hec.compiler.functions import Applied, Power, Product, Step, Sum, composed
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Bootstrap,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    operands,
)
from hec.passes.matrices import diagonal_of
from hec.passes.rewriting import Rebuilt, consumers, merged

LONGEST = 64  # operations of one composition
FEWEST = 2  # products, polynomials, and activations that a composition must save


@dataclass(frozen=True)
class Chain:
    """A value as a univariate function of another: the operations that compute it from there."""

    base: int
    members: frozenset[int] = frozenset()  # none: it is the base itself


def recognize_activations(
    graph: TensorGraph, target: Target, calibration: Calibration
) -> TensorGraph:
    """Replace elementwise operations that start from one tensor by one `Activation`, composed.

    So x * sigmoid(x) is SiLU, x * (1 + erf(x / sqrt 2)) / 2 is GELU, with no pattern for either.
    Pays because one fit replaces several, and the products between them with their levels. Only
    where an activation is inside, and `FEWEST` operations that cost a level disappear: what others
    read as well has to stay.

    Source: none. Cost: operations, times `LONGEST`.
    """
    chains: list[Chain] = []
    for position, operation in enumerate(graph.operations):
        chains.append(_chain(position, operation, chains))
    needed, replaced = _needed(graph, chains)
    rebuilt = Rebuilt()
    for position, operation in enumerate(graph.operations):
        if position in replaced:
            base = rebuilt.positions[chains[position].base]
            activation = _activation(graph, chains[position], base, operation)
            rebuilt.positions[position] = rebuilt.add(activation)
        elif needed[position] or isinstance(operation, Input):
            rebuilt.keep(position, operation)
    return rebuilt.finish(graph.outputs)


def _chain(position: int, operation: TensorOperation, chains: list[Chain]) -> Chain:
    sources = [chains[operand] for operand in operands(operation)]
    if len({chain.base for chain in sources}) != 1 or not _is_uniform(operation):
        return Chain(position)
    members = frozenset({position}).union(*(chain.members for chain in sources))
    return Chain(sources[0].base, members) if len(members) <= LONGEST else Chain(position)


def _is_uniform(operation: TensorOperation) -> bool:
    """Return whether the operation treats all elements alike."""
    match operation:
        case Linear():
            same_bias = bool((operation.bias == operation.bias[:1]).all())
            return same_bias and all(_factor(operation, i) is not None for i in _indices(operation))
        case Polynomial():
            return operation.coefficients.ndim == 1
        case Activation() | Multiply():
            return True
        case Input() | Bootstrap():
            return False
        case _:
            assert_never(operation)


def _indices(linear: Linear) -> range:
    return range(len(linear.operands))


def _factor(linear: Linear, index: int) -> float | None:
    """Return c if the matrix is c times the identity, else None."""
    diagonal = diagonal_of(linear.matrices[index])
    if diagonal is None or not diagonal.size or (diagonal != diagonal[0]).any():
        return None
    return float(diagonal[0])


def _needed(graph: TensorGraph, chains: list[Chain]) -> tuple[list[bool], set[int]]:
    """Return what is left to compute, and which of that are compositions from now on."""
    readers = consumers(graph)
    needed, replaced = [False] * len(chains), set[int]()
    for output in graph.outputs:
        needed[output.operand] = True
        readers[output.operand].append(len(chains))  # beyond every chain: it has to stay
    for position in reversed(range(len(chains))):
        if needed[position]:
            pays = _pays(graph, chains[position], position, readers)
            replaced |= {position} if pays else set()
            sources = (chains[position].base,) if pays else operands(graph.operations[position])
            for source in sources:
                needed[source] = True
    return needed, replaced


def _pays(graph: TensorGraph, chain: Chain, last: int, readers: list[list[int]]) -> bool:
    inside = [graph.operations[member] for member in chain.members]
    if not any(isinstance(operation, Activation) for operation in inside):
        return False
    gone = {last}
    for member in sorted(chain.members - {last}, reverse=True):
        if all(reader in gone for reader in readers[member]):
            gone.add(member)
    saved = [member for member in gone if not isinstance(graph.operations[member], Linear)]
    return len(saved) >= FEWEST


def _activation(
    graph: TensorGraph, chain: Chain, base: int, last: TensorOperation
) -> TensorOperation:
    number = {chain.base: 0}
    steps: list[Step] = []
    origins = []
    for member in sorted(chain.members):
        operation = graph.operations[member]
        steps.append(_step(operation, number))
        number[member] = len(steps)
        origins.append(() if isinstance(operation, Input) else operation.origin)
    return Activation(base, composed(tuple(steps)), last.shape, merged(*origins))


def _step(operation: TensorOperation, number: dict[int, int]) -> Step:
    sources = tuple(number[operand] for operand in operands(operation))
    match operation:
        case Linear():
            factors = tuple(_factor(operation, i) or 0.0 for i in _indices(operation))
            return Sum(sources, factors, float(operation.bias[0]))
        case Multiply():
            return Product(*sources)
        case Polynomial():
            coefficients = tuple(map(float, operation.coefficients))
            return Power(sources[0], coefficients, operation.basis == "chebyshev")
        case Activation():
            return Applied(sources[0], operation.function)
        case Input() | Bootstrap():
            raise InvalidProgram("recognize_activations: composes what is not elementwise")
        case _:
            assert_never(operation)
