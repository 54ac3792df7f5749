"""Run a plan on many samples in the clear or in the simulator, the client's part included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hec.compiler.errors import fail
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput, PlanOutput
from hec.runtime import epilogue
from hec.runtime.cleartext import Cleartext, Slots
from hec.runtime.executor import Prepared, prepare, run
from hec.runtime.simulator import Simulator

AnyArray = NDArray[np.generic]
Array = NDArray[np.float64]
Samples = AnyArray | Mapping[str, AnyArray]
_BATCH_VALUES = 2**24  # float64 slot values of one batch's widest tensor: 128 MiB


@dataclass(frozen=True)
class Simulation:
    """Outputs by name, each with the samples on the first axis, and what went wrong on the way."""

    outputs: dict[str, AnyArray]
    raw: dict[str, Array]  # (samples, elements), before the epilogue
    overflows: int  # slot values that the modulus could not hold


def simulate(plan: Plan, samples: Samples, seed: int = 0) -> Simulation:
    """Return what encrypted predictions of `samples` would be, the errors of CKKS included.

    `samples` is an array, or one per input name; the first axis counts samples. Raises
    `CompileError` where names or shapes do not fit.
    """
    return _run(plan, samples, Simulator(plan.client.parameters, seed))


def run_clear(plan: Plan, samples: Samples) -> Simulation:
    """Return the plan's exact outputs: fitted activations, but no errors of encryption."""
    return _run(plan, samples, Cleartext(plan.client.parameters))


def _run(plan: Plan, samples: Samples, backend: Cleartext) -> Simulation:
    arrays = by_name(plan, samples)
    count = len(next(iter(arrays.values())))
    prepared = prepare(plan.server.program, backend)
    batch = max(1, _BATCH_VALUES // _widest(plan))
    parts = [
        _batch(plan, prepared, {name: a[start : start + batch] for name, a in arrays.items()})
        for start in range(0, count, batch)
    ]
    raw = {o.name: np.concatenate([part[o.name] for part in parts]) for o in plan.client.outputs}
    outputs = {o.name: _finish(o, raw[o.name]) for o in plan.client.outputs}
    return Simulation(outputs, raw, getattr(backend, "overflows", 0))


def by_name(plan: Plan, samples: Samples) -> dict[str, Array]:
    """Return (samples, elements) arrays for every input of the plan, checked."""
    inputs = plan.client.inputs
    if not isinstance(samples, Mapping):
        if len(inputs) != 1:
            names = ", ".join(f"'{item.name}'" for item in inputs)
            raise fail(
                "one array was given for several inputs",
                f"inputs {names}",
                "give one array for each input, under its name",
            )
        samples = {inputs[0].name: samples}
    missing = [item.name for item in inputs if item.name not in samples]
    if missing:
        raise fail(
            f"no samples for input '{missing[0]}'",
            "samples",
            "give one array for each input of the model, under its name",
        )
    return {item.name: _flat(item, np.asarray(samples[item.name])) for item in inputs}


def _flat(item: PlanInput, array: AnyArray) -> Array:
    size = int(np.prod(item.shape))
    if array.ndim == 0 or not len(array) or array[0].size != size:
        raise fail(
            f"samples of shape {array.shape} do not fit",
            f"input '{item.name}' of shape {item.shape}",
            "give an array whose first axis counts samples",
        )
    return np.asarray(array, np.float64).reshape(len(array), size)


def _widest(plan: Plan) -> int:
    slots = plan.client.parameters.slots
    blocks = [item.layout.blocks for item in plan.client.inputs]
    for instruction in plan.server.program.instructions:
        matrix = getattr(instruction, "matrix", None)
        if matrix is not None:
            blocks.append(matrix.out_blocks)
    return slots * max(blocks)


def _batch(
    plan: Plan, prepared: Prepared[Slots, object], arrays: Mapping[str, Array]
) -> dict[str, Array]:
    fresh = {item.name: _encrypted(item, arrays[item.name], prepared) for item in plan.client.inputs}
    results = run(prepared, fresh)
    raw: dict[str, Array] = {}
    for item in plan.client.outputs:
        packed = np.stack([block.values for block in results[item.name]], axis=1)
        raw[item.name] = item.layout.unpack(packed) * item.factor
    return raw


def _encrypted(item: PlanInput, values: Array, prepared: Prepared[Slots, object]) -> list[Slots]:
    packed = item.layout.pack(values / item.divisor)
    backend = prepared.backend
    blocks = [packed[:, block] for block in range(item.layout.blocks)]
    if isinstance(backend, Simulator):
        return [backend.encrypt(block, item.level, item.scale) for block in blocks]
    return [Slots(block, item.level, item.scale) for block in blocks]


def _finish(item: PlanOutput, raw: Array) -> AnyArray:
    finished = [epilogue.apply(row.reshape(item.shape), item.epilogue) for row in raw]
    stacked = np.stack(finished)
    batched = item.shape[:1] == (1,) and stacked.ndim > 1 and stacked.shape[1] == 1
    return stacked[:, 0] if batched else stacked
