"""The executor in the clear: it computes what the Program says, with the keys that it lists."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from hec.compiler import ckks_ir, kernels
from hec.compiler.ckks_ir import EncryptionParameters, Program
from hec.compiler.errors import CompileError, InvalidProgram
from hec.compiler.key_manifest import KeyManifest, needed_keys
from hec.compiler.liveness import bytes_alive, last_uses
from hec.compiler.typing_rules import infer_types
from hec.runtime import executor
from hec.runtime.cleartext import Cleartext, Plain, Slots
from hec.runtime.simulator import Simulator
from sample_plans import TINY, deep_program, dense, first_slots, linear_program

Array = NDArray[np.float64]


class Recorder(Cleartext):
    """Cleartext that notes the keys it is asked for."""

    def __init__(self, parameters: EncryptionParameters) -> None:
        super().__init__(parameters)
        self.steps: set[int] = set()
        self.products = 0
        self.encoded = 0

    def encode(self, values: Array, level: int, scale: float) -> Plain:
        self.encoded += 1
        return super().encode(values, level, scale)

    def rotate(self, x: Slots, steps: int) -> Slots:
        self.steps.add(steps % self.parameters.slots)
        return super().rotate(x, steps)

    def multiply(self, x: Slots, y: Slots) -> Slots:
        self.products += 1
        return super().multiply(x, y)


def encrypted(program: Program, seed: int = 0) -> dict[str, list[Slots]]:
    random = np.random.default_rng(seed)
    inputs = [x for x in program.instructions if isinstance(x, ckks_ir.Input)]
    return {
        x.name: [
            Slots(random.uniform(-1, 1, (1, program.parameters.slots)), x.level, x.scale)
            for _ in range(x.layout.blocks)
        ]
        for x in inputs
    }


def values(blocks: list[Slots]) -> Array:
    return np.concatenate([block.values for block in blocks])


def test_a_linear_program_is_its_matrix_plus_its_bias() -> None:
    program = linear_program(TINY)
    inputs = encrypted(program)
    outputs = executor.run(executor.prepare(program, Cleartext(TINY)), inputs)
    _, linear, _, bias, _ = program.instructions
    assert isinstance(linear, ckks_ir.LinearTransform) and isinstance(bias, ckks_ir.AddPlain)
    expected = dense(linear.matrix, values(inputs["image"])) + bias.values
    np.testing.assert_allclose(values(outputs["scores"]), expected, atol=1e-12)


def test_every_operation_computes_what_it_says() -> None:
    program = deep_program(TINY)
    inputs = encrypted(program)
    outputs = executor.run(executor.prepare(program, Cleartext(TINY)), inputs)
    linear = program.instructions[2]
    assert isinstance(linear, ckks_ir.LinearTransform)
    x = dense(linear.matrix, values(inputs["left"])) + values(inputs["right"])
    square = x * x
    sums = square + np.roll(square, 2, axis=1)
    sums = sums + np.roll(sums, -1, axis=1)
    curve = np.polynomial.chebyshev.chebval(x, [0.1, 0.5, 0.0, -0.2])
    np.testing.assert_allclose(values(outputs["sums"]), sums, atol=1e-12)
    np.testing.assert_allclose(values(outputs["curve"]), curve, atol=1e-12)


@pytest.mark.parametrize("program", [linear_program(TINY), deep_program(TINY)])
def test_the_keys_used_are_those_of_the_manifest(program: Program) -> None:
    backend = Recorder(TINY)
    executor.run(executor.prepare(program, backend), encrypted(program))
    used = KeyManifest(tuple(sorted(backend.steps)), backend.products > 0)
    assert used == needed_keys(program)


def test_a_line_needs_no_relinearization_key() -> None:
    program = Program(
        TINY,
        (
            ckks_ir.Input("x", first_slots(TINY.slots, 4), 1, 2.0**28, 1.0),
            ckks_ir.Polynomial(0, np.array([0.5, 0.25]), 2.0**28),
            ckks_ir.Output(1, "y", first_slots(TINY.slots, 4), 1.0),
        ),
    )
    backend = Recorder(TINY)
    executor.run(executor.prepare(program, backend), encrypted(program))
    assert needed_keys(program) == KeyManifest((), False)
    assert backend.products == 0


def test_a_second_run_encodes_nothing() -> None:
    program = deep_program(TINY)
    backend = Recorder(TINY)
    prepared = executor.prepare(program, backend)
    first = executor.run(prepared, encrypted(program))
    encoded = backend.encoded
    second = executor.run(prepared, encrypted(program))
    assert backend.encoded == encoded
    np.testing.assert_array_equal(values(first["curve"]), values(second["curve"]))


@pytest.mark.parametrize("anew", [1, 5, 12])
def test_diagonals_beyond_the_cap_are_encoded_anew_at_every_run(anew: int) -> None:
    program = linear_program()
    backend = Recorder(program.parameters)
    kept = executor.run(
        executor.prepare(program, Cleartext(program.parameters)), encrypted(program)
    )
    (matrix,) = (x for x in program.instructions if isinstance(x, ckks_ir.LinearTransform))
    level = next(x.level for x in program.instructions if isinstance(x, ckks_ir.Input))
    size = kernels.diagonal_bytes(matrix, level)
    assert size == len(matrix.matrix.index) * program.parameters.ring_degree * (level + 1) * 8
    each = size // len(matrix.matrix.index)
    prepared = executor.prepare(program, backend, room=size - anew * each + each - 1)
    before = backend.encoded
    for run in (1, 2):
        found = executor.run(prepared, encrypted(program))
        assert backend.encoded == before + run * anew
        for name, blocks in kept.items():
            np.testing.assert_array_equal(values(found[name]), values(blocks))
    backend.encoded = 0
    executor.prepare(program, backend, room=size)
    assert backend.encoded == before + anew


def test_a_backend_may_fuse_matrices() -> None:
    program = linear_program()
    prepared = executor.prepare(program, Simulator(program.parameters))
    (kernel,) = prepared.linear.values()
    assert isinstance(kernel, partial)
    assert kernel.args[0].__qualname__.startswith("Simulator.linear_kernel")


class Beside(Recorder):
    """Encodes on another thread, and notes which."""

    encodes_beside = True

    def __init__(self, parameters: EncryptionParameters) -> None:
        super().__init__(parameters)
        self.threads: list[str] = []

    def encode(self, values: Array, level: int, scale: float) -> Plain:
        self.threads.append(threading.current_thread().name)
        return super().encode(values, level, scale)


def test_what_is_not_kept_is_encoded_on_another_thread() -> None:
    program = linear_program()
    backend = Beside(program.parameters)
    prepared = executor.prepare(program, backend, room=0)
    (streamed,) = prepared.streamed.values()
    backend.threads.clear()
    found = executor.run(prepared, encrypted(program))
    assert len(backend.threads) == len(streamed)
    assert all(name.startswith("hec-encode") for name in backend.threads)
    exact = executor.run(
        executor.prepare(program, Cleartext(program.parameters)), encrypted(program)
    )
    for name, blocks in exact.items():
        np.testing.assert_array_equal(values(found[name]), values(blocks))


def test_an_error_on_the_other_thread_ends_the_run() -> None:
    class Broken(Beside):
        def encode(self, values: Array, level: int, scale: float) -> Plain:
            if threading.current_thread().name.startswith("hec-encode"):
                raise InvalidProgram("cannot encode")
            return super().encode(values, level, scale)

    program = linear_program()
    prepared = executor.prepare(program, Broken(program.parameters), room=0)
    with pytest.raises(InvalidProgram, match=r"^cannot encode$"):
        executor.run(prepared, encrypted(program))


def test_a_value_is_released_at_its_last_use() -> None:
    program = deep_program(TINY)
    released = last_uses(program)
    assert released[5] == (3, 4)  # the sum is the last to read both
    assert released[9] == (5,)  # the square read it before, the polynomial now
    assert sorted(v for values in released for v in values) == list(range(12))


def test_bytes_alive_are_those_of_results_and_of_what_is_still_to_be_read() -> None:
    program = deep_program(TINY)
    limb = 2 * TINY.ring_degree * 8  # of both polynomials of a ciphertext
    found = bytes_alive(program, infer_types(program))
    sizes = (1 * 5, 2 * 5, 2 * 5, 2 * 4, 2 * 4, 2 * 4, 2 * 4, 2 * 3, 2 * 3, 2 * 2, 2 * 3, 2 * 2)
    left, right, conv, third, fourth, total, square, seventh, sums, curve, first, second = sizes
    assert [size / limb for size in found] == [
        left,
        left + right,
        left + right + conv,
        right + conv + third,
        right + third + fourth,
        third + fourth + total,
        total + square,
        total + square + seventh,
        total + seventh + sums,
        total + sums + curve,
        sums + curve + first,
        curve + second,
    ]


def test_wrong_inputs_are_named() -> None:
    program = deep_program(TINY)
    prepared = executor.prepare(program, Cleartext(TINY))
    inputs = encrypted(program)
    with pytest.raises(CompileError) as caught:
        executor.run(prepared, {"left": inputs["left"] * 2})
    assert str(caught.value) == (
        "Expected the ciphertexts 'left' (1), 'right' (2), found 'left' (2)\n"
        "  --> input of the program\n"
        "  help: make the message again with this plan"
    )


def test_an_unused_value_is_released_at_once() -> None:
    program = linear_program(TINY)
    extra = (
        *program.instructions[:1],
        ckks_ir.Rescale(0),
        ckks_ir.Output(0, "same", first_slots(16, 6, 2), 1.0),
    )
    assert last_uses(replace(program, instructions=extra)) == ((), (1,), (0, 2))
