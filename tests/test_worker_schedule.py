"""How a Program is shared out among processes: all of the work, once, and only where it pays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from batch_networks import plan
from hec.compiler import ckks_ir
from hec.compiler.ckks_ir import EncryptionParameters, Instruction, Program
from hec.compiler.cost_table import Line
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.live_ciphertexts import live_bytes
from hec.compiler.predicted_seconds import seconds_of
from hec.compiler.typing_rules import infer_types
from hec.compiler.worker_memory import worker_bytes
from hec.compiler.worker_schedule import (
    ExchangeCosts,
    Shares,
    Work,
    best_schedule,
    held,
    holders,
    parts,
    saved_exchange,
    shared_out,
)
from sample_plans import DEEP, SCALE, deep_program, diagonals, first_slots, linear_program

FREE = ExchangeCosts(Line(0.0, 0.0), Line(0.0, 0.0), 0.0)
DEAR = ExchangeCosts(Line(9.0, 0.0), Line(9.0, 0.0), 9.0)


def matrices(
    blocks: tuple[int, ...], shifts: int, parameters: EncryptionParameters = DEEP
) -> Program:
    """Return matrices between values of so many blocks, each rescaled and squared."""
    slots = parameters.slots
    instructions: list[Instruction] = [
        ckks_ir.Input("x", first_slots(slots, 8, blocks[0]), parameters.top_level, SCALE, 1.0)
    ]
    level = parameters.top_level
    for seed, (inputs, outputs) in enumerate(pairwise(blocks)):
        matrix = diagonals(seed, slots, (outputs, inputs), tuple(range(-2, shifts - 2)))
        prime = float(parameters.primes[level])
        step = max(1, int(np.sqrt(shifts)))
        instructions += [
            ckks_ir.LinearTransform(len(instructions) - 1, matrix, step, -1, prime),
            ckks_ir.Rescale(len(instructions)),
        ]
        level -= 1
    last = len(instructions) - 1
    instructions.append(ckks_ir.Output(last, "y", first_slots(slots, 8, blocks[-1]), 1.0))
    return Program(parameters, tuple(instructions))


WIDE = matrices((2, 3, 1), 30)
LARGE = matrices((1, 1), 128)


@pytest.mark.parametrize("workers", [2, 3, 5])
@pytest.mark.parametrize("exchange", [FREE, None], ids=["free", "measured"])
@pytest.mark.parametrize("program", [WIDE, LARGE, deep_program()], ids=["wide", "large", "deep"])
def test_every_step_of_a_matrix_is_made_by_one_process(
    program: Program, exchange: ExchangeCosts | None, workers: int
) -> None:
    work = Work.of(program)
    schedule = shared_out(work, workers, exchange)
    assert schedule.linear or exchange is None
    for position, shares in schedule.linear.items():
        terms = work.terms[position]
        assert len(shares.giants) == workers
        dealt = [turn for mine in shares.giants for turn in mine]
        assert sorted(dealt) == sorted(terms)
        if shares.babies is not None:
            made = [baby for mine in shares.babies for baby in mine]
            assert sorted(made) == sorted({b for x in terms.values() for b in x if b[1]})


def test_babies_that_are_dear_to_pass_on_are_made_by_all() -> None:
    work = Work.of(LARGE)
    (dear,) = shared_out(work, 2, ExchangeCosts(Line(4e-3, 0), Line(2e-3, 0), 0)).linear.values()
    (cheap,) = shared_out(work, 2).linear.values()
    assert dear.babies is None and cheap.babies is not None


def test_a_matrix_is_not_shared_out_where_that_takes_longer() -> None:
    assert not shared_out(Work.of(LARGE), 2, DEAR).linear


@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_every_block_has_a_holder_and_a_single_one_is_everywhere(blocks: int, workers: int) -> None:
    all_held = sorted(b for worker in range(workers) for b in held(worker, blocks, workers))
    assert all_held == ([0] * workers if blocks == 1 else list(range(blocks)))
    assert all(worker in holders(b, blocks, workers) for worker in range(workers)
               for b in held(worker, blocks, workers))  # fmt: skip


def test_partial_sums_go_to_those_that_lack_them() -> None:
    shares = Shares(None, (((0, 0), (1, 0)), ((1, 5), (2, 0))))
    assert parts(shares, 3) == ((), (1,))  # block 2 of 3 is the second process's own
    assert parts(Shares(None, (((0, 0),), ((0, 4),))), 1) == ((0,), (0,))
    assert parts(Shares(None, (((0, 0),), ())), 1) == ((0,), ())


def test_the_work_is_dealt_out_evenly() -> None:
    work = Work.of(LARGE)
    for workers in (2, 4):
        (position,) = shared_out(work, workers, FREE).linear
        fastest = shared_out(work, workers, FREE).seconds[position]
        assert work.seconds[position] / workers <= fastest < 1.25 * work.seconds[position] / workers


def test_the_seconds_of_one_process_are_those_of_the_forecast() -> None:
    for program in (WIDE, LARGE, deep_program(), linear_program()):
        expected = seconds_of(program, infer_types(program), KernelSizes())
        np.testing.assert_allclose(Work.of(program).seconds, expected, rtol=1e-12)


def test_the_forecast_of_several_processes_counts_what_is_passed_on() -> None:
    work = Work.of(WIDE)
    free, measured = shared_out(work, 2, FREE), shared_out(work, 2)
    saved = shared_out(work, 2, saved_exchange(WIDE))
    assert free.total_seconds < measured.total_seconds < saved.total_seconds
    assert measured.seconds[0] > work.seconds[0]  # the input is handed over
    position = max(measured.gathers)
    assert measured.seconds[position] > free.seconds[position]


def test_the_forecast_counts_the_blocks_of_the_process_that_has_the_most() -> None:
    work = Work.of(WIDE)
    (position,) = (p for p, x in enumerate(work.types) if x.blocks == 3 and p and p != 1)
    assert isinstance(WIDE.instructions[position], ckks_ir.Rescale)
    for workers, share in ((2, 2 / 3), (3, 1 / 3), (4, 1 / 3)):
        found = shared_out(work, workers).seconds[position]
        assert found == pytest.approx(share * work.seconds[position])


def test_the_forecast_counts_what_is_gathered() -> None:
    work = Work.of(matrices((1, 2), 30))
    assert shared_out(work, 2, FREE).seconds[-1] == work.seconds[-1]
    assert shared_out(work, 2).seconds[-1] > work.seconds[-1]


def test_blocks_are_gathered_before_a_matrix_and_at_the_end_once() -> None:
    kinds = [
        type(WIDE.instructions[i]).__name__ for i in sorted(shared_out(Work.of(WIDE), 2).gathers)
    ]
    assert kinds == ["LinearTransform"]  # of 3 blocks; the input and the only block are everywhere
    several = matrices((1, 2), 30)
    kinds = [
        type(several.instructions[i]).__name__ for i in shared_out(Work.of(several), 2).gathers
    ]
    assert kinds == ["Output"]


def test_the_best_number_of_processes_is_never_slower_than_one() -> None:
    alone = sum(Work.of(LARGE).seconds)
    best = best_schedule(LARGE, 2)
    assert best is not None and best.workers == 2
    assert best.total_seconds < 0.7 * alone
    more = best_schedule(LARGE, 64)
    assert more is not None and 2 < more.workers <= 8
    assert best_schedule(LARGE, 1) is None
    assert best_schedule(LARGE, 2, DEAR) is None
    assert best_schedule(linear_program(), 8, DEAR) is None


def test_openfhe_is_not_shared_out() -> None:
    assert best_schedule(replace(LARGE, parameters=replace(DEEP, digits=3)), 2) is None


def test_sums_of_weights_are_not_shared_out() -> None:
    assert best_schedule(plan(10**6).server.program, 8) is None


def test_the_memory_of_workers_is_counted() -> None:
    ring = 4 * 2 * 8192 * 8 * 5
    for workers in (2, 3):
        schedule = shared_out(Work.of(LARGE), workers)
        expected = (workers - 1) * (live_bytes(LARGE) + 7_000_000) + workers * ring
        assert worker_bytes(LARGE, schedule) == expected
