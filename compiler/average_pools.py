"""What averages in place of MaxPool do to a network's outputs, measured on calibration samples.

A tournament of exact ReLUs is MaxPool itself, so that the network needs no other interpreter.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from onnx import ModelProto

from hec.compiler.calibration import MULTIPLICATIONS, Calibration, affordable_samples
from hec.compiler.errors import warn
from hec.compiler.evaluate import evaluate
from hec.compiler.onnx_import import ImportedModel, import_onnx
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Activation, Array, TensorGraph

_HELP = "--maxpool approximate computes the network itself; or train the network with AveragePool"


def tell_effect(
    model: str | os.PathLike[str] | bytes | ModelProto,
    averaged: ImportedModel,
    calibration: Calibration,
    target: Target,
) -> None:
    """Warn of what averages change at each output: classes, or the root mean square.

    `averaged` is `model` as imported for `target`. Says nothing without samples, or where the
    network has no MaxPool that compares.
    """
    if target.maxpool != "average" or calibration.samples is None:
        return
    exact = import_onnx(model, replace(target, maxpool="approximate")).graph
    if _comparisons(exact) == _comparisons(averaged.graph):
        return
    limit = affordable_samples(exact, MULTIPLICATIONS)
    samples = {name: values[:limit] for name, values in calibration.samples.items()}
    wanted, found = evaluate(exact, samples), evaluate(averaged.graph, samples)
    for theirs, mine in zip(exact.outputs, averaged.graph.outputs, strict=True):
        effect = _effect(wanted[theirs.operand], found[mine.operand])
        count = len(next(iter(samples.values())))
        place = f"{averaged.name}: output '{mine.name}', {count} calibration samples"
        warn(f"averages in place of MaxPool {effect}", place, _HELP)


def _comparisons(graph: TensorGraph) -> int:
    return sum(isinstance(operation, Activation) for operation in graph.operations)


def _effect(wanted: Array, found: Array) -> str:
    if wanted.shape[1] > 1:
        share = float(np.mean(wanted.argmax(axis=1) == found.argmax(axis=1)))
        return f"keep the top-1 class of {100 * share:.1f} % of the samples"
    error = np.sqrt(np.mean((found - wanted) ** 2)) / (np.sqrt(np.mean(wanted**2)) or 1.0)
    return f"change the output by {100 * float(error):.1f} % of its root mean square"
