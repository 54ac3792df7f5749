"""Laid-out graphs for the tests of the core: exact in float32, every value in [-1, 1] for sure.

Matrices hold multiples of a power of two and rows of absolute sum at most one, so that a wrong slot
is never mistaken for rounding, and no range analysis is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isclose, prod

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import EncryptionParameters, Program
from hec.compiler.depth import depth_by_layer
from hec.compiler.evaluate import evaluate
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.layout import ceil_power_of_two
from hec.compiler.lower import Lowered, ScalePlan, lower
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Input,
    Linear,
    Multiply,
    Output,
    Polynomial,
    TensorGraph,
    TensorOperation,
    size,
)
from hec.compiler.typing_rules import infer_types
from hec.passes.choose_layouts import choose_layouts, layouts_to_compare
from hec.runtime import executor
from hec.runtime.cleartext import Cleartext, Plain, Slots
from hec.runtime.simulator import Simulator

Array = NDArray[np.float64]
GRAIN = 2.0**-10
FLAT = ScalePlan(40, 40, 40)
SHAPES: tuple[tuple[int, ...], ...] = (
    (5,),
    (1, 1),
    (1, 12),
    (1, 16),
    (1, 70),
    (2, 3, 5),
    (1, 3, 4, 4),
    (1, 2, 5, 7),
    (1, 5, 4, 6),
)


def nominal(slots: int, levels: int, bits: int, first: int = 60) -> EncryptionParameters:
    """Return parameters of odd primes-to-be a little below 2**bits; for the clear only."""
    primes = (2**first - 93, *(2**bits - 1 - 64 * (i + 1) for i in range(levels)))
    return EncryptionParameters(2 * slots, primes, (2**60 - 1,), 128)


def sparse(
    random: np.random.Generator, rows: int, columns: int, density: float, norm: float = 1.0
) -> sp.csr_array:
    """Return a matrix whose rows have an absolute sum of at most `norm`, a power of two."""
    dense = random.integers(-512, 513, (rows, columns)) * (random.random((rows, columns)) < density)
    return normalized(sp.csr_array(dense.astype(np.float64)), norm)


def normalized(matrix: sp.csr_array, norm: float = 1.0) -> sp.csr_array:
    """Divide every row by a power of two, so that its absolute sum is at most `norm`."""
    sums = np.abs(matrix).sum(axis=1)
    factors = np.array([norm / ceil_power_of_two(int(total)) for total in sums])
    scaled = sp.csr_array(sp.diags_array(factors) @ matrix)
    scaled.eliminate_zeros()
    return scaled


def convolution(
    random: np.random.Generator, shape: tuple[int, int, int], kernels: int, width: int, stride: int
) -> tuple[sp.csr_array, tuple[int, int, int]]:
    """Return the matrix of a convolution without padding, and the shape of its result."""
    channels, height, columns = shape
    out = (kernels, (height - width) // stride + 1, (columns - width) // stride + 1)
    weights = random.integers(-512, 513, (kernels, channels, width, width)).astype(np.float64)
    dense = np.zeros((*out, *shape))
    for row, column in np.ndindex(*out[1:]):
        y, x = row * stride, column * stride
        dense[:, row, column, :, y : y + width, x : x + width] = weights
    return normalized(sp.csr_array(dense.reshape(prod(out), prod(shape)))), out


@dataclass
class Builder:
    """Grows a graph whose values all lie in [-1, 1] when its inputs do."""

    random: np.random.Generator
    operations: list[TensorOperation] = field(default_factory=list)

    def add(self, operation: TensorOperation) -> int:
        """Append an operation; return its position."""
        self.operations.append(operation)
        return len(self.operations) - 1

    def input(self, name: str, *shape: int) -> int:
        """Append an input that the client divides by 2."""
        return self.add(Input(name, shape, 2.0, (-2.0, 2.0)))

    def linear(self, operands: tuple[int, ...], *shape: int, density: float = 0.7) -> int:
        """Append a Linear of random matrices and bias."""
        norm = 0.5 / ceil_power_of_two(len(operands))
        sizes = [size(self.operations[operand]) for operand in operands]
        matrices = tuple(sparse(self.random, prod(shape), n, density, norm) for n in sizes)
        bias = self.random.integers(-512, 513, prod(shape)) * GRAIN
        name = f"linear{len(self.operations)}"
        return self.add(Linear(operands, matrices, bias, shape, (name,)))

    def multiply(self, left: int, right: int) -> int:
        """Append a product."""
        name = f"multiply{len(self.operations)}"
        return self.add(Multiply(left, right, self.operations[left].shape, (name,)))

    def polynomial(self, operand: int, degree: int, shared: bool = True) -> int:
        """Append a Chebyshev series of absolute sum at most 1."""
        shape = self.operations[operand].shape
        columns = () if shared else (prod(shape),)
        coefficients = self.random.uniform(-1, 1, (degree + 1, *columns)) / (degree + 1)
        name = f"polynomial{len(self.operations)}"
        return self.add(Polynomial(operand, coefficients, "chebyshev", shape, (name,)))

    def graph(self, *outputs: int) -> TensorGraph:
        """Return the graph; output i is called "yi" and multiplied by i + 1."""
        named = (Output(f"y{i}", position, i + 1.0) for i, position in enumerate(outputs))
        return TensorGraph(tuple(self.operations), tuple(named))


def samples(graph: TensorGraph, count: int = 3, seed: int = 0) -> dict[str, Array]:
    """Return random inputs in [-2, 2]."""
    random = np.random.default_rng(seed)
    given = [operation for operation in graph.operations if isinstance(operation, Input)]
    return {item.name: random.uniform(-2, 2, (count, size(item))) for item in given}


def expected(graph: TensorGraph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return every output by name, as the graph means it."""
    values = evaluate(graph, inputs)
    return {output.name: values[output.operand] * output.factor for output in graph.outputs}


