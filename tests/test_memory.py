"""The forecast of memory against what processes held."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap_plans import parameters, refreshing_program
from hec.compiler import ckks_ir, memory
from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    Bootstrapping,
    Input,
    Instruction,
    LinearTransform,
    Output,
    Program,
    Rescale,
)
from hec.compiler.errors import CompileError
from hec.compiler.key_manifest import KeyManifest, needed_keys
from hec.compiler.live_ciphertexts import live_bytes
from hec.compiler.memory import (
    Memory,
    _unpacking_bytes,
    client_memory,
    free_memory,
    kept_diagonals,
    keys_bytes,
    one_key_bytes,
    require_memory,
    server_memory,
    setup_bytes,
    stored_key_bytes,
)
from sample_plans import DEEP, SCALE, TINY, deep_program, diagonals, first_slots

WITH_BOOTSTRAPS = KeyManifest((), relinearization=True, bootstrapping=True)
# OpenFHE 1.6.1, 8 digits, 33-bit primes, 2026-11-24: log2 of ring degree and slots, levels, depth,
# GB of set-up, and GB at the peak, where that was measured.
MEASURED = [
    (15, 14, (2, 2), 22, 4.4, 11.6),
    (15, 14, (3, 2), 22, 1.911, 11.2),
    (15, 12, (3, 2), 22, 1.1, 10.4),
    (14, 13, (3, 2), 22, 0.803, None),
    (14, 13, (2, 2), 22, 1.615, None),
    (13, 12, (2, 2), 22, 0.528, None),
    (13, 10, (3, 2), 22, 0.157, None),
    (12, 11, (3, 3), 23, 0.082, None),
    (12, 11, (3, 2), 28, 0.126, None),
]


@pytest.mark.parametrize(("log_degree", "log_slots", "levels", "depth", "setup", "peak"), MEASURED)
def test_the_memory_of_a_bootstrap_is_what_was_measured(
    log_degree: int,
    log_slots: int,
    levels: tuple[int, int],
    depth: int,
    setup: float,
    peak: float | None,
) -> None:
    how = Bootstrapping(levels, (0, 0), 2**log_slots)
    chosen = parameters(log_degree, depth=depth, how=how)
    assert setup_bytes(chosen) / 1e9 == pytest.approx(setup, rel=0.1)
    held = client_memory(chosen, WITH_BOOTSTRAPS)
    if peak is not None:
        assert held.peak / 1e9 == pytest.approx(peak, rel=0.05)


def test_the_favourite_takes_what_a_process_held() -> None:
    """Ring degree 2^15, (3, 2) levels, baby steps of 16: 60 keys, 8.64 GB at the peak."""
    held = server_memory(refreshing_program(parameters(15)))
    assert held.keys / 1e9 == pytest.approx(6.40, rel=0.01)  # with the one of products
    assert held.least / 1e9 == pytest.approx(8.64, rel=0.03)


def test_a_key_has_a_pair_of_polynomials_for_each_digit() -> None:
    chosen = parameters(12)
    assert one_key_bytes(chosen) == 2 * 8 * (23 + 2) * 4096 * 8
    assert one_key_bytes(DEEP) == 2 * 5 * (5 + 1) * 8192 * 8
    assert keys_bytes(DEEP, KeyManifest((1, 5), relinearization=True)) == 3 * one_key_bytes(DEEP)


def test_a_server_without_bootstraps_holds_keys_weights_and_ciphertexts() -> None:
    program = deep_program(DEEP)
    held = server_memory(program)
    limb = 8192 * 8
    assert held.keys == keys_bytes(DEEP, needed_keys(program))
    assert held.bootstrapping == 0
    assert held.diagonals == 8 * 5 * limb  # two blocks of four diagonals at level 4
    (matrix,) = (x.matrix for x in program.instructions if isinstance(x, LinearTransform))
    plain = matrix.index.nbytes + matrix.values.data.nbytes + matrix.values.indices.nbytes
    tables = 4 * limb * (3 + 5 + 7 + 9 + 11 + 13)  # of one to six primes
    process = 62 * 10**6 + plain + tables
    assert held.working == process + live_bytes(program)
    unpacked = 2.5 * 4 * 5 * 6 * limb  # half of four keys: five digits of six limbs each
    assert held.loading == process + stored_key_bytes(DEEP, needed_keys(program)) + unpacked
    assert held.peak == held.keys + max(held.working + held.diagonals, held.loading)
    assert held.peak == held.least == held.keys + held.loading  # more than is held afterwards


@pytest.mark.parametrize(("rotations", "keys"), [(3, 2.5 * 3 / 2), (9, 2.5 * 4 - 1), (0, 0)])
def test_a_group_of_keys_is_unpacked_before_the_next_ones_are_there(
    rotations: int, keys: float
) -> None:
    """Nine: the first eight in buffers of 2.5 times their half, while the ninth is to come."""
    manifest = KeyManifest(tuple(range(1, rotations + 1)), relinearization=False)
    assert _unpacking_bytes(DEEP, manifest) == keys * one_key_bytes(DEEP)


def test_a_server_with_bootstraps_also_holds_their_matrices() -> None:
    chosen = parameters()
    held = server_memory(refreshing_program(chosen))
    assert held.bootstrapping == setup_bytes(chosen) > 0
    assert held.keys == keys_bytes(chosen, WITH_BOOTSTRAPS)
    assert held.diagonals == 2 * (5 + 1) * 2048 * 8  # values, as large as a limb, are kept too


def test_free_memory_is_the_least_that_the_system_or_the_group_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo, limit, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_GROUP_LIMITS", ((str(limit), str(used)),))
    assert free_memory() is None
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    5000 kB\n")
    limit.write_text("max\n")
    used.write_text("1000\n")
    assert free_memory() == 5000 * 1024
    limit.write_text("2000000\n")
    assert free_memory() == 1999000


def test_matrices_are_kept_as_far_as_memory_goes() -> None:
    program = refreshing_program(parameters())
    (position,) = (i for i, x in enumerate(program.instructions) if isinstance(x, LinearTransform))
    size = server_memory(program).diagonals
    assert kept_diagonals(program, size) == {position: 2}
    assert kept_diagonals(program, size - 1) == {position: 0}  # encoded one matrix ahead


def test_on_seal_diagonals_of_few_limbs_are_kept_first() -> None:
    """Three diagonals at level 2, then two at level 1."""
    primes, slots = DEEP.primes, DEEP.slots
    layout, turned = first_slots(slots, 8), diagonals(2, slots, (1, 1), (0, 5))
    first = LinearTransform(0, diagonals(1, slots, (1, 1), (0, 1, 2)), 4, 0, float(primes[2]))
    program = Program(
        DEEP,
        (
            Input("x", layout, 2, SCALE, 1.0),
            first,
            Rescale(1),
            LinearTransform(2, turned, 4, 0, float(primes[1])),
            Rescale(3),
            Output(4, "y", layout, 1.0),
        ),
    )
    limb = DEEP.ring_degree * LIMB_BYTES
    everything = limb * (3 * 3 + 2 * 2)
    assert kept_diagonals(program, everything) == {1: 3, 3: 2}
    assert kept_diagonals(program, everything - 1) == {1: 2, 3: 2}
    assert kept_diagonals(program, 2 * 2 * limb) == {1: 0, 3: 2}
    assert kept_diagonals(program, 2 * limb) == {1: 0, 3: 1}
    assert kept_diagonals(program, -1.0) == {1: 0, 3: 0}
    assert memory._single_diagonals({1: 0}, {1: 4}, -1.0) == {1: 0}  # numbers take nothing


def refusal(free: int | None, limit: float, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    held = Memory(keys=6 * 10**9, bootstrapping=2 * 10**9, working=10**9)
    with pytest.raises(CompileError) as caught:
        require_memory(held, limit, "plan of net")
    return str(caught.value)


def test_a_machine_with_too_little_memory_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert refusal(4 * 10**9, 12e9, monkeypatch) == (
        "the server needs 9.0 GB, 5.0 GB more than this machine has free\n"
        "  --> plan of net\n"
        "  help: run it where 9.0 GB are free, or compile with --max-ram 4G"
    )


def test_a_cap_that_is_too_small_is_told_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(None, 8e9, monkeypatch) == (
        "the server needs 9.0 GB, 1.0 GB more than it may hold\n"
        "  --> plan of net\n"
        "  help: allow --max-ram 10G, or compile with --max-ram 8G"
    )


def test_enough_memory_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Memory(keys=6 * 10**9, bootstrapping=2 * 10**9, working=10**9, diagonals=10**12)
    for free in (None, 9 * 10**9):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        require_memory(held, 9e9, "plan of net")


def square_after(*instructions: Instruction) -> Program:
    entry = ckks_ir.Input("x", first_slots(TINY.slots, 4), 4, SCALE, 1.0)
    return Program(TINY, (entry, *instructions))


def test_every_level_keeps_its_own_peak() -> None:
    """x and its square of 5 limbs, three polynomials; then the rescaled square of 4."""
    limb = 32 * 8
    program = square_after(ckks_ir.Multiply(0, 0), ckks_ir.Rescale(1))
    assert live_bytes(program) == limb * (5 * (2 + 3) + 4 * 2 + (4 * 5 + 2))


def test_what_is_read_no_more_is_not_counted_twice() -> None:
    limb = 32 * 8
    once = square_after(ckks_ir.Add(0, 0), ckks_ir.Add(1, 1))
    chain = square_after(ckks_ir.Add(0, 0), ckks_ir.Add(1, 1), ckks_ir.Add(2, 2))
    both = square_after(ckks_ir.Add(0, 0), ckks_ir.Add(1, 1), ckks_ir.Add(0, 2))
    assert live_bytes(once) == live_bytes(chain) == limb * 5 * 2 * 2
    assert live_bytes(both) == limb * 5 * 2 * 3  # the input stays until the last sum


def test_rotations_of_a_matrix_are_alive_together() -> None:
    """Three baby steps beside the input, a product, a sum, and one or two new ones."""
    matrix = diagonals(1, TINY.slots, (1, 1), (0, 1, 2, 3))
    few = square_after(ckks_ir.LinearTransform(0, matrix, 4, 0, SCALE))
    limb = 32 * 8
    least = limb * (5 * 2 * (1 + 3 + 3) + (4 * 5 + 2))
    assert least <= live_bytes(few) <= least + limb * 5 * 2  # `reduce` may keep the last operand


def test_reading_keys_can_be_the_peak() -> None:
    held = Memory(100, 0, working=80, diagonals=5, loading=90)
    assert (held.least, held.peak) == (190, 190)
    held = Memory(100, 0, working=80, diagonals=15, loading=90)
    assert (held.least, held.peak) == (190, 195)
