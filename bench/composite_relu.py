"""Is a composition of minimax polynomials better than one polynomial for ReLU? docs/design/008.

python bench/composite_relu.py MODEL ... --data FOLDER

For every ReLU, on the inputs that calibration shows: the error of density-weighted fits and of
x (1 + s(x)) / 2, where s composes odd minimax polynomials, by the levels and the products of each.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import hec
from hec.compiler.approximation import Density, fit, grid, histogram
from hec.compiler.calibration import Calibration
from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_import import import_onnx
from hec.compiler.remez import odd_minimax
from hec.compiler.series_tree import product_count
from hec.compiler.tensor_ir import Activation, Array
from hec.passes import SHARED_PASSES
from hec.passes.intervals import by_channel
from hec.passes.stand_in import WIDER
from models import data_folder, select

ONE = (7, 15, 31, 63)
PARTS = (3, 7, 15, 31)
LEVELS = (5, 6, 7, 8, 9)
GAPS = (0.003, 0.006, 0.0125, 0.025, 0.05, 0.1, 0.2)  # below them the sign is left as it comes


@lru_cache
def composite_sign(degrees: tuple[int, ...], gap: float) -> tuple[Array, ...]:
    """Return odd polynomials whose composition is the sign for |x| from `gap` to 1.

    Each is the best for the interval that the one before leaves, scaled to end at 1. Source: E. Lee
    et al., Minimax approximation of sign function by composite polynomial for homomorphic
    comparison, IEEE TDSC 19 (2022).
    """
    parts, low = list[Array](), gap
    for number, degree in enumerate(degrees):
        found = odd_minimax(np.sign, (low, 1.0), degree)
        is_last = number == len(degrees) - 1
        parts.append(found.coefficients / (1.0 if is_last else 1 + found.error))
        low = (1 - found.error) / (1 + found.error)
    return tuple(parts)


def composed(parts: tuple[Array, ...], x: Array) -> Array:
    """Return x (1 + s(x)) / 2."""
    sign = x
    for part in parts:
        sign = np.polynomial.chebyshev.chebval(sign, part)
    return x * (1 + sign) / 2


def densities(name: str, folder: Path) -> list[tuple[str, Density]]:
    """Return where the inputs of each ReLU of a network fall, in units of their intervals."""
    (model,) = select([name])
    graph = import_onnx(str(folder / "models" / model.path), hec.Target()).graph
    samples = model.samples(folder).calibration
    seen = Calibration.from_samples(graph, samples, hec.Target(), name)
    for tensor_pass in SHARED_PASSES:
        graph = tensor_pass(graph, hec.Target(), seen)
    values, found = evaluate(graph, seen.samples or {}), []
    for operation in graph.operations:
        if isinstance(operation, Activation) and operation.function.name == "relu":
            x = by_channel(values[operation.operand], operation.shape)
            reach = 1.1 * np.abs(x).max(axis=1)
            reach = np.maximum(reach, 0.1 * reach.max())[:, None]
            t, weight = x / reach / WIDER, np.broadcast_to(reach**2, x.shape)
            shape = "x".join(map(str, operation.shape[1:]))
            found.append((f"{name} {shape}", histogram(t, np.maximum(t, 0.0), weight)))
    return found


def error(density: Density, values: Array) -> float:
    """Return the error where inputs fall: root mean square, as a share of ReLU's own."""
    exact = np.maximum(density.t, 0.0)
    square = np.sum(density.weight * (values - exact) ** 2)
    return float(np.sqrt(square / np.sum(density.weight * exact**2)))


def best_composition(density: Density, levels: int) -> tuple[float, tuple[int, ...]]:
    """Return the least error of a composition of so many levels, and its degrees."""
    tried = [
        (error(density, composed(composite_sign(degrees, gap), density.t)), degrees)
        for count in (1, 2, 3)
        for degrees in itertools.product(PARTS, repeat=count)
        if 1 + sum(degree.bit_length() for degree in degrees) == levels
        for gap in GAPS
    ]
    return min(tried)


def main(
    models: list[str],
    data: Annotated[Path | None, typer.Option(help="folder of models and data sets")] = None,
) -> None:
    """Print levels, products and error of both ways for each ReLU."""
    for name in models:
        for layer, density in densities(name, data_folder(data)):
            for degree in ONE:
                coefficients = fit(np.maximum(grid(), 0.0), density, degree)
                found = error(density, np.polynomial.chebyshev.chebval(density.t, coefficients))
                counts = f"{degree.bit_length()} levels, {product_count(degree)} products"
                print(f"{layer}: degree {degree}: {counts}, error {100 * found:.2f} %")
            for levels in LEVELS:
                found, degrees = best_composition(density, levels)
                products = 1 + sum(map(product_count, degrees))
                counts = f"{levels} levels, {products} products"
                print(f"{layer}: composition {degrees}: {counts}, error {100 * found:.2f} %")


if __name__ == "__main__":
    typer.run(main)