class Strict(Cleartext):
    """The clear backend, which also refuses what real ciphertexts would refuse."""

    def encode(self, values: Array, level: int, scale: float) -> Plain:
        assert 0 <= level <= self.parameters.top_level
        plain = super().encode(values, level, scale)
        self.levels[id(plain)] = (level, plain)
        return plain

    @property
    def levels(self) -> dict[int, tuple[int, Plain]]:
        """The level that each plaintext was encoded for, by id."""
        known: dict[int, tuple[int, Plain]] = self.__dict__.setdefault("_levels", {})
        return known

    def rotate(self, x: Slots, steps: int) -> Slots:
        assert 0 < steps % self.parameters.slots
        return super().rotate(x, steps)

    def multiply_plain(self, x: Slots, y: Plain) -> Slots:
        assert x.level == self.levels[id(y)][0]
        return super().multiply_plain(x, y)

    def add_plain(self, x: Slots, y: Plain) -> Slots:
        assert x.level == self.levels[id(y)][0]
        assert isclose(x.scale, y.scale, rel_tol=1e-9)
        return super().add_plain(x, y)

    def add(self, x: Slots, y: Slots) -> Slots:
        assert x.level == y.level
        assert isclose(x.scale, y.scale, rel_tol=1e-9)
        return super().add(x, y)

    def multiply(self, x: Slots, y: Slots) -> Slots:
        assert x.level == y.level
        return super().multiply(x, y)

    def rescale(self, x: Slots) -> Slots:
        assert x.level > 0
        return super().rescale(x)

    def mod_switch(self, x: Slots, level: int) -> Slots:
        assert 0 <= level <= x.level
        return super().mod_switch(x, level)


def packed_outputs(
    program: Program, inputs: Mapping[str, Array], backend: Cleartext
) -> dict[str, Array]:
    """Return the (samples, blocks, slots) values of every output."""
    fresh = {}
    for item in program.instructions:
        if isinstance(item, ckks_ir.Input):
            packed = item.layout.pack(inputs[item.name] / item.divisor)
            encrypt = backend.encrypt if isinstance(backend, Simulator) else Slots
            blocks = range(item.layout.blocks)
            fresh[item.name] = [encrypt(packed[:, b], item.level, item.scale) for b in blocks]
    results = executor.run(executor.prepare(program, backend), fresh)
    return {name: np.stack([b.values for b in blocks], 1) for name, blocks in results.items()}


