"""Walk a Program over a backend: encode every plaintext once, then run on any number of inputs.

A value is a list of ciphertexts, one per block of its layout, and is released after its last use,
so that memory follows the width of the network and not its depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Generic, TypeAlias

import scipy.sparse as sp
from typing_extensions import assert_never

from hec.compiler import kernels
from hec.compiler.backend import (
    Backend,
    Ciphertext,
    DefersRelinearization,
    Item,
    Plaintext,
    Refreshes,
    Result,
    SumsWeighted,
    WorksOnMany,
)
from hec.compiler.ckks_ir import (
    Add,
    AddPlain,
    Bootstrap,
    Input,
    LinearTransform,
    ModSwitch,
    Multiply,
    Output,
    Polynomial,
    Program,
    Rescale,
    RotateSum,
    ValueType,
)
from hec.compiler.errors import InvalidProgram
from hec.compiler.kernels import ConstantCache, EncodedLinear, at_once
from hec.compiler.liveness import last_uses
from hec.compiler.memory import kept_diagonals
from hec.compiler.typing_rules import infer_types, operands
from hec.compiler.weighted_sums import apply_weights, deferring_sums, whole_weights
from hec.runtime.input_checks import check_names
from hec.runtime.streaming import Streamed, streaming
from hec.runtime.trace import Trace

# A matrix ready to run: from the operand's blocks, and the backend that takes the steps.
Kernel: TypeAlias = Callable[[list[Ciphertext], Backend[Ciphertext, Plaintext]], list[Ciphertext]]


@dataclass(frozen=True, eq=False)
class Prepared(Generic[Ciphertext, Plaintext]):
    """A Program with its plaintexts encoded for one backend; each field by position."""

    program: Program
    backend: Backend[Ciphertext, Plaintext]
    linear: Mapping[int, Kernel[Ciphertext, Plaintext]]
    expanded: Mapping[int, EncodedLinear[Plaintext]]  # what `linear` runs, where steps do
    vectors: Mapping[int, list[Plaintext]]  # of AddPlain, one per block
    constants: Mapping[int, list[ConstantCache[Plaintext]]]  # of Polynomial, one per block
    released: tuple[tuple[int, ...], ...]  # the values whose last use is here
    streamed: Mapping[int, Sequence[Streamed[Plaintext]]]  # diagonals that are not kept
    deferred: frozenset[int] = frozenset()  # products that are not relinearized


def prepare(
    program: Program, backend: Backend[Ciphertext, Plaintext], room: float = inf
) -> Prepared[Ciphertext, Plaintext]:
    """Encode every plaintext of `program` at exactly the level and scale where it is used.

    Diagonals are kept up to `room` bytes; those that do not fit are encoded anew at every run. The
    constants of a polynomial follow at its first run.
    """
    types, kept = infer_types(program), kept_diagonals(program, room)
    deferred: Mapping[int, int] = {}
    if isinstance(backend, DefersRelinearization):
        deferred = deferring_sums(program)
    linear: dict[int, Kernel[Ciphertext, Plaintext]] = {}
    expanded: dict[int, EncodedLinear[Plaintext]] = {}
    streamed: dict[int, list[Streamed[Plaintext]]] = {}
    vectors: dict[int, list[Plaintext]] = {}
    constants: dict[int, list[ConstantCache[Plaintext]]] = {}
    for position, instruction in enumerate(program.instructions):
        match instruction:
            case LinearTransform():
                level = types[instruction.operand].level
                if kernels.is_weighted_sum(instruction) and not isinstance(
                    backend, kernels.FusesLinear
                ):
                    weights = whole_weights(instruction.matrix, instruction.plain_scale)
                    scale, waits = instruction.plain_scale, position in deferred.values()
                    linear[position] = partial(_weighted, weights, scale, waits)
                    continue
                if isinstance(backend, kernels.FusesLinear):
                    linear[position] = partial(_fused, backend.linear_kernel(instruction, level))
                    continue
                make: kernels.Maker[Plaintext] = _keeping(kept[position])
                encoded = kernels.encode_linear(instruction, backend, level, make)
                if anew := [x for x in encoded.in_order() if isinstance(x, Streamed)]:
                    streamed[position] = anew
                expanded[position] = encoded
                linear[position] = partial(_expanded, encoded)
            case AddPlain():
                vectors[position] = _encode(instruction, backend, types[instruction.operand])
            case Polynomial():
                blocks = types[position].blocks
                constants[position] = [ConstantCache() for _ in range(blocks)]
            case _:
                pass  # nothing to encode
    released = last_uses(program)
    waiting = frozenset(deferred)
    return Prepared(
        program, backend, linear, expanded, vectors, constants, released, streamed, waiting
    )


def run(
    prepared: Prepared[Ciphertext, Plaintext],
    inputs: Mapping[str, list[Ciphertext]],
    see: Callable[[int, list[Ciphertext]], None] = lambda position, value: None,
    trace: Trace | None = None,
) -> dict[str, list[Ciphertext]]:
    """Return the ciphertexts of every output, given those of every input; both by name.

    `see` is shown every value once it is computed; `trace` records what that took. Raise
    `CompileError` if the inputs are not those of the program.
    """
    _check_inputs(prepared.program, inputs)
    if trace is not None:
        prepared = replace(prepared, backend=trace.around(prepared.backend))
    values: dict[int, list[Ciphertext]] = {}
    outputs: dict[str, list[Ciphertext]] = {}
    beside = getattr(prepared.backend, "encodes_beside", False)
    with streaming(prepared.streamed, beside, trace) as stream:
        for position, instruction in enumerate(prepared.program.instructions):
            if isinstance(instruction, Input):
                values[position] = list(inputs[instruction.name])
            elif isinstance(instruction, Output):
                outputs[instruction.name] = values[instruction.operand]
            elif trace is None:
                values[position] = _step(prepared, position, values)
            else:
                step = partial(_step, prepared, position, values)
                values[position] = trace.step(position, step)
            see(position, values.get(position, []))
            stream.used(position)
            for last in prepared.released[position]:
                values.pop(last, None)
    return outputs


def _fused(
    kernel: Callable[[list[Ciphertext]], list[Ciphertext]], blocks: list[Ciphertext], _: object
) -> list[Ciphertext]:
    """Return matrix @ operand by the backend's own path."""
    return kernel(blocks)


