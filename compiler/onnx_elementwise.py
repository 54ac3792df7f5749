"""Arithmetic on elements, and Clip."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod

import numpy as np

from hec.compiler.functions import Function
from hec.compiler.onnx_matrices import select
from hec.compiler.onnx_node import Node
from hec.compiler.onnx_products import broadcast_matrix
from hec.compiler.onnx_values import (
    Encrypted,
    GraphBuilder,
    NodeError,
    Term,
    Unknown,
    Value,
    check_nonzeros,
    check_shape,
)
from hec.compiler.tensor_ir import Activation, Array, Multiply, Origin, Polynomial, Shape

_LARGEST_FLOAT32 = 3.4028234e38  # Clip's bounds before opset 11 when the exporter gave none
_MAX_POWER = 8
_NAMED_POWERS = {0.5: "sqrt", -1.0: "reciprocal"}


def convert_sum(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Add or Sum of encrypted tensors and constants into one `Linear`."""
    return [_combine(builder, node, [1.0] * len(node.inputs))]


def convert_mean(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn the mean of several tensors into one `Linear`."""
    return [_combine(builder, node, [1.0 / len(node.inputs)] * len(node.inputs))]


def convert_sub(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a difference into one `Linear`."""
    return [_combine(builder, node, [1.0, -1.0])]


def convert_neg(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a negation into one `Linear`."""
    return [_combine(builder, node, [-1.0])]


def _combine(builder: GraphBuilder, node: Node, factors: Sequence[float]) -> Encrypted:
    shape = _broadcast_shape(node)
    check_nonzeros(len(factors) * prod(shape))
    bias: Array = np.zeros(shape)
    terms: list[Term] = []
    for index, factor in enumerate(factors):
        value = node.required(index)
        if isinstance(value, Encrypted):
            terms.append((value.position, broadcast_matrix(value.shape, shape, factor)))
        else:
            bias += factor * node.weights(index)
    return builder.linear(terms, bias, shape, node.origin)


def _broadcast_shape(node: Node) -> Shape:
    shapes = [
        value.shape
        for value in (node.required(k) for k in range(len(node.inputs)))
        if not isinstance(value, Unknown)
    ]
    try:
        return check_shape(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = " and ".join(str(shape) for shape in shapes)
        raise NodeError(f"{node.operator} of shapes {listed}: they do not broadcast") from None


def convert_mul(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Mul into a scaling by a constant, or a product of two encrypted tensors."""
    shape = _broadcast_shape(node)
    left, right = node.required(0), node.required(1)
    if isinstance(left, Encrypted) and isinstance(right, Encrypted):
        return [_product(builder, node, (left, right), shape)]
    if isinstance(left, Encrypted):
        return [_scale(builder, node, left, node.weights(1), shape)]
    return [_scale(builder, node, node.encrypted(1), node.weights(0), shape)]


def convert_div(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a division by a constant into a scaling, any other into a product with 1/y."""
    shape, x, y = _broadcast_shape(node), node.required(0), node.required(1)
    if isinstance(y, Encrypted):
        inverted = apply(builder, node, y, Function("reciprocal"))
        if isinstance(x, Encrypted):
            return [_product(builder, node, (x, inverted), shape)]
        return [_scale(builder, node, inverted, node.weights(0), shape)]
    with np.errstate(divide="ignore"):  # the builder reports what is not finite
        inverse = 1.0 / node.weights(1)
    return [_scale(builder, node, node.encrypted(0), inverse, shape)]


def _product(
    builder: GraphBuilder, node: Node, factors: tuple[Encrypted, Encrypted], shape: Shape
) -> Encrypted:
    left, right = (_broadcast_to(builder, x, shape, node.origin) for x in factors)
    return builder.add(Multiply(left.position, right.position, shape, node.origin))


def _scale(
    builder: GraphBuilder, node: Node, x: Encrypted, factor: Array, shape: Shape
) -> Encrypted:
    matrix = broadcast_matrix(x.shape, shape, factor)
    return builder.linear([(x.position, matrix)], 0.0, shape, node.origin)


def _broadcast_to(builder: GraphBuilder, x: Encrypted, shape: Shape, origin: Origin) -> Encrypted:
    return builder.linear([(x.position, broadcast_matrix(x.shape, shape))], 0.0, shape, origin)


def convert_pow(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn a power with a small whole exponent into a polynomial, any other into a function."""
    shape = _broadcast_shape(node)
    base = node.required(0)
    if not isinstance(base, Encrypted):
        if isinstance(base, np.ndarray) and base.dtype.kind in "iu":
            raise NodeError(
                "Pow of whole numbers gives whole numbers, which cannot be encrypted",
                "make the base a constant of real numbers",
            )
        return [_exponential(builder, node, node.weights(0), shape)]
    exponents = np.unique(node.weights(1))
    if len(exponents) > 1:
        listed = ", ".join(f"{e:g}" for e in exponents[:4])
        raise NodeError(
            f"Pow with several exponents, {listed}, is not supported",
            "split the tensor, and use one exponent for each part",
        )
    exponent = float(exponents[0])
    x = _broadcast_to(builder, node.encrypted(0), shape, node.origin)
    if exponent == 1:
        return [x]
    if exponent not in range(_MAX_POWER + 1):
        named = _NAMED_POWERS.get(exponent)
        function = Function(named) if named else Function("power", (exponent,))
        return [apply(builder, node, x, function)]
    coefficients = np.zeros(int(exponent) + 1)
    coefficients[-1] = 1.0
    return [builder.add(Polynomial(x.position, coefficients, "power", shape, node.origin))]


def _exponential(builder: GraphBuilder, node: Node, bases: Array, shape: Shape) -> Encrypted:
    """Return bases^x as exp(log(bases) x)."""
    if (bases <= 0).any():
        raise NodeError(
            f"Pow of the base {bases.min():g} with an encrypted exponent is not supported",
            "use bases above 0",
        )
    scaled = _scale(builder, node, node.encrypted(1), np.log(bases), shape)
    return apply(builder, node, scaled, Function("exp"))


def apply(builder: GraphBuilder, node: Node, x: Encrypted, function: Function) -> Encrypted:
    """Apply `function` to every element of `x`."""
    return builder.add(Activation(x.position, function, x.shape, node.origin))


def convert_clip(builder: GraphBuilder, node: Node) -> list[Value]:
    """Turn Clip into an activation; one bound alone is a Relu between two shifts."""
    low, high = _bound(node, 1, "min", -inf), _bound(node, 2, "max", inf)
    x = node.encrypted(0)
    if low == -inf and high == inf:
        return [x]
    if high == inf:
        return [_at_least(builder, node, x, low)]
    if low == -inf:
        flipped = _at_least(builder, node, _affine(builder, node, x, -1.0, 0.0), -high)
        return [_affine(builder, node, flipped, -1.0, 0.0)]
    return [apply(builder, node, x, Function("clip", (low, high)))]


def _at_least(builder: GraphBuilder, node: Node, x: Encrypted, low: float) -> Encrypted:
    shifted = _affine(builder, node, x, 1.0, -low)
    return _affine(builder, node, apply(builder, node, shifted, Function("relu")), 1.0, low)


def _affine(
    builder: GraphBuilder, node: Node, x: Encrypted, factor: float, shift: float
) -> Encrypted:
    count = prod(x.shape)
    matrix = select(np.arange(count), count, factor)
    return builder.linear([(x.position, matrix)], shift, x.shape, node.origin)


def _bound(node: Node, index: int, name: str, default: float) -> float:
    given = node.constant(index)
    value = node.real(name, default) if given is None else float(given.astype(np.float64).item())
    if np.isnan(value):
        raise NodeError(f"the bound '{name}' of Clip is NaN")
    return float(np.copysign(inf, value)) if abs(value) >= _LARGEST_FLOAT32 else value
