"""What fits do to every tensor of a graph: how far it is from where the exact network has it.

The graph that runs has other tensors than the network: scaled, shifted, squares completed. So the
exact ones are recovered: an activation's result in the network is a combination of what its fit
left here (`Twin` holds it on some samples), which says what the fit should have computed; all else
follows by the operations themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from hec.compiler.evaluate import value
from hec.compiler.tensor_ir import (
    Array,
    Bootstrap,
    Multiply,
    Polynomial,
    TensorGraph,
    TensorOperation,
    Twin,
    operands,
)

FLAT: Final = 1e-12  # of the largest variance: below it an element does not vary
UNRELATED: Final = 1e-6  # share of the variance left over: then more terms are needed


def approximation_errors(graph: TensorGraph, values: Sequence[Array]) -> tuple[float, ...]:
    """Return the root mean square of approximated - exact of every tensor; zero before any fit.

    `values` are those of `graph` on the calibration samples, (samples, elements) each; measured on
    as many of the first as all twins have.
    """
    twins = [twin for operation in graph.operations if (twin := _twin(operation)) is not None]
    count = min((len(twin.exact) for twin in twins), default=0)
    found = [each[:count] for each in values]
    exact = list[Array]()
    for position, operation in enumerate(graph.operations):
        twin = _twin(operation)
        if twin is None or twin.exact.shape[1:] != found[position].shape[1:]:
            same = all(exact[i] is found[i] for i in operands(operation))
            exact.append(found[position] if same else value(operation, exact, _of(count)))
        else:
            exact.append(_meant(graph, position, twin, found, exact))
    pairs = zip(found, exact, strict=True)
    return tuple(0.0 if mine is theirs else _rms(mine - theirs) for mine, theirs in pairs)


def _of(count: int) -> dict[str, Array]:
    """Return samples of no element: only how many there are."""
    return {"": np.zeros((count, 0))}


def _twin(operation: TensorOperation) -> Twin | None:
    if not isinstance(operation, Multiply | Polynomial | Bootstrap) or operation.fit is None:
        return None
    return operation.fit.twin


def _meant(
    graph: TensorGraph, position: int, twin: Twin, found: list[Array], exact: list[Array]
) -> Array:
    """Return what the fit at `position` should have computed, for its twin to be exact.

    The network's value is that of the fit times a factor, plus a constant; a completed square adds
    a multiple of its operand, and a quartic one of its operand's operand.
    """
    core, wanted = found[position], twin.exact[: len(found[position])]
    fitted = twin.fitted[: len(core)]
    terms = [position]
    weights, rest = _regression([found[i] for i in terms], fitted)
    source = graph.operations[position]
    while rest > UNRELATED and isinstance(source, Multiply):
        terms.append(source.left)
        source = graph.operations[source.left]
        weights, rest = _regression([found[i] for i in terms], fitted)
    known = wanted - fitted
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        known = known - weight * (exact[term] - found[term])
    flat = weights[0] == 0.0
    meant = core + np.divide(known, weights[0], out=np.zeros_like(known), where=~flat)
    if not flat.any():
        return np.asarray(meant, np.float64)
    as_it_is = value(graph.operations[position], exact, _of(len(core)))
    return np.asarray(np.where(flat, as_it_is, meant), np.float64)


def _regression(terms: Sequence[Array], wanted: Array) -> tuple[Array, float]:
    """Return each element's weights of `terms`, (terms, elements), and the share left over.

    A weight is zero where its term does not vary over the samples.
    """
    centred = np.stack([term - term.mean(axis=0) for term in terms])
    sizes = np.sqrt((centred**2).mean(axis=1))
    varies = sizes > np.sqrt(FLAT) * sizes.max(axis=1, initial=0.0)[:, None]
    units = np.divide(centred, sizes[:, None], out=np.zeros_like(centred), where=varies[:, None])
    target = wanted - wanted.mean(axis=0)
    gram = np.einsum("tse,use->etu", units, units)
    products = np.einsum("tse,se->et", units, target)
    solved = (np.linalg.pinv(gram, rcond=FLAT, hermitian=True) @ products[:, :, None])[:, :, 0].T
    rest = target - np.einsum("te,tse->se", solved, units)
    weights = np.divide(solved, sizes, out=np.zeros_like(solved), where=varies)
    return weights, float((rest**2).sum() / max((target**2).sum(), np.finfo(np.float64).tiny))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
