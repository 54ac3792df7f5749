"""What the mean of an output's copies keeps of errors that they do not share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hec.compiler import copy_gains as module
from hec.compiler.ckks_ir import AddPlain, LinearTransform, Output, Program, Rescale, RotateSum
from hec.compiler.copy_gains import Ending, copy_gains, endings, folds_of
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.layout import UNUSED, Layout
from hec.compiler.variances import Local, Variances
from hec.runtime.whole_matrix import whole_matrix
from sample_plans import diagonals, linear_program

SLOTS = 32
STEPS = (8, 16)


def every(period: int, blocks: int = 1) -> Layout:
    """Return three elements, then a gap, again in every `period` slots."""
    once = np.where(np.arange(period) < 3, np.arange(period), UNUSED)
    elements = np.tile(once, SLOTS // period)[None].repeat(blocks, axis=0)
    return Layout(elements.astype(np.int32))


@pytest.mark.parametrize("steps", [(), STEPS, (4,)])
@pytest.mark.parametrize("blocks", [(1, 1), (2, 3)])
def test_gains_are_those_of_the_whole_map(steps: tuple[int, ...], blocks: tuple[int, int]) -> None:
    out_blocks, in_blocks = blocks
    matrix = diagonals(1, SLOTS, blocks, (0, 1, 5, 30))
    layout = every(8, out_blocks)
    rows = whole_matrix(matrix).rows.toarray().reshape(out_blocks, SLOTS, in_blocks * SLOTS)
    for step in steps:
        rows = rows + np.roll(rows, -step, axis=1)
    taken = layout.unpack(np.moveaxis(rows, 2, 0)).T  # (elements, in_blocks * slots)
    found = copy_gains(matrix, Ending(steps, layout))
    assert found is not None
    assert found.power == pytest.approx(np.square(taken).sum(axis=1).max())
    assert found.largest == pytest.approx(np.abs(taken).max())


def test_one_copy_and_too_much_work_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = diagonals(1, SLOTS, (1, 1), (0, 1))
    ending = Ending((), every(8))
    assert copy_gains(matrix, Ending((), every(SLOTS))) is None
    assert copy_gains(matrix, replace(ending, layout=Layout(every(8).elements[:, :16]))) is None
    monkeypatch.setattr(module, "_MOST_PRODUCTS", 2 * 3 * SLOTS - 1)
    assert copy_gains(matrix, ending) is None


def test_gains_are_computed_once() -> None:
    matrix, sizes = diagonals(1, SLOTS, (1, 1), (0, 1)), KernelSizes()
    ending = Ending((), every(8))
    assert sizes.copy_gains(matrix, ending) is sizes.copy_gains(matrix, ending)
    assert sizes.copy_gains(matrix, Ending((4,), ending.layout)) != sizes.copy_gains(matrix, ending)


def test_an_ending_has_all_sums_after_the_last_matrix() -> None:
    program = linear_program()
    entry, matrix, _, _, output = program.instructions
    assert isinstance(matrix, LinearTransform) and isinstance(output, Output)
    bias = AddPlain(4, np.zeros((1, program.parameters.slots)))
    after = (RotateSum(1, (8,)), Rescale(2), RotateSum(3, (16,)), bias, replace(output, operand=5))
    longer = Program(program.parameters, (entry, matrix, *after))
    assert endings(longer) == {1: Ending((16, 8), output.layout)}
    assert folds_of(longer)[1] == (8,)
    assert endings(Program(program.parameters, (entry, replace(output, operand=0)))) == {}


def test_white_errors_of_copies_average_out_and_those_of_sums_do_not() -> None:
    """Eight copies: one error in each; one that a sum of all copies has spread to all."""
    white = Variances(1.0, 1.0, 1.0, 3.0, 0.0, 1.0, local=Local(1.0, 3.0, 1.0))
    read = white.averaged(8, 3.0)
    assert (read.mean, read.worst, read.most) == (1 / 8, 1 / 8, 3 / 8)
    folded = replace(white, local=white.local.folded(3, 8.0))
    assert folded.local.summed == 64
    spread = replace(folded, mean=8.0, everywhere=8.0, worst=8.0, most=24.0)
    assert (spread.averaged(8, 3.0).mean, spread.averaged(8, 3.0).most) == (8.0, 24.0)
    common = Variances(1.0, 1.0, 1.0, 3.0, 0.0, 1.0)
    assert common.averaged(8, 3.0) == common


def test_a_peak_in_one_copy_counts_as_its_share() -> None:
    peaked = Variances(0.0, 0.0, 0.0, 0.0, 4.0, 1.0, 4.0, Local().plus_peaks(4.0, 1))
    read = peaked.averaged(8, 1.0)
    assert (read.peak, read.spike) == (1 / 16, 1 / 16)
    twice = replace(peaked, local=peaked.local.folded(1, 1.0))
    assert twice.averaged(8, 1.0).peak == 1 / 4


@pytest.mark.parametrize("steps", [1, 3])
def test_key_switches_of_a_sum_are_spread_by_the_later_ones(steps: int) -> None:
    """White errors by simulation: variance of the mean of all copies, times their number."""
    terms, random = 2**steps, np.random.default_rng(0)
    x = np.zeros((20_000, terms))
    for step in range(steps):
        x = x + np.roll(x, -(2**step), axis=1) + random.normal(size=x.shape)
    found = Local().plus_switches(steps, 1.0, 1.0, (0.0, 0.0))
    assert found.variance == pytest.approx(x.var(), rel=0.05)
    assert found.summed == pytest.approx(terms * x.mean(axis=1).var(), rel=0.05)
