"""Whether the parts of a Plan make sense: what a hostile or damaged file could get wrong.

Types were checked while decoding; here are the values. Whatever is wrong is a `CompileError`: no
later stage has to expect an absurd ring degree, an index out of range, or an insecure modulus.
"""

from __future__ import annotations

from itertools import pairwise
from math import isclose, log2, prod
from typing import Final

import numpy as np

from hec.compiler import ckks_ir
from hec.compiler.alternative import Alternative
from hec.compiler.bootstrapping import DEGREES
from hec.compiler.checked_json import damaged
from hec.compiler.ckks_ir import DiagonalMatrix, EncryptionParameters, Instruction, Program
from hec.compiler.client_shapes import follow
from hec.compiler.errors import InvalidProgram, fail
from hec.compiler.key_manifest import KeyManifest, needed_keys
from hec.compiler.layout import UNUSED, Layout
from hec.compiler.plan_parts import ClientPart, PlanFit, PlanInput, PlanOutput, ServerPart
from hec.compiler.security import is_secure
from hec.compiler.tensor_ir import ClientStep, Fit
from hec.compiler.typing_rules import infer_types, operands

RING_DEGREES: Final = tuple(2**i for i in range(10, 18))
MAX_PRIMES: Final = 64
MAX_PRIME: Final = 2**61  # Microsoft SEAL's limit
MAX_TRANSFORM_LEVELS: Final = 8  # of a bootstrap's transforms; OpenFHE's use is 1 to 4
MAX_LOG_SCALE: Final = 1000.0  # bits; float64 ends at 1024
MAX_ELEMENTS: Final = 2**31  # of one tensor
MAX_POINTS: Final = 1000  # of a histogram or a curve


def check_client(part: ClientPart, place: str) -> None:
    """Raise `CompileError` at `place` if the client part could not come from a compilation."""
    check_parameters(part.parameters, place)
    _check_keys(part.keys, part.parameters, place)
    for tensors in (part.inputs, part.outputs):
        names = [tensor.name for tensor in tensors]
        _require(len(names) > 0, "there are no inputs or no outputs", place)
        _require(len(set(names)) == len(names), "two tensors have one name", place)
        for tensor in tensors:
            _check_tensor(tensor, part.parameters, place)


def check_server(part: ServerPart, client: ClientPart, place: str) -> None:
    """Raise `CompileError` at `place` unless the Program is valid and fits the client part."""
    program = part.program
    _require(program.parameters == client.parameters, "its parts have other parameters", place)
    count = len(program.instructions)
    _require(len(part.labels) == count, "labels are missing", place)
    _require(len(part.magnitudes) in (0, count), "magnitudes are missing", place)
    _require(all(size >= 0 for size in part.magnitudes), "a magnitude is negative", place)
    _require(len(part.deviations) in (0, count), "deviations are missing", place)
    _require(all(size >= 0 for size in part.deviations), "a deviation is negative", place)
    _check_approximation(part, place)
    for position, instruction in enumerate(program.instructions):
        _check_instruction(instruction, program, f"{place}: instruction {position}")
    _check_operands(program, place)
    try:
        infer_types(program)
    except (InvalidProgram, ValueError, OverflowError) as error:
        raise damaged(f"its program is invalid ({error})", place) from None
    _check_tensors(part, count, place)
    for alternative in part.advice or ():
        _check_alternative(alternative, place)
    for fit in part.fits:
        _check_fit(fit, program, f"{place}: fit of '{fit.label}'")
    _check_interface(program, client, place)
    message = "its keys are not those that its program uses"
    _require(needed_keys(program) == client.keys, message, place)


