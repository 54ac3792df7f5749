"""Compare a plan with its network on real data: in the simulator, and on real ciphertexts.

Four rungs: the network itself (onnxruntime), the plan in the clear (fitted activations), the
simulator (and the errors of CKKS), real ciphertexts. The promised precision is about the last two
steps; agreement with the network is about all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hec.compiler.agreement import Error, agreement, classes, error, root_mean_square
from hec.compiler.clear_model import ClearModel
from hec.compiler.client_steps import prepared
from hec.compiler.encrypted_check import EncryptedCheck, Progress, run_encrypted
from hec.compiler.errors import fail
from hec.compiler.forecast import bootstrap_count
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanFit, PlanOutput

AnyArray = NDArray[np.generic]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class OutputCheck:
    """One output in the simulator, over all samples."""

    name: str
    agreement: float | None  # share of samples with the network's top-1; None: it has no classes
    encryption_error: Error  # against the plan in the clear, before the epilogue
    model_error: Error | None  # against onnxruntime; None for classes
    model_rms: float | None  # root mean square of onnxruntime's output, to compare errors with


@dataclass(frozen=True)
class BootstrapCheck:
    """What entered bootstraps in the simulator, over all samples."""

    count: int  # of one prediction
    wrapped: int  # samples with a value so far beyond its interval that it is lost


@dataclass(frozen=True)
class ActivationCheck:
    """Samples that left the intervals of one fitted activation in the simulator."""

    nodes: str
    function: str
    interval: tuple[float, float]  # where it was fitted
    outside: int | None  # samples with an element outside of it; None: not known
    bounded: tuple[float, float] | None  # where it is bounded, if inexact
    unbounded: int | None  # samples with an element outside of that


@dataclass(frozen=True)
class Check:
    """How far a plan's predictions are from its network's."""

    samples: int
    precision_bits: float  # promised
    outside: float | None  # share of samples with an element outside the calibrated interval
    overflows: int  # slot values that the modulus could not hold, in the simulator
    accuracy: float | None  # top-1 of the first output in the simulator, where labels were given
    model_accuracy: float | None  # of the network itself
    outputs: tuple[OutputCheck, ...]
    encrypted: EncryptedCheck | None
    bootstraps: BootstrapCheck | None = None  # None: the plan refreshes nothing
    activations: tuple[ActivationCheck, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no value was lost, and real ciphertexts kept the promise."""
        wrapped = self.bootstraps is not None and self.bootstraps.wrapped > 0
        kept = self.encrypted is None or self.encrypted.kept
        return self.overflows == 0 and not wrapped and kept


@dataclass(frozen=True, eq=False)
class CheckData:
    """Samples, an array or one by input name, and their classes, where known."""

    samples: AnyArray | Mapping[str, AnyArray]
    labels: AnyArray | None = None


def check(
    plan: Plan,
    model: ClearModel,
    data: CheckData,
    encrypted: int = 0,
    progress: Progress = lambda phase, done, total: None,
) -> Check:
    """Predict all samples on every rung, the first `encrypted` of them on real ciphertexts.

    Raise `CompileError` where samples or labels do not fit the plan.
    """
    from hec.runtime.simulate import by_name, run_clear, run_simulated

    arrays = by_name(plan, data.samples)
    count = len(next(iter(arrays.values())))
    _require(encrypted, count)
    expected = model.predict(plan, arrays, lambda done: progress("onnxruntime", done, count))
    first = plan.client.outputs[0]
    model_accuracy = _accuracy(expected[first.name], first, data.labels)
    exact = run_clear(plan, arrays, lambda done: progress("in the clear", done, count))
    noisy = run_simulated(plan, arrays, 0, lambda done: progress("simulator", done, count))
    real = None
    if encrypted:
        few = {name: array[:encrypted] for name, array in arrays.items()}
        real = run_encrypted(plan, few, exact.raw, expected, progress)
    return Check(
        count,
        plan.client.precision,
        _outside_share(plan, arrays),
        noisy.overflows,
        _accuracy(noisy.outputs[first.name], first, data.labels),
        model_accuracy,
        tuple(
            _output(
                o, noisy.outputs[o.name], expected[o.name], (noisy.raw[o.name], exact.raw[o.name])
            )
            for o in plan.client.outputs
        ),
        real,
        _bootstraps(plan, noisy.wrapped),
        tuple(map(_activation, plan.server.fits, noisy.exceedances)),
    )


def _activation(item: PlanFit, found: tuple[int, int] | None) -> ActivationCheck:
    outside, unbounded = (None, None) if found is None else found
    fit = item.fit
    return ActivationCheck(item.label, fit.function, fit.interval, outside, fit.bounded, unbounded)


def _bootstraps(plan: Plan, wrapped: int) -> BootstrapCheck | None:
    count = bootstrap_count(plan.server.program)
    return BootstrapCheck(count, wrapped) if count else None


def _output(
    output: PlanOutput, values: AnyArray, expected: AnyArray, raw: tuple[Array, Array]
) -> OutputCheck:
    is_class = expected.dtype.kind in "iuU"
    return OutputCheck(
        output.name,
        agreement(values, expected, output),
        error(*raw),
        None if is_class else error(values, expected),
        None if is_class else root_mean_square(expected),
    )


def _require(encrypted: int, samples: int) -> None:
    if encrypted > samples:
        raise fail(
            f"{encrypted} encrypted predictions were asked for, and there are {samples} samples",
            f"--encrypted {encrypted}",
            f"ask for {samples} or fewer, or give more samples",
        )


def _outside_share(plan: Plan, arrays: Mapping[str, Array]) -> float | None:
    found = [
        _leaves(prepared(arrays[item.name], item.shape, item.prologue), item.interval)
        for item in plan.client.inputs
        if item.interval is not None
    ]
    return float(np.any(found, axis=0).mean()) if found else None


def _leaves(values: Array, interval: tuple[float, float]) -> NDArray[np.bool_]:
    """Return for each sample whether an element lies outside."""
    return np.asarray(((values < interval[0]) | (values > interval[1])).any(axis=1))


def _accuracy(values: AnyArray, output: PlanOutput, labels: AnyArray | None) -> float | None:
    if labels is None:
        return None
    flat = labels.reshape(-1)
    found = classes(values, output)
    if found is None:
        raise fail(
            "labels need an output that tells a class, and the first output does not",
            f"output '{output.name}' of shape {output.shape}",
            "leave out --labels",
        )
    texts = found.dtype.kind == "U"
    if len(flat) != len(values) or flat.dtype.kind not in ("U" if texts else "iub"):
        raise fail(
            f"labels of type {labels.dtype} and shape {labels.shape} do not fit "
            f"{len(values)} samples",
            "--labels",
            f"give one {'text' if texts else 'whole number'}, the class, for each sample",
        )
    return float((found == flat).mean())
