"""How large the errors of all values of a Program are in the simulator: no promise is kept here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import Input, Output, Program
from hec.compiler.typing_rules import infer_types
from hec.runtime.cleartext import Plain, Slots
from hec.runtime.executor import Prepared, prepare, run
from hec.runtime.simulate import Exact
from hec.runtime.simulator import Simulator

Array = NDArray[np.float64]
FEWEST, MOST = 4, 16  # samples
_MOST_VALUES: Final = 2**22  # that are kept, where that leaves enough samples: 32 MiB
_NOTHING: Final = 1e-12  # in all samples: the slot holds nothing


def simulated_errors(program: Program, samples: Mapping[str, Array]) -> tuple[float, ...]:
    """Return the root mean square of every value's error, over the slots that hold something.

    `samples` has (samples, elements) values of every input; the first ones are taken. An output's
    error is that of the mean of its copies.
    """
    types, slots = infer_types(program), program.parameters.slots
    kept = max(1, slots * sum(value.blocks for value in types))
    count = int(np.clip(_MOST_VALUES // kept, FEWEST, MOST))
    few = {name: values[:count] for name, values in samples.items()}
    clear, simulator = Exact(program.parameters), Simulator(program.parameters)
    both = prepare(program, clear), prepare(program, simulator)  # they share what is large
    exact = _values(both[0], few, clear)
    noisy = _values(both[1], few, simulator)
    found = []
    for position, instruction in enumerate(program.instructions):
        source = instruction.operand if isinstance(instruction, Output) else position
        error = noisy[source] - exact[source]
        if isinstance(instruction, Output):
            error = instruction.layout.unpack(error)
        else:
            error = error[:, (np.abs(exact[source]) > _NOTHING).any(axis=0)]
        found.append(float(np.sqrt(np.mean(np.square(error)))) if error.size else 0.0)
    return tuple(found)


def _values(
    prepared: Prepared[Slots, Plain],
    samples: Mapping[str, Array],
    backend: Exact | Simulator,
) -> dict[int, Array]:
    found = dict[int, Array]()

    def see(position: int, value: list[Slots]) -> None:
        if value:
            found[position] = np.stack([block.values for block in value], axis=1)

    backend.start_batch(len(next(iter(samples.values()))))
    fresh = dict[str, list[Slots]]()
    for x in prepared.program.instructions:
        if isinstance(x, Input):
            blocks = x.layout.pack(samples[x.name] / x.divisor).swapaxes(0, 1)
            fresh[x.name] = [backend.encrypt(block, x.level, x.scale) for block in blocks]
    run(prepared, fresh, see)
    return found