def outputs(program: Program, inputs: Mapping[str, Array], backend: Cleartext) -> dict[str, Array]:
    """Return every output by name, as the client reads it."""
    packed = packed_outputs(program, inputs, backend)
    return {
        item.name: item.layout.unpack(packed[item.name]) * item.factor
        for item in program.instructions
        if isinstance(item, ckks_ir.Output)
    }


def compiled(
    graph: TensorGraph,
    slots: int = 64,
    plan: ScalePlan = FLAT,
    target: Target | None = None,
) -> tuple[LaidOutGraph, Lowered]:
    """Return layouts and Program under nominal parameters, with more levels than needed."""
    return _lowered(choose_layouts(graph, slots, target or Target()), plan)


def _lowered(laid_out: LaidOutGraph, plan: ScalePlan) -> tuple[LaidOutGraph, Lowered]:
    levels = 2 * sum(depth_by_layer(laid_out.graph).values()) + 2
    return laid_out, lower(laid_out, nominal(laid_out.slots, levels, plan.prime), plan)


def assert_keeps_meaning(
    graph: TensorGraph, slots: int = 64, plan: ScalePlan = FLAT, tolerance: float = 1e-12
) -> tuple[LaidOutGraph, Lowered]:
    """The Program in the clear is the graph; where a Linear ends, also in slots of no element.

    Whichever layouts are taken; return those without gaps.
    """
    ways = layouts_to_compare(graph, slots, Target())
    for laid_out in ways:
        _, lowered = _lowered(laid_out, plan)
        _assert_keeps_meaning(laid_out, lowered, tolerance)
    return laid_out, lowered


def _assert_keeps_meaning(laid_out: LaidOutGraph, lowered: Lowered, tolerance: float) -> None:
    graph = laid_out.graph
    infer_types(lowered.program)
    inputs = samples(graph)
    values = evaluate(graph, inputs)
    packed = packed_outputs(lowered.program, inputs, Strict(lowered.program.parameters))
    for output in graph.outputs:
        layout, value = laid_out.layouts[output.operand], values[output.operand]
        found = layout.unpack(packed[output.name])
        np.testing.assert_allclose(found, value, rtol=0, atol=tolerance)
        if isinstance(graph.operations[output.operand], Linear):
            whole = layout.pack(value)
            np.testing.assert_allclose(packed[output.name], whole, rtol=0, atol=tolerance)


def random_graph(seed: int) -> TensorGraph:
    """Return a graph with branches that meet: ranks 1 to 4, any operation, 1 or 2 outputs."""
    random = np.random.default_rng(seed)
    builder = Builder(random)
    for name in ("x", "z")[: random.integers(1, 3)]:
        builder.input(name, *SHAPES[random.integers(len(SHAPES))])
    for _ in range(int(random.integers(2, 7))):
        _grow(builder, random)
    last = len(builder.operations) - 1
    return builder.graph(last, *random.integers(0, last + 1, random.integers(0, 2)))


def _grow(builder: Builder, random: np.random.Generator) -> None:
    position = int(random.integers(max(0, len(builder.operations) - 2), len(builder.operations)))
    wanted = size(builder.operations[position])
    alike = [i for i, other in enumerate(builder.operations) if size(other) == wanted]
    shape = SHAPES[random.integers(len(SHAPES))]
    match random.integers(6):
        case 0 | 1:
            builder.linear((position,), *shape, density=float(random.choice([0.1, 1.0])))
        case 2:
            others = random.permutation(len(builder.operations))[: random.integers(1, 3)]
            builder.linear((position, *(int(i) for i in others if i != position)), *shape)
        case 3:
            builder.multiply(position, int(random.choice(alike)))
        case 4:
            builder.multiply(position, position)
        case _:
            shared = bool(random.integers(2))
            builder.polynomial(position, int(random.integers(3, 9)), shared)
