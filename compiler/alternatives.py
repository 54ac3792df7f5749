"""Changes that could make a network cheaper: each a network, options and samples to compile.

What is worth trying follows from what the network holds, and from what its program became; whether
it pays is `advice`'s to find out. Networks change as tensor graphs, so that a change is a few lines
and nothing is exported again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp

from hec.compiler.alternative import Kind
from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.functions import Function
from hec.compiler.goals import tells_class
from hec.compiler.lint_rules import MAX_POOLS, NORMALIZATIONS, POOLS
from hec.compiler.onnx_import import import_onnx
from hec.compiler.onnx_model import load_model
from hec.compiler.onnx_node import operators_of
from hec.compiler.pipeline import Compilation
from hec.compiler.target import Target
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    operands,
    size,
)
from hec.passes import SHARED_PASSES, run_tensor_passes
from hec.passes.approximate_activations import DEGREES
from hec.passes.fuse_linear import fuse_linear
from hec.passes.rewriting import Rebuilt, consumers

KEPT: Final = 0.95  # of the samples stay, where those with the most extreme activations go
FEWER_BITS: Final = 2.0  # of precision: four times the error
_QUADRATIC: Final = 2  # degree
AGREEMENT: Final = 0.99  # asked for instead of an error
_SMOOTH: Final = Function("silu")
_KINKED: Final = frozenset(
    {"relu", "leaky_relu", "thresholded_relu", "clip", "hard_sigmoid", "hard_swish", "abs", "elu"}
)
_CHOSEN: Final = _KINKED | {
    "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "mish", "celu", "selu", "softplus", "softsign",
    "erf",
}  # fmt: skip
_SOFTMAX: Final = frozenset({"Softmax", "LogSoftmax"})
_EXTREMES: Final = frozenset({"Max", "Min", "ReduceMax", "ReduceMin"})
_COMPOSED: Final = MAX_POOLS | NORMALIZATIONS | _SOFTMAX | _EXTREMES  # of several functions


@dataclass(frozen=True, eq=False)
class Change:
    """One thing to do differently."""

    what: str
    kind: Kind
    graph: TensorGraph
    target: Target
    calibration: Calibration


@dataclass(eq=False)
class Subject:
    """A compiled network, and what the rules look at."""

    made: Compilation
    recognized: TensorGraph = field(init=False)  # each activation one operation, nothing fused
    operators: Mapping[str, str] = field(init=False)  # by node

    def __post_init__(self) -> None:
        self.operators = operators_of(load_model(self.made.network).nodes)
        self.recognized = self.recognize(self.made.imported.graph)

    def recognize(self, graph: TensorGraph) -> TensorGraph:
        """Return the graph after the passes that find out what its functions are."""
        first = SHARED_PASSES[: SHARED_PASSES.index(fuse_linear)]
        return run_tensor_passes(graph, self.made.target, self.made.calibration, first)

    def activations(self) -> Iterator[tuple[int, Activation]]:
        """Yield the activations that a designer chose, with their positions.

        Not the functions that a MaxPool, a Softmax or a norm is made of.
        """
        for position, operation in enumerate(self.recognized.operations):
            if isinstance(operation, Activation) and operation.function.name in _CHOSEN:
                found = {self.operators.get(name) for name in operation.origin}
                if not found & _COMPOSED:
                    yield position, operation

    def with_functions(self, change: Callable[[Function], Function]) -> TensorGraph:
        """Return the graph with other functions for its activations."""
        operations = list(self.recognized.operations)
        for position, activation in self.activations():
            operations[position] = replace(activation, function=change(activation.function))
        return replace(self.recognized, operations=tuple(operations))

    def changed(
        self,
        what: str,
        kind: Kind,
        graph: TensorGraph | None = None,
        target: Target | None = None,
        calibration: Calibration | None = None,
    ) -> Change:
        """Return a change of some of what the network was compiled from."""
        return Change(
            what,
            kind,
            graph or self.recognized,
            target or self.made.target,
            calibration or self.made.calibration,
        )


Rule: TypeAlias = Callable[[Subject], Iterator[Change]]


def changes(made: Compilation) -> list[Change]:
    """Return what is worth trying for a compiled network."""
    subject = Subject(made)
    return [change for rule in RULES for change in rule(subject)]


def average_pools(subject: Subject) -> Iterator[Change]:
    """Averages for MaxPool."""
    target = subject.made.target
    found = {x for x in subject.operators.values() if x in MAX_POOLS}
    if not found or target.maxpool != "approximate":
        return
    wanted = replace(target, maxpool="average")
    graph = import_onnx(subject.made.network, wanted).graph
    words = (
        " and ".join(sorted(found)),
        " and ".join(sorted(x.replace("Max", "Average") for x in found)),
    )
    yield subject.changed(
        f"replace {words[0]} by {words[1]}", "model", subject.recognize(graph), wanted
    )


def quadratics(subject: Subject) -> Iterator[Change]:
    """Quadratics for all activations: those nearest to them, which training would make others."""
    samples, names = subject.made.calibration.samples, _names(subject)
    if not names or subject.made.target.degree == _QUADRATIC:
        return
    values = None if samples is None else evaluate(subject.recognized, samples)
    operations = list(subject.recognized.operations)
    for position, x in subject.activations():
        coefficients = np.array([0.0, 0.0, 1.0])
        if values is not None:
            inputs, wanted = values[x.operand].reshape(-1), values[position].reshape(-1)
            coefficients = _quadratic(inputs, wanted)
        operations[position] = Polynomial(x.operand, coefficients, "power", x.shape, x.origin)
    graph = replace(subject.recognized, operations=tuple(operations))
    yield subject.changed(f"replace {names} by quadratics, such as x * x", "model", graph)


def _quadratic(x: Array, y: Array) -> Array:
    """Return the coefficients, constant first, of the quadratic nearest to y(x)."""
    radius = float(np.abs(x).max()) or 1.0  # a well-conditioned problem
    fitted = np.polynomial.polynomial.polyfit(x / radius, y, _QUADRATIC)
    return np.asarray(fitted / radius ** np.arange(_QUADRATIC + 1), np.float64)


def smooth_functions(subject: Subject) -> Iterator[Change]:
    """A smooth function for those with a kink, which take high degrees."""
    kinked = {x.function.name for _, x in subject.activations()} & _KINKED
    if kinked:
        graph = subject.with_functions(lambda f: _SMOOTH if f.name in kinked else f)
        yield subject.changed(f"replace {_listed(kinked)} by {_SMOOTH}", "model", graph)


def unclipped(subject: Subject) -> Iterator[Change]:
    """ReLU for ReLU6 and other functions that are clipped at zero below."""
    clipped = {str(x.function) for _, x in subject.activations() if _is_clipped(x.function)}
    if clipped:
        relu = Function("relu")
        graph = subject.with_functions(lambda f: relu if _is_clipped(f) else f)
        yield subject.changed(f"replace {_listed(clipped)} by relu", "model", graph)


def _is_clipped(function: Function) -> bool:
    return function.name == "clip" and function.parameters[0] == 0


def functions_after_pools(subject: Subject) -> Iterator[Change]:
    """A function of averages instead of averages of a function."""
    graph, readers, rebuilt = subject.recognized, consumers(subject.recognized), Rebuilt()
    read = {output.operand for output in graph.outputs}
    moved: dict[int, int] = {}  # from the pool's position to the activation's
    for position, _ in subject.activations():
        if position in read or len(readers[position]) != 1:
            continue
        pool = graph.operations[readers[position][0]]
        if isinstance(pool, Linear) and len(pool.operands) == 1 and _is_pool(subject, pool):
            moved[readers[position][0]] = position
    for position, operation in enumerate(graph.operations):
        if position in moved.values():
            continue
        if position not in moved:
            rebuilt.keep(position, operation)
            continue
        before = graph.operations[moved[position]]
        if isinstance(operation, Linear) and isinstance(before, Activation):
            source = rebuilt.positions[before.operand]
            averaged = rebuilt.add(replace(operation, operands=(source,)))
            later = replace(before, operand=averaged, shape=operation.shape)
            rebuilt.positions[position] = rebuilt.add(later)
    if moved:
        words = _listed({str(x.function) for i, x in subject.activations() if i in moved.values()})
        what = f"average first, then apply {words}"
        yield subject.changed(what, "model", rebuilt.finish(graph.outputs))


def _is_pool(subject: Subject, pool: Linear) -> bool:
    operator = subject.operators.get(pool.origin[-1]) if pool.origin else None
    shrinks = size(pool) < pool.matrices[0].shape[1]
    return operator in POOLS and shrinks and bool(not pool.bias.any())


def affine_nodes(subject: Subject) -> Iterator[Change]:
    """What BatchNormalization makes of inner norms, and nothing of an inner Softmax."""
    samples = subject.made.calibration.samples
    if samples is None:
        return
    graph = subject.made.imported.graph
    for operators, words in (
        (NORMALIZATIONS, "BatchNormalization"),
        (_SOFTMAX, "a scaling of its inputs"),
    ):
        inner = [n for n, x in subject.operators.items() if x in operators and _computes(graph, n)]
        changed = graph
        for name in inner:
            changed = _linearized(changed, name, samples)
        if changed is not graph:
            names = _listed({subject.operators[name] for name in inner})
            what = f"replace {names} inside the network by {words}"
            yield subject.changed(what, "model", subject.recognize(changed))


def _computes(graph: TensorGraph, name: str) -> bool:
    """Tell whether the node takes more than matrices."""
    return any(
        getattr(x, "origin", ()) == (name,) and not isinstance(x, Linear) for x in graph.operations
    )


def _linearized(graph: TensorGraph, name: str, samples: dict[str, Array]) -> TensorGraph:
    """Return the graph with the best scaling and shift for each element in place of the node."""
    inside = [i for i, x in enumerate(graph.operations) if getattr(x, "origin", ()) == (name,)]
    entering = {o for i in inside for o in operands(graph.operations[i])} - set(inside)
    if len(entering) != 1:
        return graph
    (source,), end = entering, inside[-1]
    if size(graph.operations[source]) != size(graph.operations[end]):
        return graph
    values = evaluate(graph, samples)
    x, y = values[source], values[end]
    deviations = x - x.mean(axis=0)
    power = (deviations**2).sum(axis=0)
    slope = (deviations * y).sum(axis=0) / np.where(power > 0, power, 1.0)
    bias = y.mean(axis=0) - slope * x.mean(axis=0)
    shape = graph.operations[end].shape
    scaling = Linear((source,), (sp.csr_array(sp.diags_array(slope)),), bias, shape, (name,))
    operations = list(graph.operations)
    operations[end] = scaling
    return TensorGraph(tuple(operations), graph.outputs)


def degrees(subject: Subject) -> Iterator[Change]:
    """Lower degrees for all fitted functions, and the next higher one if classes are lost."""
    found = {x.fit.degree for x in subject.made.chosen.graph.operations
             if isinstance(x, Multiply | Polynomial) and x.fit is not None}  # fmt: skip
    if not found or subject.made.target.degree is not None:
        return
    highest = max(found)
    wanted = [degree for degree in reversed(DEGREES) if degree < highest]
    known = subject.made.chosen.calibrated
    if known is not None and known.agreement is not None and known.agreement < 1:
        wanted += [degree for degree in DEGREES if degree > highest][:1]
    for degree in wanted:
        target = replace(subject.made.target, degree=degree, max_error=None, min_agreement=None)
        what = f"fit polynomials of degree {degree} (--degree {degree})"
        yield subject.changed(what, "option", target=target)


def agreements(subject: Subject) -> Iterator[Change]:
    """Fits judged by the classes that they keep, where no goal was given."""
    target, is_fitted = subject.made.target, any(True for _ in subject.activations())
    goals = (target.degree, target.max_error, target.min_agreement)
    tells = any(tells_class(subject.recognized, output) for output in subject.recognized.outputs)
    if is_fitted and tells and subject.made.calibration.samples and goals == (None, None, None):
        wanted = replace(target, min_agreement=AGREEMENT)
        what = f"judge fits by their classes alone (--min-agreement {AGREEMENT:g})"
        yield subject.changed(what, "option", target=wanted)


def precisions(subject: Subject) -> Iterator[Change]:
    """Outputs that are less exact."""
    now = subject.made.chosen.choice.precision
    bits = round(now - FEWER_BITS, 1)
    target = replace(subject.made.target, precision=bits)
    least, most = 2.0**-now, 2.0**-bits
    what = f"allow outputs an error of {most:.2g} instead of {least:.2g} (--precision {bits:g})"
    yield subject.changed(what, "option", target=target)


def backends(subject: Subject) -> Iterator[Change]:
    """The other library."""
    if subject.made.chosen.backend == "openfhe":
        target = replace(subject.made.target, backend="tenseal")
        what = "run a leveled program on SEAL (--backend tenseal)"
    else:
        target = replace(subject.made.target, backend="openfhe")
        what = "run on OpenFHE, two threads (--backend openfhe)"
    yield subject.changed(what, "option", target=target)


def narrower_ranges(subject: Subject) -> Iterator[Change]:
    """Fits on the ranges of all samples but those with the most extreme activations."""
    seen, inner = subject.made.calibration, [x for _, x in subject.activations()]
    if seen.samples is None or not inner:
        return
    values = evaluate(subject.recognized, seen.samples)
    extremes = [np.abs(values[x.operand]).max(axis=1) for x in inner]
    worst = np.max([each / (np.median(each) or 1.0) for each in extremes], axis=0)
    kept = worst <= np.quantile(worst, KEPT)
    if kept.all():
        return
    fewer = replace(seen, samples={name: x[kept] for name, x in seen.samples.items()})
    what = f"keep activations in the range of {100 * KEPT:.0f} % of the samples (regularise)"
    yield subject.changed(what, "data", calibration=fewer)


def _names(subject: Subject) -> str:
    return _listed({str(x.function) for _, x in subject.activations()})


def _listed(words: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(words))


RULES: Final[tuple[Rule, ...]] = (
    average_pools,
    affine_nodes,
    quadratics,
    smooth_functions,
    unclipped,
    functions_after_pools,
    narrower_ranges,
    agreements,
    degrees,
    precisions,
    backends,
)
