"""Errors of all values of a Program in the simulator, as compiling asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from hec.compiler import noise
from hec.compiler.ckks_ir import Input, Output, Program
from hec.compiler.layout import Layout
from hec.runtime import simulated_errors as module
from hec.runtime.cleartext import Plain, Slots
from hec.runtime.executor import Prepared
from hec.runtime.simulate import Exact
from hec.runtime.simulated_errors import FEWEST, MOST, Array, simulated_errors
from hec.runtime.simulator import Simulator
from sample_plans import SCALE, SMALL, linear_program

SAMPLES = {"image": np.random.default_rng(0).uniform(-1.0, 1.0, (40, 2 * SMALL.slots))}


def full_program() -> Program:
    """Return `linear_program` with something in every slot of its input; it is divided by 2."""
    entry, *rest = linear_program().instructions
    assert isinstance(entry, Input)
    elements = np.arange(2 * SMALL.slots, dtype=np.int32).reshape(2, -1)
    return Program(SMALL, (replace(entry, layout=Layout(elements)), *rest))


def test_an_input_errs_as_its_encryption_and_every_value_has_an_error() -> None:
    program = full_program()
    found = simulated_errors(program, SAMPLES)
    assert len(found) == len(program.instructions) and min(found) > 0
    fresh = noise.encryption(SMALL.ring_degree) / SCALE
    assert found[0] == pytest.approx(fresh, rel=0.02)
    assert found == simulated_errors(program, SAMPLES)  # the same plan for the same model


def test_an_output_errs_as_the_mean_of_its_copies() -> None:
    """The last error is that of a rescaling: a mean of 64 copies keeps an eighth of it."""
    program = full_program()
    output = program.instructions[-1]
    assert isinstance(output, Output)
    elements = np.arange(SMALL.slots, dtype=np.int32)[None] % (SMALL.slots // 64)
    copied = replace(output, layout=Layout(elements))
    once = simulated_errors(program, SAMPLES)
    found = simulated_errors(Program(SMALL, (*program.instructions[:-1], copied)), SAMPLES)
    assert found[:-1] == once[:-1]
    assert once[-1] == pytest.approx(once[-2], rel=0.3)
    assert found[-1] == pytest.approx(once[-2] / 8, rel=0.2)


@pytest.mark.parametrize(("values", "expected"), [(1, FEWEST), (2**40, MOST)])
def test_samples_are_as_many_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch, values: int, expected: int
) -> None:
    seen = list[int]()
    counted = module._values

    def values_of(
        prepared: Prepared[Slots, Plain],
        samples: Mapping[str, Array],
        backend: Exact | Simulator,
    ) -> dict[int, Array]:
        seen.append(len(samples["image"]))
        return counted(prepared, samples, backend)

    monkeypatch.setattr(module, "_values", values_of)
    monkeypatch.setattr(module, "_MOST_VALUES", values)
    simulated_errors(full_program(), SAMPLES)
    assert seen == [expected, expected]