def _check_approximation(part: ServerPart, place: str) -> None:
    count, known = len(part.program.instructions), part.calibrated
    _require(len(part.approximation) in (0, count), "errors of approximation are missing", place)
    _require(len(part.peaks) in (0, count), "peaks are missing", place)
    _require(all(size >= 0 for size in part.peaks), "a peak is negative", place)
    _require(len(part.coherence) in (0, count), "coherences are missing", place)
    _require(all(size >= 0 for size in part.coherence), "a coherence is negative", place)
    _require(len(part.reaches) in (0, count), "reaches are missing", place)
    _require(all(size >= 1 for size in part.reaches), "a reach is below 1", place)
    message = "an error of approximation is negative"
    _require(all(size >= 0 for size in part.approximation), message, place)
    if known is not None:
        _require(known.samples > 0, f"it was calibrated on {known.samples} samples", place)
        _require(known.error >= 0, "the error on the calibration samples is negative", place)
        agreement = 1.0 if known.agreement is None else known.agreement
        _require(0 <= agreement <= 1, f"an agreement of {agreement:g} is no share", place)


def _check_portrait(fit: Fit, place: str) -> None:
    if (seen := fit.histogram) is not None:
        fits = seen.low < seen.high and 1 <= len(seen.counts) <= MAX_POINTS
        _require(fits and min(seen.counts) >= 0, "a histogram is absurd", place)
    if (curve := fit.curve) is not None:
        points = len(curve.x)
        fits = 2 <= points <= MAX_POINTS and len(curve.exact) == len(curve.fitted) == points
        ascends = all(left < right for left, right in pairwise(curve.x))
        _require(fits and ascends, "a curve is absurd", place)


def _check_tensors(part: ServerPart, count: int, place: str) -> None:
    known = len(part.tensors)
    _require(len(part.sources) in (0, count), "sources are missing", place)
    fits = all(0 <= source < known for source in part.sources)
    _require(fits, "a source is not one of its tensors", place)
    sizes = [size for tensor in part.tensors for size in tensor.shape]
    _require(all(0 <= size < MAX_ELEMENTS for size in sizes), "a shape is absurd", place)


def _check_alternative(told: Alternative, place: str) -> None:
    sizes = (told.seconds, told.seconds_ratio, told.memory, told.memory_ratio)
    _require(min(sizes) > 0 and told.samples >= 0, "an alternative costs nothing", place)


def _check_fit(item: PlanFit, program: Program, place: str) -> None:
    fit = item.fit
    for low, high in (fit.interval, fit.observed, fit.bounded or fit.interval):
        _require(low <= high, "an interval is upside down", place)
    _check_portrait(fit, place)
    _require(item.radius > 0, "the radius of an interval is not positive", place)
    if item.value is None:
        return
    known = 0 <= item.value < len(program.instructions)
    _require(known, f"there is no value {item.value}", place)
    shape = (infer_types(program)[item.value].blocks, program.parameters.slots)
    _require(item.used.shape == shape, "its slots are not those of its value", place)


def check_parameters(parameters: EncryptionParameters, place: str) -> None:
    """Raise `CompileError` unless the parameters are well formed, and secure as they claim."""
    degree = parameters.ring_degree
    primes = (*parameters.primes, *parameters.special_primes)
    _require(degree in RING_DEGREES, f"the ring degree is {degree}", place)
    _require(2 <= len(primes) <= MAX_PRIMES, f"there are {len(primes)} primes", place)
    _require(len(set(primes)) == len(primes), "a prime occurs twice", place)
    for prime in primes:
        fits = 1 < prime < MAX_PRIME and prime % (2 * degree) == 1
        _require(fits, f"{prime} is not a prime for ring degree {degree}", place)
    batch, most = parameters.batch, parameters.ring_slots
    fits = 1 <= batch <= most and batch & (batch - 1) == 0
    _require(fits, f"no {batch} images share the slots of a ciphertext", place)
    _check_refreshing(parameters, place)
    if not is_secure(degree, parameters.modulus_bits, parameters.security):
        raise fail(
            f"The encryption parameters do not reach {parameters.security} bits of security: "
            f"a modulus of {parameters.modulus_bits:.0f} bits with ring degree {degree}",
            place,
            "do not use this file; compile the model again",
        )


