"""The errors of every value of a plan's Program: predicted, in the simulator, on ciphertexts.

Only a test may decrypt what lies between input and output: it has the secret key and the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import EncryptionParameters, Output, ValueType
from hec.compiler.plan import Plan
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.typing_rules import HEADROOM_BITS, infer_types
from hec.runtime import container, executor, sides
from hec.runtime.cleartext import Slots
from hec.runtime.client import Client
from hec.runtime.server import Server
from hec.runtime.simulate import Exact, _encrypted, by_name
from hec.runtime.simulator import Simulator

Array = NDArray[np.float64]
Values = dict[int, Array]  # (samples, blocks, slots) by position
RMS_BITS = 1.0  # between predicted and measured root mean squares
LOOSE_BITS = 6.0  # between a bound and the largest error that is measured
NOTHING = 1e-12  # in all samples: the slot holds nothing


@dataclass(frozen=True)
class Compared:
    """One value: its errors over samples and slots in use, and what was predicted."""

    name: str
    rms: float
    largest: float
    deviation: float
    bound: float

    @property
    def off(self) -> float:
        """Bits by which the prediction is larger."""
        return log2(self.deviation / self.rms)

    @property
    def loose(self) -> float:
        """Bits by which the bound is larger than the largest error; negative: it does not hold."""
        return log2(self.bound / self.largest)


def in_the_clear(plan: Plan, samples: Mapping[str, Array]) -> Values:
    return _values(plan, samples, Exact(plan.client.parameters))


def simulated(plan: Plan, samples: Mapping[str, Array], seed: int = 0) -> Values:
    return _values(plan, samples, Simulator(plan.client.parameters, seed))


def _values(plan: Plan, samples: Mapping[str, Array], backend: Exact | Simulator) -> Values:
    found: Values = {}

    def see(position: int, value: list[Slots]) -> None:
        if value:
            found[position] = np.stack([block.values for block in value], axis=1)

    arrays = by_name(plan, samples)
    backend.start_batch(len(next(iter(arrays.values()))))
    fresh = {item.name: _encrypted(item, arrays[item.name], backend) for item in plan.client.inputs}
    executor.run(executor.prepare(plan.server.program, backend), fresh, see)
    return found


def decrypted(
    plan: Plan, samples: Mapping[str, Array], secret: sides.Secret | None = None
) -> Values:
    """Encrypt the samples one by one, and decrypt every value on the way that can be."""
    client = Client(plan, secret)
    server = Server(plan, client.evaluation_keys())
    types, rows = infer_types(plan.server.program), dict[int, list[Array]]()

    def see(position: int, value: list[object]) -> None:
        kind = _readable(types[position], plan.client.parameters)
        if kind is None or not value:
            return
        blocks = [server._evaluator.backend.mod_switch(block, kind.level) for block in value]
        data = [server._evaluator.save(block, kind.level, kind.scale) for block in blocks]
        clear = [client._secret.decrypt(each, kind.level, kind.scale, "test") for each in data]
        rows.setdefault(position, []).append(np.stack(clear))

    for number in range(len(next(iter(samples.values())))):
        request = client.encrypt({name: array[number] for name, array in samples.items()})
        blobs = container.unpack(request, "encrypted input", plan.client, "")
        inputs = {i.name: server._load(i, blobs[i.name], "") for i in plan.client.inputs}
        executor.run(server._prepared, inputs, see)
    return {position: np.stack(row) for position, row in rows.items()}


def _readable(kind: ValueType, parameters: EncryptionParameters) -> ValueType | None:
    """Return the type at which a value can be decrypted.

    Without bootstraps OpenFHE decrypts at level 0 only: it takes the errors of a product that is
    not rescaled for damage, and adds noise to what it decrypts at other levels.
    """
    if not parameters.digits or parameters.bootstrapping is not None:
        return kind
    fits = log2(kind.scale) + HEADROOM_BITS < log2(parameters.primes[0])
    return replace(kind, level=0) if fits else None


def compared(plan: Plan, exact: Values, found: Values) -> list[Compared]:
    """Return every value's errors; those of outputs as the client reads them."""
    server, results = plan.server, list[Compared]()
    predicted = forecast_of(server)
    for position, instruction in enumerate(server.program.instructions):
        source = instruction.operand if isinstance(instruction, Output) else position
        if source not in found:
            continue
        error = found[source] - exact[source]
        if isinstance(instruction, Output):
            error = instruction.layout.unpack(error)
        else:
            error = error[:, (np.abs(exact[position]) > NOTHING).any(axis=0)]
        results.append(
            Compared(
                f"{position} {type(instruction).__name__}",
                float(np.sqrt(np.mean(error**2))),
                float(np.abs(error).max()),
                predicted.deviations[position],
                predicted.bounds[position],
            )
        )
    return results


def assert_as_predicted(errors: list[Compared], bits: float = RMS_BITS) -> None:
    """Every value errs as predicted, and its bound holds and is not a loose one."""
    for each in errors:
        assert abs(each.off) <= bits, each
        assert 0 <= each.loose <= LOOSE_BITS, each
