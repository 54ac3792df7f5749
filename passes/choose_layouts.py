"""Give every tensor the layout that makes the matrices around it cheapest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from hec.compiler.arrangement import (
    Arrangement,
    across_copies,
    before_copies,
    candidates,
    distinct,
    in_phases,
    in_place,
    in_runs,
)
from hec.compiler.ckks_ir import DiagonalMatrix
from hec.compiler.cost_table import REFERENCE
from hec.compiler.diagonals import (
    Gather,
    diagonal_index,
    diagonal_matrix,
    periodic_terms,
    spread,
    supports,
)
from hec.compiler.errors import InvalidProgram
from hec.compiler.laid_out import LaidOutGraph, LinearKernel
from hec.compiler.layout import Layout
from hec.compiler.schedule import best_split, rotations, steps
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Bootstrap,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
)
from hec.passes.layout_groups import free_inputs, groups

_SAMPLE = 400_000  # non-zeros from which a matrix's diagonals are estimated
_NOMINAL_LIMBS = 4  # only the ratio of rotations to products matters here
_SPREAD = 8_000_000  # non-zeros of a matrix that computes runs, at most
_SQUARE = 3  # coefficients of a polynomial that is a square
REFRESHED = 5.0  # seconds that a ciphertext of a refreshed tensor costs: its bootstrap


def layouts_to_compare(graph: TensorGraph, slots: int, target: Target) -> list[LaidOutGraph]:
    """Return the layouts of `choose_layouts`, after others that take fewer steps.

    Runs of equal elements, and gaps that hold partial sums, spare diagonals; but more rounding
    errors add up, and fewer steps may cost more levels: only parameters tell.
    """
    fast = _planned(graph, slots, target, has_runs=True, has_gaps=True)
    found = [fast.result()] if any(x.within is not None for x in fast.chosen.values()) else []
    closed = _planned(graph, slots, target, has_runs=True, has_gaps=False)
    found.append(closed.result())
    if any(each.is_run for each in closed.chosen.values()):
        found.append(choose_layouts(graph, slots, target))
    return found  # where no runs are taken, the last are those of `choose_layouts`


def choose_layouts(graph: TensorGraph, slots: int, target: Target) -> LaidOutGraph:
    """Choose layouts front to back, looking one matrix ahead.

    Tensors that meet in an elementwise operation share a layout. Besides those of its shape, a
    result may lie where its operand does (a sum in the place of its first summand), or where the
    next matrix copies it to (`in_place`, `before_copies`): so the sum and the expansions of a
    product of two matrices keep few diagonals. A ciphertext that is refreshed counts as much as its
    bootstrap takes. An input that only matrices read is arranged by the client for the first of
    them (`Gather`), which costs the server nothing; one too large for that lies where the result of
    the first matrix has its pixels (`in_phases`).

    Source: LoLa's message representations; Orion's single-shot multiplexing.
    Cost: two estimates per matrix and candidate, each over a sample of its non-zeros.
    """
    return _planned(graph, slots, target, has_runs=False, has_gaps=False).result()


def _planned(
    graph: TensorGraph, slots: int, target: Target, has_runs: bool, has_gaps: bool
) -> _Planner:
    known = groups(graph), free_inputs(graph)
    planner = _Planner(graph, slots, target, *known, has_runs, has_gaps)
    for position, operation in enumerate(graph.operations):
        if isinstance(operation, Linear):
            planner.place_linear(position, operation)
        elif planner.groups[position] not in planner.chosen and position not in planner.free:
            planner.place_plain(position)
    return planner


@dataclass
class _Planner:
    graph: TensorGraph
    slots: int
    target: Target
    groups: list[int]
    free: frozenset[int]
    has_runs: bool  # whether elements may repeat in adjacent slots
    has_gaps: bool  # whether partial sums may lie between elements
    chosen: dict[int, Arrangement] = field(default_factory=dict)  # by group
    gathers: dict[int, Gather] = field(default_factory=dict)  # by (position of an) input
    steps: frozenset[int] = frozenset()  # rotations that the kernels so far make
    samples: dict[tuple[int, int], sp.csr_array] = field(default_factory=dict)  # by id, and run
    prices: dict[tuple[int, int, int, int], float] = field(default_factory=dict)
    numbers: dict[bytes, int] = field(default_factory=dict)  # of layouts

    def __post_init__(self) -> None:
        operations = self.graph.operations
        self.makers: dict[int, list[int]] = {}  # by group: operations whose results it has
        self.readers: dict[int, list[int]] = {}  # by group: matrices that read it
        self.refreshes: dict[int, int] = {}  # by group: bootstraps of it
        self.shown = {self.groups[output.operand] for output in self.graph.outputs}
        for position, operation in enumerate(operations):
            group = self.groups[position]
            self.makers.setdefault(group, []).append(position)
            if isinstance(operation, Bootstrap):
                self.refreshes[group] = self.refreshes.get(group, 0) + 1
            if isinstance(operation, Linear):
                for source in dict.fromkeys(self.groups[operand] for operand in operation.operands):
                    self.readers.setdefault(source, []).append(position)

    def result(self) -> LaidOutGraph:
        layouts = tuple(self.layout(position) for position in range(len(self.groups)))
        kernels = {
            position: self._kernel(operation, self.chosen[self.groups[position]])
            for position, operation in enumerate(self.graph.operations)
            if isinstance(operation, Linear)
        }
        return LaidOutGraph(self.graph, self.slots, layouts, kernels)

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
            options += self._across(position, linear, self.layout(first))
        elif self._may_run(position, first):
            runs = [run for option in options for run in in_runs(option)]
            nonzeros = linear.matrices[0].nnz
            options += [run for run in runs if run.layout.run * nonzeros <= _SPREAD]
        for later in self.readers.get(self.groups[position], []):
            options += before_copies(self._matrix(later, position), self.slots)
        return distinct(options)

    def _may_run(self, position: int, operand: int) -> bool:
        """Tell whether the matrix, and what reads it, are all that the layouts concern."""
        group = self.groups[position]
        makers = [x for x in self.makers[group] if isinstance(self.graph.operations[x], Linear)]
        alone = makers == [position] and self.readers[self.groups[operand]] == [position]
        return self.has_runs and alone and group in self.readers

    def _across(self, position: int, linear: Linear, source: Layout) -> list[Arrangement]:
        """Return the layout across copies, where the sums that lie in its gaps do no harm.

        They are partial sums, about as large as elements, and so are their squares; higher powers
        may not be. An output must not have any: they would tell the client about the weights.
        """
        group = self.groups[position]
        others = [self.graph.operations[maker] for maker in self.makers[group] if maker != position]
        harmless = all(isinstance(x, Multiply) or _is_square(x) for x in others)
        if group in self.shown or len(linear.operands) > 1 or len(others) > 1 or not harmless:
            return []
        return across_copies(linear.matrices[0].shape[0], source) if self.has_gaps else []

    def _matrix(self, reader: int, position: int) -> sp.csr_array:
        """Return the matrix by which `reader` reads the group of `position`."""
        linear = self.graph.operations[reader]
        if not isinstance(linear, Linear):
            raise InvalidProgram(f"choose_layouts: operation {reader} has no matrix")
        groups = [self.groups[operand] for operand in linear.operands]
        return linear.matrices[groups.index(self.groups[position])]

    def _place_input(self, position: int, matrix: sp.csr_array, result: Arrangement) -> None:
        found = self._best_input(position, matrix, result)[1]
        if isinstance(found, Gather):
            self.gathers[position] = found
        else:
            self.chosen[self.groups[position]] = found

    def _best_input(
        self, position: int, matrix: sp.csr_array, result: Arrangement
    ) -> tuple[float, Gather | Arrangement]:
        """Return the cheapest arrangement of an input for its first matrix, and its seconds.

        Where the result takes one ciphertext a gather is hard to beat, and nothing else is tried.
        """
        found = self._best_gather(matrix, result)
        if found is not None and result.layout.blocks == 1:
            return found
        plain = self._best_plain(position, matrix, result)
        return plain if found is None or plain[0] < found[0] else found

    def _best_plain(
        self, position: int, matrix: sp.csr_array, result: Arrangement
    ) -> tuple[float, Arrangement]:
        """Return the cheapest layout of an input that is not gathered, and its seconds."""
        shape = self.graph.operations[position].shape
        options = [*candidates(shape, None, self.slots), *in_phases(shape, result, self.slots)]
        prices = [self._periodic_price(matrix, x.layout, result) for x in options]
        best = prices.index(min(prices))
        return prices[best], options[best]

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

    def _kernel(self, linear: Linear, result: Arrangement) -> LinearKernel:
        sources = [self.layout(operand) for operand in linear.operands]
        width = max(result.fold, *(source.period for source in sources))
        for operand in linear.operands:
            if operand in self.gathers:
                width = max(width, self.gathers[operand].span)
        matrices = []
        for operand, source, matrix in zip(linear.operands, sources, linear.matrices, strict=True):
            arranged = self.gathers.get(operand)
            if arranged is not None and arranged.supports.matrix is matrix:
                matrices.append(arranged.diagonals(width))
            else:
                matrices.append(self._periodic(matrix, source, result, width))
        folds = _folds(result.fold, width)
        self.steps |= set(folds)
        splits = []
        for transform in matrices:
            splits.append(best_split(transform.index, self.slots, self.steps))
            self.steps |= steps(transform.index, splits[-1], self.slots)
        return LinearKernel(tuple(matrices), tuple(splits), folds)

    def _periodic(
        self, matrix: sp.csr_array, source: Layout, result: Arrangement, width: int
    ) -> DiagonalMatrix:
        rows, layout = spread(matrix, result.layout)
        terms = periodic_terms(rows, source, layout, width, result.fold)
        return diagonal_matrix(terms, rows, (layout.blocks, source.blocks), self.slots)

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
                    yield self._periodic_price(matrix, source, option)

    def _operand_price(self, operand: int, matrix: sp.csr_array, option: Arrangement) -> float:
        if operand in self.free and operand not in self.gathers:
            return self._best_input(operand, matrix, option)[0]
        return self._periodic_price(matrix, self.layout(operand), option)

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
                        *self._across(later, linear, option.layout),
                    ]
                )
            )
            yield min(
                sum(self._periodic_price(matrix, source, result) for matrix, source in read)
                for result in options
            )

    def _is_known(self, position: int) -> bool:
        """Tell whether the tensor has its layout, other than the client's own."""
        return self.groups[position] in self.chosen

    def _periodic_price(self, matrix: sp.csr_array, source: Layout, result: Arrangement) -> float:
        key = id(matrix), self._number(source), self._number(result.layout), result.fold
        if key not in self.prices:
            self.prices[key] = self._priced(matrix, source, result)
        return self.prices[key]

    def _number(self, layout: Layout) -> int:
        """Return the same number for layouts that are the same."""
        return self.numbers.setdefault(layout.elements.tobytes(), len(self.numbers))

    def _priced(self, matrix: sp.csr_array, source: Layout, result: Arrangement) -> float:
        rows, layout = spread(self._sample(matrix, result.layout.run), result.layout)
        width = max(source.period, result.fold)
        terms = periodic_terms(rows, source, layout, width, result.fold)
        index = diagonal_index(terms, (layout.blocks, source.blocks), self.slots)
        return self._index_price(index) + self._seconds(len(_folds(result.fold, width)), 0)

    def _sample(self, matrix: sp.csr_array, run: int) -> sp.csr_array:
        if (id(matrix), run) not in self.samples:
            self.samples[id(matrix), run] = _sampled(matrix, _SAMPLE // run)
        return self.samples[id(matrix), run]

    def _index_price(self, index: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> float:
        split = best_split(index, self.slots)
        return self._seconds(rotations(index, split, self.slots), len(index))

    def _seconds(self, key_switches: int, products: int) -> float:
        costs = REFERENCE.seal_steps(2 * self.slots)
        switching = key_switches * costs.key_switch(_NOMINAL_LIMBS)
        return switching + products * costs.multiply_plain(_NOMINAL_LIMBS)


def _folds(period: int, width: int) -> tuple[int, ...]:
    steps = []
    while period < width:
        steps.append(period)
        period *= 2
    return tuple(steps)


def _is_square(operation: TensorOperation) -> bool:
    return isinstance(operation, Polynomial) and len(operation.coefficients) <= _SQUARE


def _sampled(matrix: sp.csr_array, most: int) -> sp.csr_array:
    """Keep some rows, spread evenly but not in step with any power of two; the rest are empty."""
    if matrix.nnz <= most:
        return matrix
    rows = matrix.shape[0]
    share = most / matrix.nnz
    kept = np.random.default_rng(0).random(rows) < share
    counts = np.where(kept, np.diff(matrix.indptr), 0)
    entries = np.repeat(kept, np.diff(matrix.indptr))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_array((matrix.data[entries], matrix.indices[entries], indptr), matrix.shape)