def _keeping(count: int) -> kernels.Maker[Plaintext]:
    """Return what encodes the first `count` diagonals at once, and the others for every use."""
    numbers = iter(range(count))
    return lambda encode: Streamed(encode) if next(numbers, None) is None else at_once(encode)


def _expanded(
    encoded: EncodedLinear[Plaintext],
    blocks: list[Ciphertext],
    backend: Backend[Ciphertext, Plaintext],
) -> list[Ciphertext]:
    """Return matrix @ operand by primitive steps."""
    return kernels.apply_linear(blocks, encoded, backend)


def _weighted(
    weights: sp.csr_array,
    scale: float,
    relinearizes: bool,
    blocks: list[Ciphertext],
    backend: Backend[Ciphertext, Plaintext],
) -> list[Ciphertext]:
    """Return sums of whole weights, relinearized where the operand is not."""
    if isinstance(backend, SumsWeighted):
        sums = backend.weighted_sums(blocks, weights, scale)
    else:
        sums = apply_weights(blocks, weights, scale, backend)
    if relinearizes and isinstance(backend, DefersRelinearization):
        return each(backend, backend.relinearize, sums)
    return sums


def _multiply(
    prepared: Prepared[Ciphertext, Plaintext], position: int
) -> Callable[[Ciphertext, Ciphertext], Ciphertext]:
    """Return how the product at `position` is made."""
    backend = prepared.backend
    if position in prepared.deferred and isinstance(backend, DefersRelinearization):
        return backend.multiply_only
    return backend.multiply


def each(backend: object, action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what `action` makes of every item, several at once where the backend can."""
    return (
        backend.each(action, items)
        if isinstance(backend, WorksOnMany)
        else list(map(action, items))
    )


def _encode(
    instruction: AddPlain, backend: Backend[Ciphertext, Plaintext], x: ValueType
) -> list[Plaintext]:
    return each(backend, lambda v: backend.encode(v, x.level, x.scale), instruction.values)


def _step(
    prepared: Prepared[Ciphertext, Plaintext],
    position: int,
    values: Mapping[int, list[Ciphertext]],
) -> list[Ciphertext]:
    instruction = prepared.program.instructions[position]
    if isinstance(instruction, LinearTransform):
        return prepared.linear[position](values[instruction.operand], prepared.backend)
    rows = zip(*(values[operand] for operand in operands(instruction)), strict=True)

    def computed(item: tuple[int, tuple[Ciphertext, ...]]) -> Ciphertext:
        block, x = item
        return compute_block(prepared, position, x, block)

    if isinstance(instruction, Bootstrap):  # one takes gigabytes, and all threads
        return list(map(computed, enumerate(rows)))
    return each(prepared.backend, computed, enumerate(rows))


def compute_block(
    prepared: Prepared[Ciphertext, Plaintext],
    position: int,
    x: Sequence[Ciphertext],
    block: int,
) -> Ciphertext:
    """Return one block of an instruction that takes just that block, `x`, of its operands."""
    backend, instruction = prepared.backend, prepared.program.instructions[position]
    match instruction:
        case RotateSum():
            return kernels.apply_rotate_sum(x[0], instruction.steps, backend)
        case AddPlain():
            return backend.add_plain(x[0], prepared.vectors[position][block])
        case Add():
            return backend.add(x[0], x[1])
        case Multiply():
            return _multiply(prepared, position)(x[0], x[1])
        case Polynomial():
            primes, constants = prepared.program.parameters.primes, prepared.constants[position]
            return kernels.apply_polynomial(
                x[0], instruction, block, backend, primes, constants[block]
            )
        case Bootstrap():
            if not isinstance(backend, Refreshes):
                raise InvalidProgram("this backend cannot refresh ciphertexts")
            refreshed: Ciphertext = backend.bootstrap(x[0], instruction.coefficients)
            return refreshed
        case Rescale():
            return backend.rescale(x[0])
        case ModSwitch():
            return backend.mod_switch(x[0], instruction.level)
        case LinearTransform() | Input() | Output():
            raise InvalidProgram(f"{type(instruction).__name__} does not work block by block")
        case _:
            assert_never(instruction)


def _check_inputs(program: Program, inputs: Mapping[str, list[Ciphertext]]) -> None:
    expected = {x.name: x.layout.blocks for x in program.instructions if isinstance(x, Input)}
    found = {name: len(blocks) for name, blocks in inputs.items()}
    check_names(found, expected, "input of the program")
