"""Pairs of diagonals: every one once, complex products in numpy, and only before bootstraps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import parameters, refreshing_program
from hec.compiler.ckks_ir import (
    Add,
    EncryptionParameters,
    Input,
    LinearTransform,
    Output,
    Program,
    Rescale,
)
from hec.compiler.errors import InvalidProgram
from hec.compiler.forecast import forecast
from hec.compiler.kernels import diagonal_bytes, rotation_steps
from hec.compiler.pairing import NONE, best_twin, products
from hec.compiler.rotation_costs import rescheduled
from hec.compiler.typing_rules import infer_types
from hec.passes.pair_diagonals import pair_diagonals
from hec.runtime import executor
from hec.runtime.cleartext import Cleartext, Plain, Slots
from hec.runtime.simulator import Simulator
from sample_plans import dense, diagonals, linear_program

Array = NDArray[np.float64]
SLOTS = 64
SHIFTS = [(0, 5), (0, 32), (1, 9, 33, 41), (0, 1, 2, 3), (-16, 0, 16), tuple(range(-8, 8)), (7,)]


class Complex(Cleartext):
    """Cleartext whose slots hold complex numbers, and that counts its products."""

    def __init__(self, chosen: EncryptionParameters) -> None:
        super().__init__(chosen)
        self.products = 0

    def encode_pair(self, real: Array, imaginary: Array, level: int, scale: float) -> Plain:
        values: Any = real + 1j * imaginary
        return Plain(values, scale)

    def times_i(self, x: Slots) -> Slots:
        values: Any = 1j * x.values
        return Slots(values, x.level, x.scale)

    def multiply_plain(self, x: Slots, y: Plain) -> Slots:
        self.products += 1
        return super().multiply_plain(x, y)

    def bootstrap(self, x: Slots, coefficients: Array) -> Slots:
        return super().bootstrap(Slots(x.values.real, x.level, x.scale), coefficients)


@pytest.mark.parametrize("shifts", SHIFTS, ids=str)
@pytest.mark.parametrize("blocks", [(1, 1), (2, 3)])
@pytest.mark.parametrize("twin", [0, 1, 8, 32])
def test_every_diagonal_is_in_one_product(
    shifts: tuple[int, ...], blocks: tuple[int, int], twin: int
) -> None:
    matrix = diagonals(1, SLOTS, blocks, shifts)
    found = products(matrix, twin)
    second = found.second[found.second != NONE]
    assert sorted([*found.first, *second]) == list(range(len(matrix.index)))
    np.testing.assert_array_equal(found.index, matrix.index[found.first])
    pairs = found.second != NONE
    real, imaginary = matrix.index[found.first[pairs]], matrix.index[second]
    np.testing.assert_array_equal(real[:, :2], imaginary[:, :2])
    assert ((imaginary[:, 2] - real[:, 2] - twin) % SLOTS == 0).all()
    assert twin or not pairs.any()


@pytest.mark.parametrize(
    ("shifts", "twin", "count"),
    [((0, 32), 32, 1), ((1, 9, 33, 41), 32, 2), ((0, 1, 2, 3), 2, 2), ((7,), 0, 1), ((0, 5), 0, 2)],
)
def test_the_best_twin_pairs_the_most(shifts: tuple[int, ...], twin: int, count: int) -> None:
    matrix = diagonals(1, SLOTS, (1, 1), shifts)
    assert best_twin(matrix) == twin
    assert len(products(matrix, twin).first) == count


@pytest.mark.parametrize("shifts", [(0, 5, 512, 517), (0, 1, 2, 3, 4), (3, 515)], ids=str)
def test_complex_products_mean_the_same_before_a_bootstrap(shifts: tuple[int, ...]) -> None:
    chosen = parameters()
    plain = refreshing_program(chosen, shifts)
    paired = pair_diagonals(plain)
    transform = next(x for x in paired.instructions if isinstance(x, LinearTransform))
    assert transform.twin > 0
    entry = plain.instructions[0]
    assert isinstance(entry, Input)
    values = np.random.default_rng(0).uniform(-0.4, 0.4, (3, chosen.slots))
    outputs = []
    for program, backend in ((plain, Cleartext(chosen)), (paired, Complex(chosen))):
        x = Slots(values, entry.level, entry.scale)
        prepared = executor.prepare(program, backend)
        outputs.append(executor.run(prepared, {entry.name: [x]})["y"][0].values)
        if isinstance(backend, Complex):
            assert backend.products == len(products(transform.matrix, transform.twin).first)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=0, atol=1e-12)


def test_a_backend_of_real_slots_runs_a_paired_program() -> None:
    chosen = parameters()
    paired = pair_diagonals(refreshing_program(chosen, (0, 512)))
    transform = next(x for x in paired.instructions if isinstance(x, LinearTransform))
    entry = paired.instructions[0]
    assert isinstance(entry, Input)
    x = Slots(np.full((1, chosen.slots), 0.2), entry.level, entry.scale)
    for backend in (Cleartext(chosen), Simulator(chosen)):
        outputs = executor.run(executor.prepare(paired, backend), {entry.name: [x]})
        relu = np.full((1, chosen.slots), 0.2)
        refreshed = dense(transform.matrix, relu)
        found = outputs["y"][0].values
        assert np.abs(found - np.maximum(refreshed, 0)).max() < 0.05


def test_what_is_decrypted_or_multiplied_stays_real() -> None:
    """The imaginary part of a decrypted result would hold partial sums."""
    program = linear_program()
    same = pair_diagonals(program)
    assert all(x.twin == 0 for x in same.instructions if isinstance(x, LinearTransform))
    chosen = parameters()
    refreshing = refreshing_program(chosen, (0, 512))
    *first, output = refreshing.instructions
    assert isinstance(output, Output)
    both = Program(chosen, (*first, Output(4, "early", output.layout, 1.0), output))
    assert all(x.twin == 0 for x in pair_diagonals(both).instructions if hasattr(x, "twin"))


def test_sums_of_complex_results_may_be_complex() -> None:
    chosen = parameters()
    plain = refreshing_program(chosen, (0, 512))
    x, relu, fresh, matrix, _, _, _, _ = plain.instructions
    assert isinstance(matrix, LinearTransform)
    rest = (Add(3, 4), Rescale(5), replace(plain.instructions[5], operand=6), Rescale(7))
    output = replace(plain.instructions[7], operand=8)
    program = pair_diagonals(Program(chosen, (x, relu, fresh, matrix, matrix, *rest, output)))
    infer_types(program)
    assert [y.twin for y in program.instructions if isinstance(y, LinearTransform)] == [512, 512]


def test_a_complex_result_that_no_bootstrap_reads_breaks_a_rule() -> None:
    program = linear_program()
    position, transform = next(
        (i, x) for i, x in enumerate(program.instructions) if isinstance(x, LinearTransform)
    )
    broken = list(program.instructions)
    broken[position] = replace(transform, twin=1)
    with pytest.raises(InvalidProgram) as caught:
        infer_types(replace(program, instructions=tuple(broken)))
    message = f"instruction {position} (LinearTransform): no bootstrap drops its imaginary part"
    assert str(caught.value) == message


def test_pairs_halve_plaintexts_and_are_priced_so() -> None:
    chosen = parameters(15)
    shifts = (*range(8), *range(8192, 8200))
    plain = refreshing_program(chosen, shifts)
    paired = pair_diagonals(plain)
    before, after = (
        next(x for x in program.instructions if isinstance(x, LinearTransform))
        for program in (plain, paired)
    )
    assert diagonal_bytes(before, 4) == 2 * diagonal_bytes(after, 4)
    assert after.twin == 8192 and 8192 in rotation_steps(after)
    seconds = [forecast(rescheduled(p), [0.3] * 8).seconds[3] for p in (plain, paired)]
    assert seconds[1] < seconds[0]
