"""Einsum: a sum of products, over the labels that its equation gives to the axes.

Every label is a number from here on. With one encrypted operand it is a matrix: a row for each
element of the result, a column for each encrypted element, and the constants' product between.
Several encrypted operands are first spread over all their labels, and multiplied elementwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.onnx_matrices import Indices, element_numbers, gather
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_values import (
    MAX_CONSTANT,
    TOO_LARGE,
    Encrypted,
    GraphBuilder,
    NodeError,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.tensor_ir import Array, Multiply, Shape

Labels = tuple[int, ...]
Element = TypeVar("Element", bound=np.generic)
_MOST_LABELS = len(ascii_letters)  # numpy's einsum has no more
_MOST_PRODUCTS = 2**34  # of the constants alone


@dataclass(frozen=True)
class Labeled:
    """A constant and the labels of its axes."""

    array: Array
    labels: Labels


@dataclass(frozen=True)
class _Equation:
    operands: tuple[Labels, ...]
    result: Labels
    sizes: dict[int, int]

    def shape(self, labels: Labels) -> Shape:
        return tuple(self.sizes[label] for label in labels)


def convert_einsum(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Einsum into one matrix, or into products and one matrix."""
    shapes = [_shape(node, k) for k in range(len(node.inputs))]
    equation = _parsed(node.text("equation", ""), shapes)
    check_shape(equation.shape(equation.result))
    encrypted: list[tuple[Encrypted, Labels]] = []
    constants: list[Labeled] = []
    for k, labels in enumerate(equation.operands):
        value = node.required(k)
        if isinstance(value, Encrypted):
            encrypted.append((value, labels))
        else:
            constants.append(Labeled(node.weights(k), labels))
    outside = {label for _, labels in encrypted for label in labels} | set(equation.result)
    factor = _product(_squeezed(constants, equation), outside, equation)
    x, labels = _multiplied(builder, node, encrypted, equation)
    matrix = contraction(x.shape, labels, factor, equation.result, equation.sizes)
    shape = equation.shape(equation.result)
    return [builder.linear([(x.position, matrix)], 0.0, shape, node.origin)]


def contraction(
    shape: Shape, labels: Labels, factor: Labeled, result: Labels, sizes: dict[int, int]
) -> sp.csr_array:
    """Return the matrix of a sum of products of a tensor of `shape` with a constant.

    Every label of `factor` stands in `labels` or in `result`; an axis of size 1 whose label is
    longer elsewhere counts as repeated.
    """
    repeated = {label for label, size in zip(labels, shape, strict=True) if size < sizes[label]}
    if repeated - set(result):
        kept = tuple(label for label in factor.labels if label not in repeated - set(result))
        factor = Labeled(_summed([factor], kept), kept)
    present = tuple(dict.fromkeys(labels))
    numbers = _diagonals(element_numbers(shape), labels, present)
    taps = tuple(label for label in present if label not in (*result, *repeated))
    order = (*result, *taps)
    full = tuple(sizes[label] for label in order)
    check_nonzeros(prod(full))
    columns = np.broadcast_to(_aligned(numbers, present, order), full)
    weights = np.broadcast_to(_aligned(factor.array, factor.labels, order), full)
    flat = (prod(full[: len(result)]), prod(full[len(result) :]))
    return gather(columns.reshape(flat), weights.reshape(flat), prod(shape))


def _shape(node: Node, index: int) -> Shape:
    value = node.required(index)
    return value.shape if isinstance(value, Encrypted | np.ndarray) else ()


def _parsed(text: str, shapes: Sequence[Shape]) -> _Equation:
    """Return the equation with numbers for labels: letters, then the axes under '...'."""
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = sorted(set(left + right) - set(".,"))
    plain = [term.replace("...", "", 1) for term in (*terms, right)]
    if len(terms) != len(shapes) or not all(term.isalpha() for term in plain if term):
        raise _malformed(text, shapes)
    number = {letter: k for k, letter in enumerate(letters)}
    hidden = [len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True)]
    extra = max([0, *(h for h, t in zip(hidden, terms, strict=True) if "..." in t)])
    dots = tuple(range(len(letters), len(letters) + extra))
    if len(letters) + extra > _MOST_LABELS:
        raise _malformed(text, shapes)
    operands = []
    for term, count in zip(terms, hidden, strict=True):
        if count < 0 or (count and "..." not in term):
            raise _malformed(text, shapes)
        operands.append(_numbered(term, number, dots[extra - count :]))
    if not arrow:
        right = "..." + "".join(letter for letter in letters if left.count(letter) == 1)
    result = _numbered(right, number, dots)
    sizes = _sizes(operands, shapes)
    if sizes is None or len(set(result)) < len(result) or not set(result) <= set(sizes):
        raise _malformed(text, shapes)
    return _Equation(tuple(operands), result, sizes)