def _check_refreshing(parameters: EncryptionParameters, place: str) -> None:
    digits, how = parameters.digits, parameters.bootstrapping
    _require(0 <= digits <= len(parameters.primes), f"there are {digits} digits", place)
    if how is None:
        return
    slots, most = how.slots, parameters.slots
    _require(parameters.batch == 1, "a bootstrap refreshes one image at a time", place)
    fits = 1 <= slots <= most and slots & (slots - 1) == 0
    _require(fits and digits > 0, f"no bootstrap refreshes {slots} slots", place)
    fits = all(1 <= levels <= MAX_TRANSFORM_LEVELS for levels in how.levels)
    _require(fits, f"no bootstrap has levels {how.levels}", place)
    fits = all(0 <= steps <= most for steps in how.baby_steps)
    _require(fits, f"no bootstrap has baby steps {how.baby_steps}", place)


def _check_keys(keys: KeyManifest, parameters: EncryptionParameters, place: str) -> None:
    steps = keys.rotations
    _require(tuple(sorted(set(steps))) == steps, "the rotation steps are not sorted", place)
    fit = all(1 <= step < parameters.slots for step in steps)
    _require(fit, f"a rotation step is outside [1, {parameters.slots})", place)


def _check_tensor(
    tensor: PlanInput | PlanOutput, parameters: EncryptionParameters, place: str
) -> None:
    place = f"{place}: tensor '{tensor.name}'"
    _require(all(1 <= size < MAX_ELEMENTS for size in tensor.shape), "a shape is absurd", place)
    _require(prod(tensor.shape) < MAX_ELEMENTS, "a shape is absurd", place)
    _check_layout(tensor.layout, prod(tensor.shape), parameters.slots, place)
    _check_type(tensor.level, tensor.scale, parameters, place)
    if isinstance(tensor, PlanInput):
        _require(tensor.divisor > 0, "the divisor is not positive", place)
        low, high = tensor.interval or (0.0, 0.0)
        _require(low <= high, "the interval is upside down", place)
        after = _steps_lead_to(tensor.shape, tensor.prologue, place)
        _require(after == tensor.shape, "steps before encryption change the shape", place)
    else:
        _steps_lead_to(tensor.shape, tensor.epilogue, place)
        _check_complete(tensor.layout, prod(tensor.shape), place)


def _steps_lead_to(
    shape: tuple[int, ...], steps: tuple[ClientStep, ...], place: str
) -> tuple[int, ...]:
    try:
        return follow(shape, steps).shape
    except ValueError as error:
        raise damaged(f"the client's steps do not fit ({error})", place) from None


def _check_layout(layout: Layout, count: int, slots: int, place: str) -> None:
    _check_slots(layout, slots, place)
    low, high = int(layout.elements.min()), int(layout.elements.max())
    _require(UNUSED <= low and 0 <= high < count, "a layout holds foreign elements", place)


def _check_complete(layout: Layout, count: int, place: str) -> None:
    message = f"a layout does not hold all {count} elements of its tensor"
    _require(layout.holds_all(count), message, place)


def _check_type(level: int, scale: float, parameters: EncryptionParameters, place: str) -> None:
    fits = 0 <= level <= parameters.top_level
    _require(fits, f"level {level} is outside [0, {parameters.top_level}]", place)
    _check_scale(scale, place)


def _check_scale(scale: float, place: str) -> None:
    fits = scale >= 1 and log2(scale) < MAX_LOG_SCALE
    _require(fits, f"a scale of {scale:g} is impossible", place)


def _check_operands(program: Program, place: str) -> None:
    """An output is no value; the typing rules check the rest."""
    ends = {i for i, x in enumerate(program.instructions) if isinstance(x, ckks_ir.Output)}
    for position, instruction in enumerate(program.instructions):
        fits = ends.isdisjoint(operands(instruction))
        _require(fits, "an output is read again", f"{place}: instruction {position}")


