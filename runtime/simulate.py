"""Run a plan on many samples in the clear or in the simulator, the client's part included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import EncryptionParameters, LinearTransform
from hec.compiler.client_steps import prepared
from hec.compiler.errors import fail
from hec.compiler.many_samples import times_samples
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput, PlanOutput
from hec.runtime import epilogue
from hec.runtime.cleartext import Cleartext, Slots
from hec.runtime.exceedances import Exceedances
from hec.runtime.executor import prepare, run
from hec.runtime.simulator import Simulator
from hec.runtime.whole_matrix import whole_matrix

AnyArray = NDArray[np.generic]
Array = NDArray[np.float64]
Samples = AnyArray | Mapping[str, AnyArray]
Progress = Callable[[int], None]
_BATCH_VALUES = 2**22  # float64 slot values of one batch's widest tensor: 32 MiB


@dataclass(frozen=True)
class Simulation:
    """Outputs by name, each with the samples on the first axis, and what went wrong on the way."""

    outputs: dict[str, AnyArray]
    raw: dict[str, Array]  # (samples, elements), before the epilogue
    overflows: int  # slot values that the modulus could not hold
    wrapped: int = 0  # samples that had a value too far outside of a bootstrap's interval: lost
    exceedances: tuple[tuple[int, int] | None, ...] = ()  # see `Exceedances.found`


def simulate(plan: Plan, samples: Samples, seed: int = 0) -> AnyArray | dict[str, AnyArray]:
    """Return what encrypted predictions of `samples` would be, the errors of CKKS included.

    `samples` is an array, or one per input name; the first axis counts samples, of the result too.
    Several outputs come by name. Raises `CompileError` where names, shapes, or values do not fit.
    """
    outputs = run_simulated(plan, samples, seed).outputs
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def run_simulated(
    plan: Plan, samples: Samples, seed: int = 0, progress: Progress = lambda done: None
) -> Simulation:
    """Return outputs as `simulate` does, and what went wrong; `progress` counts samples done."""
    return _run(plan, samples, Simulator(plan.client.parameters, seed), progress)


def run_clear(plan: Plan, samples: Samples, progress: Progress = lambda done: None) -> Simulation:
    """Return the plan's exact outputs: fitted activations, but no errors of encryption."""
    return _run(plan, samples, Exact(plan.client.parameters), progress)


class Exact(Cleartext):
    """The cleartext backend, with a whole matrix as one sparse product."""

    overflows = 0

    def __init__(self, parameters: EncryptionParameters) -> None:
        super().__init__(parameters)
        self.wrapped = np.zeros(0, np.bool_)

    def start_batch(self, samples: int) -> None:
        """Nothing is lost here."""

    def encrypt(self, values: Array, level: int, scale: float) -> Slots:
        return Slots(values, level, scale)

    def linear_kernel(
        self, instruction: LinearTransform, level: int
    ) -> Callable[[list[Slots]], list[Slots]]:
        matrix, slots = whole_matrix(instruction.matrix), instruction.matrix.slots

        def kernel(blocks: list[Slots]) -> list[Slots]:
            values = np.concatenate([b.values for b in blocks], axis=1)
            product = times_samples(matrix.rows, values)
            scale = blocks[0].scale * instruction.plain_scale
            starts = range(0, product.shape[1], slots)
            return [Slots(product[:, start : start + slots], level, scale) for start in starts]

        return kernel


def _run(
    plan: Plan, samples: Samples, backend: Exact | Simulator, progress: Progress
) -> Simulation:
    arrays = by_name(plan, samples)
    count = len(next(iter(arrays.values())))
    prepared = prepare(plan.server.program, backend)
    batch = max(1, _BATCH_VALUES // _widest(plan))
    parts, wrapped, exceedances = [], 0, Exceedances(plan.server.fits)
    for start in range(0, count, batch):
        chosen = {name: array[start : start + batch] for name, array in arrays.items()}
        backend.start_batch(min(batch, count - start))
        fresh = {i.name: _encrypted(i, chosen[i.name], backend) for i in plan.client.inputs}
        parts.append(_unpacked(plan, run(prepared, fresh, exceedances.see)))
        wrapped += int(backend.wrapped.sum())
        progress(min(start + batch, count))
    raw = {o.name: np.concatenate([part[o.name] for part in parts]) for o in plan.client.outputs}
    outputs = {o.name: finish(o, raw[o.name]) for o in plan.client.outputs}
    return Simulation(outputs, raw, backend.overflows, wrapped, exceedances.found())


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
    arrays = {item.name: _flat(item, np.asarray(samples[item.name])) for item in inputs}
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"'{name}' has {len(array)}" for name, array in arrays.items())
        raise fail(
            f"the inputs have different numbers of samples: {counts}",
            "samples",
            "give the same number of samples for each input",
        )
    return arrays


def _flat(item: PlanInput, array: AnyArray) -> Array:
    size = int(np.prod(item.shape))
    if array.ndim == 0 or not len(array) or array[0].size != size:
        raise fail(
            f"samples of shape {array.shape} do not fit",
            f"input '{item.name}' of shape {item.shape}",
            "give an array whose first axis counts samples",
        )
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise fail(
            f"samples of type {array.dtype} hold values that are not finite real numbers",
            f"input '{item.name}' of shape {item.shape}",
            "remove or repair these samples",
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


def _unpacked(plan: Plan, results: Mapping[str, list[Slots]]) -> dict[str, Array]:
    raw: dict[str, Array] = {}
    for item in plan.client.outputs:
        packed = np.stack([block.values for block in results[item.name]], axis=1)
        raw[item.name] = item.layout.unpack(packed) * item.factor
    return raw


def _encrypted(item: PlanInput, values: Array, backend: Exact | Simulator) -> list[Slots]:
    packed = item.layout.pack(prepared(values, item.shape, item.prologue) / item.divisor)
    blocks = [packed[:, block] for block in range(item.layout.blocks)]
    return [backend.encrypt(block, item.level, item.scale) for block in blocks]


def finish(item: PlanOutput, raw: Array) -> AnyArray:
    """Return (samples, elements) raw values after the epilogue; samples on the first axis."""
    return epilogue.apply_each(raw, item.shape, item.epilogue)
