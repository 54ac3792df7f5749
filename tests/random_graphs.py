"""Random tensor graphs for the tests of passes: every kind of operation, moderate values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Input,
    Linear,
    Multiply,
    Output,
    Polynomial,
    TensorGraph,
    TensorOperation,
    size,
)

SAMPLES = 40
LARGEST = 3.0  # of any value on the samples: a layer that exceeds it is scaled down
FUNCTIONS = (
    Function("relu"),
    Function("leaky_relu", (0.1,)),
    Function("clip", (-0.5, 1.0)),
    Function("sigmoid"),
    Function("tanh"),
)


@dataclass
class Growing:
    """A random graph in the making, with its values on random samples."""

    random: np.random.Generator
    activations: bool
    samples: dict[str, Array] = field(default_factory=dict)
    operations: list[TensorOperation] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)

    def add(self, operation: TensorOperation) -> int:
        """Append an operation and evaluate it."""
        self.operations.append(operation)
        self.values = evaluate(TensorGraph(tuple(self.operations), ()), self.samples)
        return len(self.operations) - 1

    def any_position(self) -> int:
        """Return an operation, recent ones more often."""
        count = len(self.operations)
        return count - 1 - min(int(self.random.exponential(1.5)), count - 1)

    def same_size(self, position: int) -> int:
        """Return an operation as large as the one at `position`, perhaps that one."""
        wanted = size(self.operations[position])
        alike = [i for i, op in enumerate(self.operations) if size(op) == wanted]
        return int(self.random.choice(alike))


def random_graph(seed: int, activations: bool = True) -> tuple[TensorGraph, dict[str, Array]]:
    """Return a graph of about ten operations and samples for its inputs."""
    growing = Growing(np.random.default_rng(seed), activations)
    random = growing.random
    for name in ("x", "y")[: random.integers(1, 3)]:
        count = int(random.integers(2, 6))
        growing.samples[name] = random.uniform(-1, 1, (SAMPLES, count))
        growing.add(Input(name, (1, count)))
    for _ in range(int(random.integers(3, 12))):
        _grow(growing)
    last = len(growing.operations) - 1
    positions = [last, int(random.integers(0, last + 1))][: random.integers(1, 3)]
    outputs = tuple(Output(f"out{i}", position) for i, position in enumerate(positions))
    return TensorGraph(tuple(growing.operations), outputs), growing.samples


def _grow(growing: Growing) -> None:
    makers = [_dense, _elementwise, _elementwise, _sum, _selection, _product, _square, _power]
    makers += [_chebyshev] + ([_activation, _activation] if growing.activations else [])
    makers[growing.random.integers(len(makers))](growing)


def _linear(growing: Growing, operands: list[int], matrices: list[Array], bias: Array) -> int:
    total = bias + sum(
        growing.values[i] @ matrix.T for i, matrix in zip(operands, matrices, strict=True)
    )
    scale = LARGEST / max(LARGEST, np.abs(total).max())
    csr = tuple(sp.csr_array(matrix * scale) for matrix in matrices)
    shape = (1, bias.size)
    origin = (f"linear{len(growing.operations)}",)
    return growing.add(Linear(tuple(operands), csr, bias * scale, shape, origin))


def _dense(growing: Growing) -> None:
    operand, rows = growing.any_position(), int(growing.random.integers(2, 6))
    matrix = growing.random.normal(size=(rows, size(growing.operations[operand])))
    matrix[growing.random.random(matrix.shape) < 0.3] = 0.0
    _linear(growing, [operand], [matrix], growing.random.normal(size=rows))


def _elementwise(growing: Growing) -> None:
    operand = growing.any_position()
    count = size(growing.operations[operand])
    diagonal = growing.random.uniform(0.5, 2, count) * growing.random.choice([1, 1, -1])
    if growing.random.random() < 0.3:
        diagonal = np.full(count, diagonal[0])
    if growing.random.random() < 0.3:
        diagonal[0] = 0.0
    bias = growing.random.normal(size=count) * growing.random.integers(0, 2)
    _linear(growing, [operand], [np.diag(diagonal)], bias)


def _sum(growing: Growing) -> None:
    left = growing.any_position()
    right = growing.same_size(left)
    eye = np.eye(size(growing.operations[left]))
    factor = growing.random.choice([1.0, -0.5])
    _linear(growing, [left, right], [eye, factor * eye], np.zeros(len(eye)))


def _selection(growing: Growing) -> None:
    operand = growing.any_position()
    count = size(growing.operations[operand])
    rows = growing.random.integers(0, count, int(growing.random.integers(2, 6)))
    _linear(growing, [operand], [np.eye(count)[rows]], np.zeros(rows.size))


def _product(growing: Growing) -> None:
    left = growing.any_position()
    _multiply(growing, left, growing.same_size(left))


def _square(growing: Growing) -> None:
    position = growing.any_position()
    _multiply(growing, position, position)


def _multiply(growing: Growing, left: int, right: int) -> None:
    shape = growing.operations[left].shape
    growing.add(Multiply(left, right, shape, (f"multiply{len(growing.operations)}",)))
    if np.abs(growing.values[-1]).max() > LARGEST:
        count = size(growing.operations[-1])
        last = len(growing.operations) - 1
        _linear(growing, [last], [np.eye(count)], np.zeros(count))


def _power(growing: Growing) -> None:
    operand = growing.any_position()
    shape, count = growing.operations[operand].shape, size(growing.operations[operand])
    degree = int(growing.random.integers(0, 6))
    largest = max(1.0, float(np.abs(growing.values[operand]).max()))
    columns = (count,) if growing.random.random() < 0.5 else ()
    coefficients = growing.random.normal(size=(degree + 1, *columns))
    steps = largest ** np.arange(degree + 1.0).reshape(-1, *(1 for _ in columns))
    growing.add(Polynomial(operand, coefficients / steps / 2, "power", shape, ("power",)))


def _chebyshev(growing: Growing) -> None:
    operand = growing.any_position()
    count = size(growing.operations[operand])
    largest = max(1.0, float(np.abs(growing.values[operand]).max()))
    scaled = _linear(growing, [operand], [np.eye(count) / largest], np.zeros(count))
    shape = growing.operations[scaled].shape
    degree = int(growing.random.integers(0, 6))
    columns = (count,) if growing.random.random() < 0.5 else ()
    coefficients = growing.random.normal(size=(degree + 1, *columns)) / 2
    growing.add(Polynomial(scaled, coefficients, "chebyshev", shape, ("chebyshev",)))


def _activation(growing: Growing) -> None:
    operand = growing.any_position()
    function = FUNCTIONS[growing.random.integers(len(FUNCTIONS))]
    shape = growing.operations[operand].shape
    growing.add(Activation(operand, function, shape, (f"act{len(growing.operations)}",)))


def meaning(graph: TensorGraph, samples: dict[str, Array]) -> list[Array]:
    """Return what the client sees before the epilogue: every output times its factor."""
    values = evaluate(graph, samples)
    return [output.factor * values[output.operand] for output in graph.outputs]
