"""Baby and giant steps: what is counted is what runs, and no split is better."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix, LinearTransform
from hec.compiler.cost import CostCounter, Counted
from hec.compiler.kernels import apply_linear, encode_linear, rotation_steps
from hec.compiler.schedule import KEY_WEIGHT, Split, best_split, rotations, splits, steps

SLOTS = 256
PRIMES = (2**50, 2**40)


def random_index(seed: int, span: int = 47) -> NDArray[np.int32]:
    """Return diagonals between a few blocks, their shifts within `span` of each other."""
    random = np.random.default_rng(seed)
    shifts = random.choice(span, int(random.integers(1, span)), replace=False)
    if seed % 3 == 1:  # the taps of a convolution
        shifts = np.unique(shifts % 5 * 9 + shifts // 9)
    shifts = shifts - int(random.integers(0, span))
    outs, ins = (int(n) for n in random.integers(1, 4, 2))
    index = [(o, i, s) for o in range(outs) for i in range(ins) for s in shifts]
    kept = random.random(len(index)) < random.choice([1.0, 0.6])
    kept[0] = True
    return np.array(index, np.int32)[kept]


def transform(index: NDArray[np.int32], split: Split) -> LinearTransform:
    """Return a transform of ones; every output block has a diagonal."""
    outs, ins = (int(n) + 1 for n in index[:, :2].max(axis=0))
    index = np.concatenate([index, [(o, 0, 0) for o in range(outs)]]).astype(np.int32)
    matrix = DiagonalMatrix(SLOTS, outs, ins, index, sp.csr_array(np.ones((len(index), 1))))
    return LinearTransform(0, matrix, split.baby_step, split.baby_start, 2.0**20)


class Noting(CostCounter):
    """A counter that also notes the rotations."""

    def rotate(self, x: Counted, steps: int) -> Counted:
        self.__dict__.setdefault("steps", []).append(steps)
        return super().rotate(x, steps)


@pytest.mark.parametrize("seed", range(30))
def test_the_rotations_counted_are_those_made(seed: int) -> None:
    random = np.random.default_rng(seed)
    step = int(random.integers(1, 60))
    instruction = transform(random_index(seed, 120), Split(step, -int(random.integers(0, step))))
    counter = Noting(2 * SLOTS, PRIMES)
    encoded = encode_linear(instruction, counter, 1)
    apply_linear([Counted(1, 2.0**30)] * instruction.matrix.in_blocks, encoded, counter)
    split = Split(instruction.baby_step, instruction.baby_start)
    assert counter.key_switches == rotations(instruction.matrix.index, split, SLOTS)
    assert set(getattr(counter, "steps", [])) == rotation_steps(instruction)
    assert counter.plaintexts == len(instruction.matrix.index)


@pytest.mark.parametrize("seed", range(20))
def test_every_shift_is_a_giant_and_a_baby(seed: int) -> None:
    random = np.random.default_rng(seed)
    step = int(random.integers(1, 60))
    split = Split(step, -int(random.integers(0, step)))
    shift = random.integers(-500, 500, 100)
    giant, baby = split.apply(shift)
    np.testing.assert_array_equal(giant + baby, shift)
    assert not (giant % step).any()
    assert baby.min() >= split.baby_start and baby.max() < split.baby_start + step


@pytest.mark.parametrize("seed", range(9))
def test_best_split_is_the_best_of_all_steps(seed: int) -> None:
    """Babies start at 0 or are centred on it; any other start would save two rotations at most."""
    index = random_index(seed)
    found = rotations(index, best_split(index, SLOTS), SLOTS)
    steps = range(1, 96)
    centred = [rotations(index, Split(s, -b), SLOTS) for s in steps for b in {0, s // 2}]
    anywhere = [rotations(index, Split(s, -b), SLOTS) for s in steps for b in range(s)]
    assert min(anywhere) + 2 >= found == min(centred)


def counted(index: NDArray[np.int32], slots: int, known: frozenset[int] | None) -> Split:
    """Return the first of the best splits, every one of which is counted."""

    def price(split: Split) -> float:
        new = 0 if known is None else len(steps(index, split, slots) - known)
        return rotations(index, split, slots) + KEY_WEIGHT * new

    return min(splits(index), key=price)


@pytest.mark.parametrize("span", [20, 120, 250, 500])  # of 256 slots
@pytest.mark.parametrize("seed", range(6))
def test_no_split_that_is_left_out_is_better(seed: int, span: int) -> None:
    random = np.random.default_rng(seed)
    index = random_index(seed, span)
    known = frozenset(random.integers(1, SLOTS, 12).tolist())
    assert best_split(index, SLOTS) == counted(index, SLOTS, None)
    assert best_split(index, SLOTS, known) == counted(index, SLOTS, known)


@pytest.mark.parametrize("count", [64, 100, 256, 500, 1000])
def test_a_run_of_shifts_takes_about_two_square_roots(count: int) -> None:
    index = np.array([(0, 0, shift) for shift in range(count)], np.int32)
    found = rotations(index, best_split(index, 4096), 4096)
    assert found <= 2 * np.sqrt(count) * 1.03 - 2 + 1


def test_a_wide_stride_is_found() -> None:
    index = np.array([(0, 0, 320 * y + x) for y in range(5) for x in range(5)], np.int32)
    assert rotations(index, best_split(index, 4096), 4096) == 8


def test_of_equal_splits_the_one_with_fewest_babies_wins() -> None:
    index = np.array([(0, 0, shift) for shift in (0, 1, 2)], np.int32)
    assert best_split(index, SLOTS) == Split(1, 0)  # two giants, or two babies


def test_shifts_that_come_around_are_one_rotation() -> None:
    index = np.array([(0, 0, 3), (0, 0, 3 - SLOTS)], np.int32)
    assert rotations(index, Split(1, 0), SLOTS) == 1


def test_no_diagonals_take_no_rotation() -> None:
    nothing = np.zeros((0, 3), np.int32)
    assert rotations(nothing, best_split(nothing, SLOTS), SLOTS) == 0
