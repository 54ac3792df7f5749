"""Largest and smallest values by tournament: b + relu(a - b) is the larger of two.

Encrypted numbers cannot be compared, but ReLU can be fitted, and with it the winner of a pair. The
winners meet in the next round, so that k values take log2(k) activations one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.onnx_matrices import Indices, element_numbers, select
from hec.compiler.onnx_products import broadcast_matrix
from hec.compiler.onnx_values import Encrypted, GraphBuilder, Term, check_shape
from hec.compiler.tensor_ir import Activation, Array, Origin, Shape

RELU = Function("relu")


def rounds(taps: Indices) -> int:
    """Return how many rounds the windows (outputs, taps) need, -1 being no tap."""
    most = int((taps >= 0).sum(axis=1).max(initial=1))
    return (most - 1).bit_length()


@dataclass(frozen=True)
class Tournament:
    """Comparisons that one ONNX node is made of."""

    builder: GraphBuilder
    origin: Origin
    sign: float  # 1: the largest wins; -1: the smallest

    def winner(self, a: Encrypted, b: Encrypted) -> Encrypted:
        """Return the winner of each element of two tensors, broadcast to one shape."""
        shape = check_shape(np.broadcast_shapes(a.shape, b.shape))
        lead = self._relu(
            [
                (a.position, broadcast_matrix(a.shape, shape, self.sign)),
                (b.position, broadcast_matrix(b.shape, shape, -self.sign)),
            ],
            0.0,
            shape,
        )
        terms = [(b.position, broadcast_matrix(b.shape, shape)), self._scaled(lead)]
        return self.builder.linear(terms, 0.0, shape, self.origin)

    def winner_of_constant(self, x: Encrypted, constant: Array) -> Encrypted:
        """Return the winner of each element and a constant, broadcast to one shape."""
        shape = check_shape(np.broadcast_shapes(x.shape, constant.shape))
        term = (x.position, broadcast_matrix(x.shape, shape, self.sign))
        lead = self._relu([term], -self.sign * constant, shape)
        return self.builder.linear([self._scaled(lead)], constant, shape, self.origin)

    def along(self, x: Encrypted, axis: int, taps: Indices) -> Encrypted:
        """Return the winner of each window along one axis of `x`.

        `taps` is (outputs, taps): positions on the axis that each output reads, -1 for none; every
        output reads one at least. Pairs that several windows share are compared once.
        """
        taps = _in_front(taps)
        while taps.shape[1] > 1:
            x, taps = self._round(x, axis, taps)
        numbers = np.take(element_numbers(x.shape), taps[:, 0], axis)
        term = (x.position, select(numbers, prod(x.shape)))
        return self.builder.linear([term], 0.0, numbers.shape, self.origin)

    def _round(self, x: Encrypted, axis: int, taps: Indices) -> tuple[Encrypted, Indices]:
        """Return the winners of the pairs in `taps`, and the windows over the winners."""
        left, right, taps = _pairs(taps)
        winners = self._winners(x, axis, left, right)
        return winners, _in_front(taps)

    def _winners(self, x: Encrypted, axis: int, left: Indices, right: Indices) -> Encrypted:
        numbers, width = element_numbers(x.shape), prod(x.shape)
        shape = check_shape((*x.shape[:axis], left.size, *x.shape[axis + 1 :]))
        met = left != right  # else a tap is alone, and goes on as it is
        first, second = (np.take(numbers, side[met], axis) for side in (left, right))
        terms = [
            (x.position, select(first, width, self.sign)),
            (x.position, select(second, width, -self.sign)),
        ]
        lead = self._relu(terms, 0.0, first.shape)
        place = np.where(met, np.cumsum(met) - 1, 0)
        alone = np.reshape(~met, [-1 if i == axis else 1 for i in range(len(shape))])
        leads = np.where(alone, -1, np.take(element_numbers(first.shape), place, axis))
        kept = select(np.take(numbers, right, axis), width)
        won = select(leads, prod(first.shape), self.sign)
        terms = [(x.position, kept), (lead.position, won)]
        return self.builder.linear(terms, 0.0, shape, self.origin)

    def _relu(self, terms: list[Term], bias: Array | float, shape: Shape) -> Encrypted:
        difference = self.builder.linear(terms, bias, shape, self.origin)
        return self.builder.add(Activation(difference.position, RELU, shape, self.origin))

    def _scaled(self, x: Encrypted) -> Term:
        return x.position, broadcast_matrix(x.shape, x.shape, self.sign)


def _in_front(taps: Indices) -> Indices:
    """Return the windows without columns that no window uses, each window's taps in front."""
    order = np.argsort(taps < 0, axis=1, kind="stable")
    sorted_taps = np.take_along_axis(taps, order, axis=1)
    used = int((taps >= 0).sum(axis=1).max(initial=0))
    return sorted_taps[:, :used]


def _pairs(taps: Indices) -> tuple[Indices, Indices, Indices]:
    """Return the two sides of all different pairs, and the windows over the pairs."""
    padded = np.pad(taps, ((0, 0), (0, taps.shape[1] % 2)), constant_values=-1).astype(np.int64)
    left, right = padded[:, ::2], padded[:, 1::2]
    right = np.where(right < 0, left, right)
    count = int(taps.max()) + 1
    codes, numbers = np.unique((left * count + right)[left >= 0], return_inverse=True)
    windows = np.full(left.shape, -1, np.int64)
    windows[left >= 0] = numbers.reshape(-1)
    return codes // count, codes % count, windows
