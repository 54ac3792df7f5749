"""GatherElements, GatherND, ScatterElements, ScatterND: constant indices into a tensor.

Numpy's fancy indexing means the same and loops over no element, as onnx's reference implementation
does. What is encrypted is indexed by the numbers of its elements, see onnx_movement.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.onnx_matrices import element_numbers, select
from hec.compiler.onnx_movement import Pool, check_axis
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import (
    Constant,
    Encrypted,
    GraphBuilder,
    NodeError,
    Term,
    Value,
    check_shape,
)
from hec.compiler.tensor_ir import Array, Shape

GATHERS = frozenset({"GatherElements", "GatherND"})
SCATTERS = frozenset({"Scatter", "ScatterElements", "ScatterND"})

Index = tuple[NDArray[np.int64], ...]
Element = TypeVar("Element", bound=np.generic)
_COMBINED: dict[str, Callable[[Constant, Index, Constant], None]] = {
    "add": np.add.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
    "mul": np.multiply.at,
}


def convert_gather(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a node of `GATHERS` into a selection."""
    pool = Pool(node, (0,))
    return [pool.selection(builder, gathered(node, pool.element_numbers(0)))]


def convert_scatter(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a node of `SCATTERS` into one `Linear` of its data and its updates."""
    match _reduction(node):
        case "none":
            pool = Pool(node, (0, 2))
            numbers = [pool.element_numbers(k) for k in (0, 2)]
            return [pool.selection(builder, scattered(node, *numbers))]
        case "add":
            return [_added(builder, node)]
        case "mul" if isinstance(node.input(2), np.ndarray):
            x = node.encrypted(0)
            factors = scattered(node, np.ones(x.shape), node.weights(2))
            scaling = select(element_numbers(x.shape), prod(x.shape), factors)
            return [builder.linear([(x.position, scaling)], 0.0, x.shape, node.origin)]
        case reduction:
            raise NodeError(
                f"{node.operator} on an encrypted tensor with reduction '{reduction}' "
                "is not supported",
                "use the reduction 'none' or 'add', or 'mul' with constant updates",
            )


def _added(builder: GraphBuilder, node: Node) -> Encrypted:
    """Return the data plus the updates, every one at its place."""
    data, updates = node.required(0), node.required(2)
    shape = data.shape if isinstance(data, Encrypted | np.ndarray) else ()
    terms: list[Term] = []
    bias: Array = np.zeros(shape)
    if isinstance(data, Encrypted):
        terms.append((data.position, select(element_numbers(shape), prod(shape))))
    else:
        bias = node.weights(0)
    if isinstance(updates, Encrypted):
        targets = _at(node, element_numbers(shape), updates.shape).reshape(-1)
        ones = (np.ones(targets.size), (targets, np.arange(targets.size)))
        places = sp.csr_array(ones, shape=(prod(shape), targets.size))
        terms.append((updates.position, places))
    else:
        bias = scattered(node, bias, node.weights(2))
    return builder.linear(terms, bias, shape, node.origin)


def gathered(node: Node, data: NDArray[Element]) -> NDArray[Element]:
    """Return what a node of `GATHERS` takes from `data`."""
    places = _places(node, data.shape)
    check_shape((*np.broadcast_shapes(*(p.shape for p in places)), *data.shape[len(places) :]))
    return np.asarray(data[places])


def scattered(node: Node, data: NDArray[Element], updates: NDArray[Element]) -> NDArray[Element]:
    """Return `data` after a node of `SCATTERS` wrote `updates` into it."""
    result = np.array(data)
    places, reduction = _places(node, data.shape), _reduction(node)
    _at(node, result, updates.shape)
    if reduction == "none":
        result[places] = updates
    else:
        _COMBINED[reduction](result, places, updates)
    return result


def _at(node: Node, data: NDArray[Element], shape: Shape) -> NDArray[Element]:
    """Return what stands where the node writes updates of `shape`."""
    found = np.asarray(data[_places(node, data.shape)])
    if found.shape != shape:
        raise NodeError(f"{node.operator}: updates of shape {shape} do not fit {found.shape}")
    return found


def _reduction(node: Node) -> str:
    reduction = node.text("reduction", "none")
    if reduction != "none" and reduction not in _COMBINED:
        raise NodeError(f"{node.operator} with reduction '{reduction}' does not exist in ONNX")
    return reduction


def _places(node: Node, shape: Shape) -> Index:
    """Return numpy's index of the places in a tensor of `shape` that the node names."""
    node.required(1)
    given = node.constant(1)
    if given is None or given.dtype.kind not in "iu":
        raise NodeError(f"{node.operator}: its indices are not whole numbers")
    indices = given.astype(np.int64)
    mismatch = NodeError(
        f"{node.operator}: indices of shape {indices.shape} do not fit a tensor of shape {shape}"
    )
    if node.operator.endswith("ND"):
        batch = node.integer("batch_dims", 0)
        fits = indices.ndim > batch >= 0 and indices.shape[:batch] == shape[:batch]
        if not fits or not 1 <= indices.shape[-1] <= len(shape) - batch:
            raise mismatch
        along = list(np.ogrid[tuple(slice(size) for size in indices.shape[:-1])][:batch])
        named = {batch + k: indices[..., k] for k in range(indices.shape[-1])}
    else:
        axis = check_axis(node.integer("axis", 0), len(shape))
        excess = [i - s for i, s in zip(indices.shape, shape, strict=False)]
        if indices.ndim != len(shape) or max([0, *excess[:axis], *excess[axis + 1 :]]):
            raise mismatch
        along = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
        named = {axis: indices}
    for axis, numbers in named.items():
        if numbers.size and not -shape[axis] <= numbers.min() <= numbers.max() < shape[axis]:
            raise NodeError(f"{node.operator}: an index lies outside axis {axis} of shape {shape}")
        along[axis:] = [numbers, *along[axis + 1 :]]
    return tuple(along)
