"""The rules of `hec lint`: each a function of a network that yields what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, log2, prod
from typing import Final, TypeAlias

import numpy as np
from onnx import NodeProto

from hec.compiler.depth import fewest_levels, levels
from hec.compiler.findings import (
    FREE,
    Finding,
    Price,
    Subject,
    nonlinear,
    operand_of,
    read_values,
    refreshed,
    total_values,
)
from hec.compiler.lint_ranges import unknown_ranges, wide_ranges
from hec.compiler.tensor_ir import (
    Activation,
    Array,
    Input,
    Linear,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    inputs,
    operands,
    size,
)
from hec.compiler.typing_rules import polynomial_depth
from hec.passes.rewriting import consumers

Rule: TypeAlias = Callable[[Subject], Iterator[Finding]]

POOLS: Final = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
MAX_POOLS: Final = frozenset({"MaxPool", "GlobalMaxPool"})
NORMALIZATIONS: Final = frozenset(
    {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
)
_CHEAP_POLYNOMIAL: Final = 4  # degree: two squares
_NOTICED: Final = 0.1  # share of unread values from which they are told
_GRID: Final = np.linspace(-1000.0, 1000.0, 200_001)  # where two functions in a row are compared


def failed_nodes(subject: Subject) -> Iterator[Finding]:
    """Every node that cannot be compiled; of MaxPool what its comparisons would cost."""
    for proto, problem in subject.survey.failures:
        price = max_pool_price(subject, proto) if proto.op_type in MAX_POOLS else None
        yield Finding(
            "cannot-compile", "error", problem.message, problem.place, problem.help, price
        )


def max_pool_price(subject: Subject, proto: NodeProto) -> Price | None:
    """Return what comparing in pairs costs more than averaging: one activation for each round."""
    image = subject.shape(next(iter(proto.input), ""))
    kernel = image[2:] if image else ()
    for attribute in proto.attribute:
        if attribute.name == "kernel_shape" and proto.op_type == "MaxPool":
            kernel = tuple(attribute.ints)
    result = subject.shape(next(iter(proto.output), ""))
    taps = prod(kernel)
    if image is None or taps < 2:
        return None
    return subject.activation_price(prod(result or (1,)), ceil(log2(taps)))


def costly_nodes(subject: Subject) -> Iterator[Finding]:
    """Single nodes that became several functions one after another: MaxPool, Softmax, norms."""
    for name, (steps, operation) in _deepest_nodes(subject.recognized).items():
        proto = subject.protos.get(name)
        if proto is None or steps < 2:
            continue
        yield Finding(
            "costly-operator",
            "costly",
            f"{proto.op_type} takes {steps} functions one after another",
            subject.place(operation),
            _rewrite(proto.op_type),
            subject.activation_price(size(operation), steps),
        )


def _rewrite(operator: str) -> str:
    if operator in MAX_POOLS:
        return "AveragePool, or a Conv with stride, is one matrix, and merges with its neighbours"
    if operator in NORMALIZATIONS:
        return "BatchNormalization is folded into the layer before, and costs nothing"
    return "leave it out, or move it to the end, where the client computes it"


def _deepest_nodes(graph: TensorGraph) -> dict[str, tuple[int, TensorOperation]]:
    """Return by node the most functions on a path inside it, and the operation that ends it."""
    steps: list[int] = []
    found: dict[str, tuple[int, TensorOperation]] = {}
    for operation in graph.operations:
        if isinstance(operation, Input) or len(operation.origin) != 1:
            steps.append(0)
            continue
        inside = [
            steps[i]
            for i in operands(operation)
            if getattr(graph.operations[i], "origin", ()) == operation.origin
        ]
        own = max(inside, default=0) + (not isinstance(operation, Linear))
        steps.append(own)
        if own and own >= found.get(operation.origin[0], (0, operation))[0]:
            found[operation.origin[0]] = (own, operation)
    return found


def depth(subject: Subject) -> Iterator[Finding]:
    """A network that no leveled program can run."""
    if not subject.refreshes:
        return
    functions = [x for _, x in nonlinear(subject.fused) if isinstance(x, Activation)]
    count = sum(subject.ciphertexts(size(x)) for x in functions)
    yield Finding(
        "needs-bootstraps",
        "costly",
        f"a leveled program would need {subject.levels} levels or more; at "
        f"{subject.target.security}-bit security a modulus has room for {subject.most_levels}",
        f"{subject.survey.model.name}: {len(functions)} activations",
        "use fewer activations, or compile for OpenFHE, which refreshes ciphertexts",
        refreshed(max(count, 1)),
    )


def fitted_functions(subject: Subject) -> Iterator[Finding]:
    """How many levels squares in place of fitted functions would save."""
    functions = [x for _, x in nonlinear(subject.fused) if isinstance(x, Activation)]
    if subject.refreshes or not functions:
        return
    simpler = _squared(subject.fused)
    names = ", ".join(dict.fromkeys(str(x.function) for x in functions))
    many = f"{len(functions)} activations are replaced by fitted polynomials"
    one = "1 activation is replaced by a fitted polynomial"
    yield Finding(
        "fitted-functions",
        "note",
        f"{many if len(functions) > 1 else one}: {names}",
        subject.survey.model.name,
        "a square (x * x) is exact and takes one level, where training tolerates it",
        Price(levels=subject.levels - fewest_levels(simpler)),
    )


def _squared(graph: TensorGraph) -> TensorGraph:
    changed = tuple(
        Multiply(x.operand, x.operand, x.shape, x.origin) if isinstance(x, Activation) else x
        for x in graph.operations
    )
    return TensorGraph(changed, graph.outputs)


def high_degrees(subject: Subject) -> Iterator[Finding]:
    """Exact polynomials that cost more levels than two squares."""
    for _, operation in nonlinear(subject.fused):
        if not isinstance(operation, Polynomial):
            continue
        degree = len(operation.coefficients) - 1
        if degree > _CHEAP_POLYNOMIAL:
            yield Finding(
                "high-degree",
                "costly",
                f"a polynomial of degree {degree} takes {levels(operation)} levels",
                subject.place(operation),
                "a polynomial of degree 2 takes one",
                Price(levels=levels(operation) - polynomial_depth(1)),
            )


def before_pools(subject: Subject) -> Iterator[Finding]:
    """Functions whose results are averaged at once: averaging first leaves fewer values."""
    readers = consumers(subject.recognized)
    for position, operation in nonlinear(subject.recognized):
        if len(readers[position]) != 1:
            continue
        pool = subject.recognized.operations[readers[position][0]]
        if not isinstance(pool, Linear) or len(pool.operands) != 1 or not pool.origin:
            continue
        proto = subject.protos.get(pool.origin[-1])
        before, after = size(operation), size(pool)
        if proto is None or proto.op_type not in POOLS or after >= before:
            continue
        word = subject.word(operation)
        fewer = subject.ciphertexts(before) - subject.ciphertexts(after)
        yield Finding(
            "function-before-pool",
            "costly" if fewer else "note",
            f"{word} of {before:,} values, of which {proto.op_type} makes {after:,}",
            subject.place(operation),
            f"average first, then apply {word}: another network, for the two do not commute "
            "exactly, so train it that way",
            _fewer_values(subject, before, after),
        )


def _fewer_values(subject: Subject, before: int, after: int) -> Price:
    fewer = subject.ciphertexts(before) - subject.ciphertexts(after)
    if subject.refreshes and fewer:
        return Price(values=before - after, bootstraps=fewer, seconds=refreshed(fewer).seconds)
    return Price(values=before - after)


def unread_values(subject: Subject) -> Iterator[Finding]:
    """Functions of values that no layer reads: strides, slices and zero weights skip them."""
    readers = consumers(subject.fused)
    results = {output.operand for output in subject.fused.outputs}
    for position, operation in nonlinear(subject.fused):
        layers = [subject.fused.operations[i] for i in readers[position]]
        linear = [layer for layer in layers if isinstance(layer, Linear)]
        if position in results or not layers or len(linear) < len(layers):
            continue
        count = size(operation)
        read = read_values(linear, position, count)
        if count - read < _NOTICED * count:
            continue
        fewer = subject.ciphertexts(count) - subject.ciphertexts(max(read, 1))
        yield Finding(
            "unread-values",
            "costly" if fewer else "note",
            f"{subject.word(operation)} of {count:,} values, whose next layers read {read:,}",
            subject.place(operation),
            "leave the others out before the function, by a stride or a slice: the same results",
            _fewer_values(subject, count, max(read, 1)),
        )


def two_in_a_row(subject: Subject) -> Iterator[Finding]:
    """An activation of an activation."""
    for _, operation in nonlinear(subject.fused):
        inner = subject.fused.operations[operand_of(operation)]
        if not isinstance(operation, Activation) or not isinstance(inner, Activation):
            continue
        with np.errstate(all="ignore"):
            once: Array = inner.function(_GRID)
            same = np.array_equal(operation.function(once), once)
        advice = "use one function that does the work of both, with one fit"
        yield Finding(
            "two-in-a-row",
            "costly",
            f"{operation.function} directly after {inner.function}"
            + (", which changes nothing" if same else ""),
            subject.place(operation),
            "remove it" if same else advice,
            subject.activation_price(size(operation)),
        )


def client_functions(subject: Subject) -> Iterator[Finding]:
    """What the client computes after decryption."""
    words = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "sigmoid": "Sigmoid",
             "argmax": "ArgMax"}  # fmt: skip
    for output in subject.rest.graph.outputs:
        for step in output.epilogue:
            if step.name in words:
                yield Finding(
                    "left-to-client",
                    "note",
                    f"the client computes {words[step.name]} after decryption: it costs no level",
                    f"{subject.survey.model.name}: output '{output.name}'",
                    price=FREE,
                )


def fixed_batches(subject: Subject) -> Iterator[Finding]:
    """Inputs whose first axis makes one prediction of several samples."""
    graph = subject.rest.graph
    outputs = [subject.shape(output.name) for output in graph.outputs]
    for _, operation in inputs(graph):
        batch = operation.shape[0] if len(operation.shape) > 1 else 1
        if batch < 2 or not outputs or any(not s or s[0] != batch for s in outputs):
            continue
        spared = total_values(subject.fused) * (batch - 1) // batch
        yield Finding(
            "fixed-batch",
            "costly",
            f"the first axis of the input has {batch} elements, and so has every output: each "
            f"prediction computes {batch} samples",
            f"{subject.survey.model.name}: input '{operation.name}' of shape {operation.shape}",
            "export with a batch of one, or with a dynamic first axis",
            Price(values=spared) if spared else None,
        )


RULES: Final[tuple[Rule, ...]] = (
    failed_nodes,
    depth,
    costly_nodes,
    two_in_a_row,
    high_degrees,
    wide_ranges,
    unread_values,
    before_pools,
    fixed_batches,
    fitted_functions,
    unknown_ranges,
    client_functions,
)