def _numbered(term: str, number: dict[str, int], dots: Labels) -> Labels:
    before, middle, after = term.partition("...")
    inside = dots if middle else ()
    return (*(number[x] for x in before), *inside, *(number[x] for x in after))


def _sizes(operands: Sequence[Labels], shapes: Sequence[Shape]) -> dict[int, int] | None:
    """Return the size of each label, None if two operands disagree; 1 agrees with every size."""
    sizes: dict[int, int] = {}
    for labels, shape in zip(operands, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            if 1 not in (size, sizes.get(label, 1)) and size != sizes[label]:
                return None
            sizes[label] = max(size, sizes.get(label, 1))
    return sizes


def _malformed(text: str, shapes: Sequence[Shape]) -> NodeError:
    listed = ", ".join(str(shape) for shape in shapes)
    return NodeError(f"the equation '{text}' does not fit operands of shapes {listed}")


def _squeezed(constants: list[Labeled], equation: _Equation) -> list[Labeled]:
    """Return the constants without the axes of size 1 that stand for a longer label."""
    squeezed = []
    for constant in constants:
        pairs = list(zip(constant.labels, constant.array.shape, strict=True))
        kept = [label for label, size in pairs if size == equation.sizes[label]]
        drop = tuple(k for k, (label, size) in enumerate(pairs) if size < equation.sizes[label])
        squeezed.append(Labeled(np.squeeze(constant.array, drop), tuple(kept)))
    return squeezed


def _product(constants: list[Labeled], outside: set[int], equation: _Equation) -> Labeled:
    """Return the constants as one, summed over the labels that nothing else has."""
    used = dict.fromkeys(label for constant in constants for label in constant.labels)
    kept = tuple(label for label in used if label in outside)
    check_shape(equation.shape(kept), MAX_CONSTANT)
    products = prod(equation.shape(tuple(used)))
    if products > _MOST_PRODUCTS:
        raise NodeError(
            f"its constants need {products:,} products; the limit is {_MOST_PRODUCTS:,}", TOO_LARGE
        )
    return Labeled(_summed(constants, kept), kept)


def _summed(constants: list[Labeled], kept: Labels) -> Array:
    if not constants:
        return np.ones(())
    # As a string, for its types; a label is a letter, of which there are as many as labels.
    terms = ",".join(_letters(constant.labels) for constant in constants)
    arrays = [constant.array for constant in constants]
    total = np.einsum(f"{terms}->{_letters(kept)}", *arrays, optimize=True)
    return np.asarray(total, np.float64)


def _letters(labels: Labels) -> str:
    return "".join(ascii_letters[label] for label in labels)


def _diagonals(numbers: Indices, labels: Labels, present: Labels) -> Indices:
    """Return the numbers with one axis for each label: of axes with the same, the diagonal."""
    picked: Indices = np.einsum(f"{_letters(labels)}->{_letters(present)}", numbers)
    return picked


def _aligned(array: NDArray[Element], labels: Labels, order: Labels) -> NDArray[Element]:
    """Return `array` with its axes in `order`, of size 1 where it has none."""
    missing = tuple(k for k, label in enumerate(labels) if label not in order)
    positions = [order.index(label) for label in labels if label in order]
    moved: NDArray[Element] = np.squeeze(array, missing).transpose(np.argsort(positions))
    shape = [1] * len(order)
    for position, size in zip(sorted(positions), moved.shape, strict=True):
        shape[position] = size
    return moved.reshape(shape)


def _multiplied(
    builder: GraphBuilder,
    node: Node,
    encrypted: list[tuple[Encrypted, Labels]],
    equation: _Equation,
) -> tuple[Encrypted, Labels]:
    """Return the elementwise product of the encrypted operands, spread over all their labels."""
    if len(encrypted) == 1:
        return encrypted[0]
    every = tuple(dict.fromkeys(label for _, labels in encrypted for label in labels))
    shape = check_shape(equation.shape(every))
    spread = []
    for x, labels in encrypted:
        matrix = contraction(x.shape, labels, Labeled(np.ones(()), ()), every, equation.sizes)
        spread.append(builder.linear([(x.position, matrix)], 0.0, shape, node.origin))
    while len(spread) > 1:  # in pairs: the fewest levels
        pairs = zip(spread[::2], spread[1::2], strict=False)
        products = [
            builder.add(Multiply(left.position, right.position, shape, node.origin))
            for left, right in pairs
        ]
        spread = products + spread[len(spread) // 2 * 2 :]
    return spread[0], every
