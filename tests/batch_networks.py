"""A small network for the tests of batches: two matrices with a square between, as ONNX."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import hec
from hec.compiler.plan import Plan
from hec.compiler.target import BackendName

Array = NDArray[np.float64]
INPUTS, HIDDEN, OUTPUTS = 12, 9, 4
_RANDOM = np.random.default_rng(3)
FIRST = _RANDOM.normal(0, 0.4, (HIDDEN, INPUTS)).astype(np.float32)
BIAS = _RANDOM.normal(0, 0.3, HIDDEN).astype(np.float32)
LAST = _RANDOM.normal(0, 0.4, (OUTPUTS, HIDDEN)).astype(np.float32)
SAMPLES = _RANDOM.uniform(-1, 1, (300, INPUTS)).astype(np.float32)


def network() -> bytes:
    """Return the file of the network."""
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["a"], "first", transB=1),
        helper.make_node("Mul", ["a", "a"], ["b"], "square"),
        helper.make_node("Gemm", ["b", "last"], ["y"], "last", transB=1),
    ]
    weights = {"first": FIRST, "bias": BIAS, "last": LAST}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, INPUTS))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, OUTPUTS))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def exact(x: NDArray[np.float32]) -> Array:
    """Return the network's outputs."""
    hidden = x.astype(np.float64) @ FIRST.astype(np.float64).T + BIAS
    return np.asarray(hidden**2 @ LAST.astype(np.float64).T)


@lru_cache(maxsize=16)
def plan(batch: int, backend: BackendName = "tenseal") -> Plan:
    """Return the plan for so many images at a time."""
    target = hec.Target(backend=backend, batch=batch, precision=10.0)
    return hec.compile(network(), calibration=SAMPLES, target=target)
