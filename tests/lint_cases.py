"""Networks that lint is asked about, and its findings by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

from hec.compiler.findings import Finding, Price
from hec.compiler.lint import lint
from onnx_oracle import network, node, random

UNKNOWN = Finding(
    "ranges-unknown",
    "note",
    "how wide the inputs of activations are is not known, nor what that costs",
    "net",
    "give --calibration with a few hundred real inputs",
)


def rules(model: ModelProto, samples: Any = None) -> Mapping[str, Finding]:
    """Return the findings by their rules."""
    return {finding.rule: finding for finding in lint(model, samples)}


def image(*nodes: Any, channels: int = 1, size: int = 8, **constants: Any) -> ModelProto:
    """Return a network of `nodes` that takes a square image."""
    return network(list(nodes), {"x": (1, channels, size, size)}, constants)


def deep(count: int, width: int = 4) -> ModelProto:
    """Return a chain of `count` matrices and ReLUs, and one more matrix."""
    nodes, name = [], "x"
    for layer in range(count):
        nodes += [node("MatMul", f"{name},w", f"m{layer}"), node("Relu", f"m{layer}", f"r{layer}")]
        name = f"r{layer}"
    nodes.append(node("MatMul", f"{name},w", "y"))
    return network(nodes, {"x": (1, width)}, {"w": random(width, width)})


def fitted(count: int, names: str, levels: int) -> Finding:
    """Return the finding about `count` fitted activations."""
    many = f"{count} activations are replaced by fitted polynomials"
    one = "1 activation is replaced by a fitted polynomial"
    return Finding(
        "fitted-functions",
        "note",
        f"{many if count > 1 else one}: {names}",
        "net",
        "a square (x * x) is exact and takes one level, where training tolerates it",
        Price(levels=levels),
    )