def _check_instruction(instruction: Instruction, program: Program, place: str) -> None:
    slots = program.parameters.slots
    match instruction:
        case ckks_ir.Input():
            _check_slots(instruction.layout, slots, place)
            _check_type(instruction.level, instruction.scale, program.parameters, place)
        case ckks_ir.Output():
            _check_slots(instruction.layout, slots, place)
        case ckks_ir.LinearTransform():
            _check_scale(instruction.plain_scale, place)
            _check_matrix(instruction.matrix, slots, place)
            _require(1 <= instruction.baby_step <= slots, "the baby step is out of range", place)
            fits = -slots <= instruction.baby_start <= slots
            _require(fits, "the first baby step is out of range", place)
            _require(0 <= instruction.twin < slots, "the twin is out of range", place)
        case ckks_ir.RotateSum():
            fits = all(0 < abs(step) < slots for step in instruction.steps)
            _require(fits, "a rotation step is out of range", place)
        case ckks_ir.Polynomial():
            _check_scale(instruction.scale, place)
            _check_coefficients(instruction.coefficients.shape, slots, place)
        case ckks_ir.Bootstrap():
            shape = instruction.coefficients.shape
            fits = len(shape) == 2 and shape[0] == 2 and shape[1] - 1 in DEGREES
            _require(fits, "the coefficients of a bootstrap have the wrong shape", place)
        case ckks_ir.AddPlain():
            shape = instruction.values.shape
            _require(len(shape) == 2 and shape[1] == slots, "a vector has no slots", place)
        case _:
            pass  # operands and levels are left to the typing rules


def _check_slots(layout: Layout, slots: int, place: str) -> None:
    shape = layout.elements.shape
    _require(len(shape) == 2 and shape[0] >= 1 and shape[1] == slots, "a layout is empty", place)


def _check_matrix(matrix: DiagonalMatrix, slots: int, place: str) -> None:
    index, values = matrix.index, matrix.values
    fits = index.ndim == 2 and index.shape == (values.shape[0], 3) and matrix.slots == slots
    _require(fits, "the diagonals of a matrix do not fit their index", place)
    _require(slots % values.shape[1] == 0, "the period of a matrix does not divide", place)
    _require(values.dtype == np.float32, "the diagonals of a matrix are not float32", place)
    limits = np.array([matrix.out_blocks, matrix.in_blocks, slots])
    _require(0 < limits.min() and limits.max() < MAX_ELEMENTS, "a matrix has no blocks", place)
    inside = bool((index >= [0, 0, -slots]).all() and (index < limits).all())
    _require(inside, "a diagonal of a matrix is out of range", place)
    rows = len(np.unique(index[:, 0]))
    _require(rows == matrix.out_blocks, "a ciphertext of a matrix has no diagonal", place)


def _check_coefficients(shape: tuple[int, ...], slots: int, place: str) -> None:
    fits = len(shape) in (1, 3) and shape[0] >= 2 and (len(shape) == 1 or shape[2] == slots)
    _require(fits, "the coefficients of a polynomial have the wrong shape", place)


def _check_interface(program: Program, client: ClientPart, place: str) -> None:
    """The client part describes the Input and Output instructions, in their order."""
    types = infer_types(program)
    inputs = [x for x in program.instructions if isinstance(x, ckks_ir.Input)]
    outputs = [x for x in program.instructions if isinstance(x, ckks_ir.Output)]
    message = "its parts describe different inputs or outputs"
    same = len(inputs) == len(client.inputs) and len(outputs) == len(client.outputs)
    _require(same, message, place)
    for x, mine in zip(inputs, client.inputs, strict=True):
        theirs = (mine.name, mine.level, mine.scale, mine.divisor)
        same = (x.name, x.level, x.scale, x.divisor) == theirs
        _require(same and _equal(x.layout, mine.layout), message, place)
    for y, its in zip(outputs, client.outputs, strict=True):
        kind = types[y.operand]
        same = (y.name, kind.level, y.factor) == (its.name, its.level, its.factor)
        same = same and isclose(kind.scale, its.scale, rel_tol=1e-9)
        fits = kind.blocks == its.layout.blocks and _equal(y.layout, its.layout)
        _require(same and fits, message, place)


def _equal(left: Layout, right: Layout) -> bool:
    return np.array_equal(left.elements, right.elements)


def _require(condition: bool, message: str, place: str) -> None:
    if not condition:
        raise damaged(message, place)
