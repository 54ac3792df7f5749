"""Give every tensor the layout that makes the matrices around it cheapest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
import scipy.sparse as sp

from hec.compiler.arrangement import (
    Arrangement,
    before_copies,
    candidates,
    distinct,
    in_place,
)
from hec.compiler.ckks_ir import DiagonalMatrix
from hec.compiler.cost_table import REFERENCE
from hec.compiler.diagonals import Gather, diagonal_index, diagonal_matrix, periodic_terms, supports
from hec.compiler.errors import InvalidProgram
from hec.compiler.laid_out import LaidOutGraph, LinearKernel
from hec.compiler.layout import Layout
from hec.compiler.schedule import best_split, rotations, steps
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Bootstrap, Linear, TensorGraph, inputs, operands

_SAMPLE = 400_000  # non-zeros from which a matrix's diagonals are estimated
_NOMINAL_LIMBS = 4  # only the ratio of rotations to products matters here
REFRESHED = 5.0  # seconds that a ciphertext of a refreshed tensor costs: its bootstrap


def choose_layouts(graph: TensorGraph, slots: int, target: Target) -> LaidOutGraph:
    """Choose layouts front to back, looking one matrix ahead.

    Tensors that meet in an elementwise operation share a layout. Besides those of its shape, a
    result may lie where its operand does (a sum in the place of its first summand), or where the
    next matrix copies it to (`in_place`, `before_copies`): so the sum and the expansions of a
    product of two matrices keep few diagonals. A ciphertext that is refreshed counts as much as its
    bootstrap takes. An input that only matrices read is arranged by the client for the first of
    them (`Gather`), which costs the server nothing.

    Source: LoLa's message representations; Orion's single-shot multiplexing.
    Cost: two estimates per matrix and candidate, each over a sample of its non-zeros.
    """
    planner = _Planner(graph, slots, target, _groups(graph), _free_inputs(graph))
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Linear):
            planner.place_linear(position, operation)
        elif planner.groups[position] not in planner.chosen and position not in planner.free:
            planner.place_plain(position)
    layouts = tuple(planner.layout(position) for position in range(len(graph.operations)))
    return LaidOutGraph(graph, slots, layouts, planner.kernels)


def _groups(graph: TensorGraph) -> list[int]:
    """Return, for every operation, the first operation that must share its layout."""
    ties: nx.Graph[int] = nx.Graph()
    ties.add_nodes_from(range(len(graph.operations)))
    for position, operation in enumerate(graph.operations):
        if not isinstance(operation, Linear):
            ties.add_edges_from((position, operand) for operand in operands(operation))
    first = [0] * len(graph.operations)
    for members in nx.connected_components(ties):
        for member in members:
            first[member] = min(members)
    return first


@dataclass
class _Planner:
    graph: TensorGraph
    slots: int
    target: Target
    groups: list[int]
    free: frozenset[int]
    chosen: dict[int, Arrangement] = field(default_factory=dict)  # by group
    gathers: dict[int, Gather] = field(default_factory=dict)  # by (position of an) input
    kernels: dict[int, LinearKernel] = field(default_factory=dict)
    steps: frozenset[int] = frozenset()  # rotations that the kernels so far make
    samples: dict[int, sp.csr_array] = field(default_factory=dict)  # by the matrix's id
    prices: dict[tuple[int, int, int], float] = field(default_factory=dict)
    numbers: dict[bytes, int] = field(default_factory=dict)  # of layouts

    def __post_init__(self) -> None:
        operations = self.graph.operations
        self.makers: dict[int, list[int]] = {}  # by group: operations whose results it has
        self.readers: dict[int, list[int]] = {}  # by group: matrices that read it
        self.refreshes: dict[int, int] = {}  # by group: bootstraps of it
        for position, operation in enumerate(operations):
            group = self.groups[position]
            self.makers.setdefault(group, []).append(position)
            if isinstance(operation, Bootstrap):
                self.refreshes[group] = self.refreshes.get(group, 0) + 1
            if isinstance(operation, Linear):
                for source in dict.fromkeys(self.groups[operand] for operand in operation.operands):
                    self.readers.setdefault(source, []).append(position)

    def layout(self, position: int) -> Layout:
        if position in self.gathers:
            return self.gathers[position].layout()
        return self.chosen[self.groups[position]].layout

    def place_plain(self, position: int) -> None:
        """Give an input that elementwise operations read its standard layout."""
        shape = self.graph.operations[position].shape
        self.chosen[self.groups[position]] = candidates(shape, None, self.slots)[0]

    def place_linear(self, position: int, linear: Linear) -> None:
        """Choose the result's layout, unless an elementwise partner has it already."""
        group = self.groups[position]
        if group not in self.chosen:
            options = self._options(position, linear)
            best = options[0]
            if len(options) > 1:
                best = min(options, key=lambda o: self._price(position, linear, o))
            self.chosen[group] = best
        for operand, matrix in zip(linear.operands, linear.matrices, strict=True):
            if operand in self.free and operand not in self.gathers:
                self._place_input(operand, matrix, self.chosen[group])
        self.kernels[position] = self._kernel(linear, self.chosen[group].layout)

    def _options(self, position: int, linear: Linear) -> list[Arrangement]:
        """Return the layouts worth trying for the result of `linear`.

        Where an element is a ciphertext of its own, all layouts are the same but for empty ones.
        """
        if self.slots == 1:
            return candidates(linear.shape, None, 1)
        first = linear.operands[0]
        source = self.chosen.get(self.groups[first])
        options = candidates(linear.shape, source, self.slots)
        if first not in self.free or first in self.gathers:
            options += in_place(linear.matrices[0], self.layout(first))
        for later in self.readers.get(self.groups[position], []):
            options += before_copies(self._matrix(later, position), self.slots)
        return distinct(options)

    def _matrix(self, reader: int, position: int) -> sp.csr_array:
        """Return the matrix by which `reader` reads the group of `position`."""
        linear = self.graph.operations[reader]
        if not isinstance(linear, Linear):
            raise InvalidProgram(f"choose_layouts: operation {reader} has no matrix")
        groups = [self.groups[operand] for operand in linear.operands]
        return linear.matrices[groups.index(self.groups[position])]

    def _place_input(self, position: int, matrix: sp.csr_array, result: Arrangement) -> None:
        found = self._best_gather(matrix, result)
        if found is None:
            self.place_plain(position)
        else:
            self.gathers[position] = found[1]

    def _best_gather(
        self, matrix: sp.csr_array, result: Arrangement
    ) -> tuple[float, Gather] | None:
        """Return the cheapest arrangement, and its seconds with the folds that follow."""
        options: list[tuple[float, Gather]] = []
        if self.slots == 1:  # then no rotation is to be spared
            return None
        for width in sorted({1, min(result.pixels, result.layout.period), result.layout.period}):
            read = supports(matrix, result.layout, width)
            span = result.layout.period
            while span <= self.slots:
                option = Gather(read, span)
                if option.ciphertexts <= self.target.max_input_ciphertexts:
                    switches = option.ciphertexts - 1 + len(_folds(option.period, span))
                    price = self._index_price(option.index()) + self._seconds(switches, 0)
                    options.append((price, option))
                span *= 2
        return min(options, key=lambda option: option[0], default=None)

    def _gathered(self, source: Gather, width: int) -> DiagonalMatrix:
        matrix, result = source.supports.matrix, source.supports.result
        blocks = (result.blocks, source.ciphertexts)
        return diagonal_matrix(source.terms(width), matrix, blocks, self.slots)

    def _kernel(self, linear: Linear, result: Layout) -> LinearKernel:
        sources = [self.layout(operand) for operand in linear.operands]
        width = max(result.period, *(source.period for source in sources))
        for operand in linear.operands:
            if operand in self.gathers:
                width = max(width, self.gathers[operand].span)
        matrices = []
        for operand, source, matrix in zip(linear.operands, sources, linear.matrices, strict=True):
            arranged = self.gathers.get(operand)
            if arranged is not None and arranged.supports.matrix is matrix:
                matrices.append(self._gathered(arranged, width))
            else:
                matrices.append(self._periodic(matrix, source, result, width))
        folds = _folds(result.period, width)
        self.steps |= set(folds)
        splits = []
        for transform in matrices:
            splits.append(best_split(transform.index, self.slots, self.steps))
            self.steps |= steps(transform.index, splits[-1], self.slots)
        return LinearKernel(tuple(matrices), tuple(splits), folds)

    def _periodic(
        self, matrix: sp.csr_array, source: Layout, result: Layout, width: int
    ) -> DiagonalMatrix:
        terms = periodic_terms(matrix, source, result, width)
        return diagonal_matrix(terms, matrix, (result.blocks, source.blocks), self.slots)

    def _price(self, position: int, linear: Linear, option: Arrangement) -> float:
        """Estimate the seconds of this matrix, its partners, and the cheapest continuation."""
        group = self.groups[position]
        own = sum(
            self._operand_price(operand, matrix, option)
            for operand, matrix in zip(linear.operands, linear.matrices, strict=True)
        )
        others = sum(self._partner_prices(position, option))
        refreshes = self.refreshes.get(group, 0) * option.layout.blocks * REFRESHED
        return own + others + sum(self._next_prices(position, option)) + refreshes

    def _partner_prices(self, position: int, option: Arrangement) -> Iterator[float]:
        """Yield the seconds of matrices whose results are to share the layout."""
        for partner in self.makers[self.groups[position]]:
            linear = self.graph.operations[partner]
            if partner <= position or not isinstance(linear, Linear):
                continue
            for operand, matrix in zip(linear.operands, linear.matrices, strict=True):
                if self.groups[operand] in self.chosen:
                    source = self.chosen[self.groups[operand]].layout
                    yield self._periodic_price(matrix, source, option.layout)

    def _operand_price(self, operand: int, matrix: sp.csr_array, option: Arrangement) -> float:
        if operand in self.free and operand not in self.gathers:
            found = self._best_gather(matrix, option)
            return found[0] if found else float("inf")
        return self._periodic_price(matrix, self.layout(operand), option.layout)

    def _next_prices(self, position: int, option: Arrangement) -> Iterator[float]:
        """Yield the seconds of the matrices that read the result, each with its best layout."""
        here = self.groups[position]
        for later in self.readers.get(here, []):
            linear, group = self.graph.operations[later], self.groups[later]
            if not isinstance(linear, Linear):
                continue
            read = [
                (matrix, option.layout if self.groups[operand] == here else self.layout(operand))
                for operand, matrix in zip(linear.operands, linear.matrices, strict=True)
                if self.groups[operand] == here or self._is_known(operand)
            ]
            options = (
                [self.chosen[group]]
                if group in self.chosen
                else distinct(
                    [
                        *candidates(linear.shape, option, self.slots),
                        *(result for matrix, source in read for result in in_place(matrix, source)),
                    ]
                )
            )
            yield min(
                sum(self._periodic_price(matrix, source, result.layout) for matrix, source in read)
                for result in options
            )

    def _is_known(self, position: int) -> bool:
        """Tell whether the tensor has its layout, other than the client's own."""
        return self.groups[position] in self.chosen

    def _periodic_price(self, matrix: sp.csr_array, source: Layout, result: Layout) -> float:
        key = id(matrix), self._number(source), self._number(result)
        if key not in self.prices:
            self.prices[key] = self._priced(matrix, source, result)
        return self.prices[key]

    def _number(self, layout: Layout) -> int:
        """Return the same number for layouts that are the same."""
        return self.numbers.setdefault(layout.elements.tobytes(), len(self.numbers))

    def _priced(self, matrix: sp.csr_array, source: Layout, result: Layout) -> float:
        if id(matrix) not in self.samples:
            self.samples[id(matrix)] = _sampled(matrix)
        width = max(source.period, result.period)
        terms = periodic_terms(self.samples[id(matrix)], source, result, width)
        index = diagonal_index(terms, (result.blocks, source.blocks), self.slots)
        return self._index_price(index) + self._seconds(len(_folds(result.period, width)), 0)

    def _index_price(self, index: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> float:
        split = best_split(index, self.slots)
        return self._seconds(rotations(index, split, self.slots), len(index))

    def _seconds(self, key_switches: int, products: int) -> float:
        costs = REFERENCE.seal_steps(2 * self.slots)
        switching = key_switches * costs.key_switch(_NOMINAL_LIMBS)
        return switching + products * costs.multiply_plain(_NOMINAL_LIMBS)


def _free_inputs(graph: TensorGraph) -> frozenset[int]:
    """Return the inputs that the client may arrange as it likes.

    Only matrices read them, and the first of these all that the others read, for what it does not
    read the arrangement leaves out.
    """
    readers: dict[int, list[sp.csr_array]] = {position: [] for position, _ in inputs(graph)}
    held = {output.operand for output in graph.outputs}
    for operation in graph.operations:
        if isinstance(operation, Linear):
            for operand, matrix in zip(operation.operands, operation.matrices, strict=True):
                readers.setdefault(operand, []).append(matrix)
        else:
            held.update(operands(operation))
    return frozenset(
        position
        for position, _ in inputs(graph)
        if position not in held and readers[position] and _first_reads_all(readers[position])
    )


def _first_reads_all(matrices: list[sp.csr_array]) -> bool:
    first = matrices[0].indices
    return bool(first.size) and all(
        bool(np.isin(matrix.indices, first).all()) for matrix in matrices[1:]
    )


def _folds(period: int, width: int) -> tuple[int, ...]:
    steps = []
    while period < width:
        steps.append(period)
        period *= 2
    return tuple(steps)


def _sampled(matrix: sp.csr_array) -> sp.csr_array:
    """Keep some rows, spread evenly but not in step with any power of two; the rest are empty."""
    if matrix.nnz <= _SAMPLE:
        return matrix
    rows = matrix.shape[0]
    share = _SAMPLE / matrix.nnz
    kept = np.random.default_rng(0).random(rows) < share
    counts = np.where(kept, np.diff(matrix.indptr), 0)
    entries = np.repeat(kept, np.diff(matrix.indptr))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_array((matrix.data[entries], matrix.indices[entries], indptr), matrix.shape)
