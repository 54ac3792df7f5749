"""Sums of ciphertexts times numbers: which products wait for them, and those of residues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from batch_networks import plan
from hec.compiler import kernels
from hec.compiler.ckks_ir import (
    DiagonalMatrix,
    LinearTransform,
    ModSwitch,
    Multiply,
    Output,
    Program,
    Rescale,
)
from hec.compiler.errors import InvalidProgram
from hec.compiler.kernel_sizes import KernelSizes
from hec.compiler.layout import Layout
from hec.compiler.openfhe_costs import NUMBER_PRODUCT, dense_units
from hec.compiler.predicted_seconds import seconds_of
from hec.compiler.typing_rules import infer_types
from hec.compiler.weighted_sums import apply_weights, deferring_sums, whole_weights
from hec.runtime import executor
from hec.runtime.cleartext import Cleartext, Slots
from hec.runtime.residue_sums import summed

RANDOM = np.random.default_rng(11)
PRIMES = (12289, 66994177, 2**45 - 229, 9007199254429697, 1152921504606830593)


def of_numbers(weights: np.ndarray) -> DiagonalMatrix:  # type: ignore[type-arg]
    """Return the matrix of one slot that has these (sums, terms), zeros included."""
    index = np.array([(o, i, 0) for o in range(weights.shape[0]) for i in range(weights.shape[1])])
    values = sp.csr_array(weights.reshape(-1, 1).astype(np.float32))
    return DiagonalMatrix(1, *weights.shape, index.astype(np.int32), values)


@pytest.mark.parametrize("prime", PRIMES)
@pytest.mark.parametrize("bits", [1, 9, 14, 24, 40, 51])
def test_sums_of_residues_are_exact(prime: int, bits: int) -> None:
    weights = RANDOM.integers(-(2**bits), 2**bits, (5, 33))
    weights[0], weights[1] = 2**bits - 1, -(2**bits)
    residues = RANDOM.integers(0, prime, (33, 700), dtype=np.uint64)
    residues[:, 3] = prime - 1
    expected = (weights.astype(object) @ residues.astype(object)) % prime
    found = summed(weights, residues, prime)
    assert found.dtype == np.uint64
    assert (found.astype(object) == expected).all()


def test_weights_become_whole_numbers_and_no_sum_is_empty() -> None:
    matrix = of_numbers(np.array([[0.5, -0.25, 0.0], [1e-6, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    found = whole_weights(matrix, 64.0)
    assert found.toarray().tolist() == [[32, -16, 0], [1, 0, 0], [1, 0, 0]]
    assert found.nnz == 4


def test_weights_that_float64_cannot_hold_are_a_bug() -> None:
    with pytest.raises(InvalidProgram) as caught:
        whole_weights(of_numbers(np.array([[1.0]])), 2.0**52)
    assert str(caught.value) == "a weight is too large for its scale"


def test_primitive_steps_make_the_same_sums() -> None:
    parameters = plan(10**6).client.parameters
    weights = RANDOM.uniform(-1, 1, (3, 5))
    x = RANDOM.uniform(-1, 1, (5, 7))
    blocks = [Slots(row[:, None], 1, 2.0**30) for row in x]
    whole = whole_weights(of_numbers(weights), 2.0**20)
    found = apply_weights(blocks, whole, 2.0**20, Cleartext(parameters))
    np.testing.assert_allclose([y.values[:, 0] for y in found], weights @ x, rtol=0, atol=1e-5)
    assert {y.scale for y in found} == {2.0**50}


def test_the_executor_sums_where_an_image_has_one_slot() -> None:
    program = plan(10**6).server.program
    matrices = [x for x in program.instructions if isinstance(x, LinearTransform)]
    assert matrices and all(map(kernels.is_weighted_sum, matrices))
    assert all(kernels.diagonal_bytes(x, 2, program.parameters.batch) == 0 for x in matrices)
    prepared = executor.prepare(program, Cleartext(program.parameters))
    assert {kernel.func.__name__ for kernel in prepared.linear.values()} == {"_weighted"}  # type: ignore[attr-defined]
    shared = plan(64).server.program
    assert not any(
        kernels.is_weighted_sum(x) for x in shared.instructions if isinstance(x, LinearTransform)
    )


def lazy_program() -> Program:
    """Return the program of one slot for OpenFHE: a square, and the matrix that reads it."""
    program = plan(10**6, "openfhe").server.program
    kinds = [type(x) for x in program.instructions]
    square = kinds.index(Multiply)
    assert kinds[square + 1] is LinearTransform
    return program


def test_a_square_waits_for_the_sums_that_read_it() -> None:
    program = lazy_program()
    kinds = [type(x) for x in program.instructions]
    square = kinds.index(Multiply)
    assert deferring_sums(program) == {square: square + 1}
    types, sizes = infer_types(program), KernelSizes()
    waiting = seconds_of(program, types, sizes)
    extra = (*program.instructions, Output(square, "b", Layout(np.zeros((9, 1), np.int32)), 1.0))
    also_sent = replace(program, instructions=extra)
    assert deferring_sums(also_sent) == {}
    at_once = seconds_of(also_sent, infer_types(also_sent), sizes)
    assert waiting[square] < at_once[square]
    assert waiting[square + 1] > at_once[square + 1]


@pytest.mark.parametrize(("between", "waits"), [(ModSwitch, True), (Rescale, False)])
def test_a_square_that_is_rescaled_first_does_not_wait(between: type, waits: bool) -> None:
    program = lazy_program()
    kinds = [type(x) for x in program.instructions]
    square = kinds.index(Multiply)
    level = infer_types(program)[square].level
    step = ModSwitch(square, level - 1) if between is ModSwitch else Rescale(square)
    matrix = program.instructions[square + 1]
    assert isinstance(matrix, LinearTransform)
    before = program.instructions[: square + 1]
    changed = replace(program, instructions=(*before, step, replace(matrix, operand=square + 1)))
    assert deferring_sums(changed) == ({square: square + 2} if waits else {})


def test_a_square_does_not_wait_for_more_sums_than_terms() -> None:
    program = lazy_program()
    square = [type(x) for x in program.instructions].index(Multiply)
    matrix = program.instructions[square + 1]
    assert isinstance(matrix, LinearTransform)
    wide = replace(matrix, matrix=of_numbers(np.ones((9, 9))))
    changed = replace(program, instructions=(*program.instructions[: square + 1], wide))
    assert deferring_sums(changed) == {}


def test_dense_sums_are_made_of_residues() -> None:
    assert dense_units(100, 980) < NUMBER_PRODUCT * 98_000
    assert dense_units(980, 784) > NUMBER_PRODUCT * 3_920
