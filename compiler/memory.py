"""How much memory a Program takes: on the server, and on the client that makes its keys.

Keys and encoded matrices are arrays of limbs, so they are counted, not fitted. Source of what a
bootstrap keeps: OpenFHE 1.6.1, `EvalFEFuncBootstrapSetup`, measured 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hec.compiler.bootstrap_keys import Stage, coeffs_to_slots, key_count, slots_to_coeffs
from hec.compiler.ckks_ir import (
    LIMB_BYTES,
    AddPlain,
    Bootstrapping,
    EncryptionParameters,
    LinearTransform,
    Program,
    ValueType,
)
from hec.compiler.errors import fail
from hec.compiler.kernels import diagonal_bytes
from hec.compiler.key_manifest import KEYS_IN_GROUP, KeyManifest, needed_keys
from hec.compiler.live_ciphertexts import live_bytes
from hec.compiler.liveness import bytes_alive
from hec.compiler.message_sizes import stored_bytes
from hec.compiler.pairing import products
from hec.compiler.typing_rules import infer_types

DEFAULT_MAX_RAM: Final = 10.9e9  # bytes that a server takes: what a laptop of 16 GB can spare
_SEAL_PROCESS_BYTES: Final = 62 * 10**6  # interpreter, numpy, TenSEAL; measured 2026-11-27
_PROCESS_BYTES: Final = 105 * 10**6  # with OpenFHE, and its tables; measured 2026-11-27
_UNPACKING: Final = 2.5  # times the keys of a group, as they travel; measured 2026-11-27
_TABLES: Final = 4  # numbers that SEAL keeps for each coefficient of a limb: roots of unity
_COMPLEX_BYTES: Final = 16  # OpenFHE keeps the values of a plaintext, too
_MEMINFO: Final = Path("/proc/meminfo")
_GROUP_LIMITS: Final = (  # of a container: limit, and what is used of it
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


@dataclass(frozen=True)
class Memory:
    """Bytes that a process holds at its peak, by what they are for."""

    keys: int  # evaluation keys
    bootstrapping: int  # encoded matrices of the bootstrap
    working: int  # ciphertexts at work, and the process itself
    diagonals: int = 0  # encoded weights, all of them; a server short of memory keeps fewer
    loading: int = 0  # the process itself, and the file of keys while it is read

    @property
    def least(self) -> int:
        """The peak where no encoded weight is kept."""
        return self.keys + self.bootstrapping + max(self.working, self.loading)

    @property
    def peak(self) -> int:
        """The peak where every encoded weight is kept."""
        held = self.keys + self.bootstrapping
        return held + max(self.working + self.diagonals, self.loading)


def server_memory(program: Program) -> Memory:
    """Return what a server of `program` holds."""
    parameters, types = program.parameters, infer_types(program)
    if not parameters.digits:
        return _seal_memory(program, types)
    return Memory(
        keys_bytes(parameters, needed_keys(program)),
        setup_bytes(parameters),
        _PROCESS_BYTES
        + _weight_bytes(program)
        + _bootstrap_working(parameters)
        + max(bytes_alive(program, types), default=0),
        encoded_bytes(program, types),
    )


def _seal_memory(program: Program, types: Sequence[ValueType]) -> Memory:
    parameters, keys = program.parameters, needed_keys(program)
    process = _SEAL_PROCESS_BYTES + _tables_bytes(parameters) + _weight_bytes(program)
    return Memory(
        keys_bytes(parameters, keys),
        0,
        process + live_bytes(program),
        encoded_bytes(program, types),
        process + stored_key_bytes(parameters, keys) + _unpacking_bytes(parameters, keys),
    )


def _unpacking_bytes(parameters: EncryptionParameters, keys: KeyManifest) -> int:
    """Return what SEAL's buffers for a group take at most, less the keys that are to come."""
    each, rotations = one_key_bytes(parameters), len(keys.rotations)
    groups = range(0, rotations, KEYS_IN_GROUP)
    sizes = [min(KEYS_IN_GROUP, rotations - start) for start in groups]
    if keys.relinearization:  # it comes first
        sizes = [1, *sizes]
    taken, to_come = [0], sum(sizes)
    for size in sizes:
        to_come -= size
        buffers = _UNPACKING * size * each / 2  # half is a seed
        taken.append(round(buffers - to_come * each))
    return max(taken)


def _tables_bytes(parameters: EncryptionParameters) -> int:
    """Return the size of SEAL's tables: each level has those of its primes, and of as many more."""
    primes = len(parameters.primes) + len(parameters.special_primes)
    limbs = sum(2 * count + 1 for count in range(1, primes + 1))
    return _TABLES * limbs * _limb_bytes(parameters)


def stored_key_bytes(parameters: EncryptionParameters, keys: KeyManifest) -> int:
    """Return about how large the file of evaluation keys is.

    A key of SEAL has one pair of polynomials per prime, of which one polynomial travels as a seed;
    OpenFHE writes keys as they are in memory.
    """
    if parameters.digits:
        return keys_bytes(parameters, keys)
    chain = (*parameters.primes, *parameters.special_primes)
    each = len(parameters.primes) * stored_bytes(chain, parameters.ring_degree)
    return count_keys(parameters, keys) * each


def encoded_bytes(program: Program, types: Sequence[ValueType]) -> int:
    """Return the size of all encoded weights."""
    return sum(_encoded(x, types, program.parameters) for x in program.instructions)


def kept_diagonals(program: Program, room: float) -> dict[int, int]:
    """Return how many encoded diagonals of each matrix fit in `room` bytes, by position.

    The others are encoded at every run. SEAL encodes each as it is used, so that all the room is
    for those that are kept: those of few limbs, of which most fit. OpenFHE encodes one matrix ahead
    of its use, so that room is left for the largest; what is kept are the first whole matrices.
    """
    types = infer_types(program)
    sizes, counts = dict[int, int](), dict[int, int]()
    for position, x in enumerate(program.instructions):
        if isinstance(x, LinearTransform):
            sizes[position] = _encoded(x, types, program.parameters)
            counts[position] = products(x.matrix, x.twin).first.size
    if sum(sizes.values()) <= room:
        return counts
    keep = _whole_matrices if program.parameters.digits else _single_diagonals
    return keep(sizes, counts, room)


def _whole_matrices(
    sizes: Mapping[int, int], counts: Mapping[int, int], room: float
) -> dict[int, int]:
    room -= max(sizes.values())
    kept = dict.fromkeys(sizes, 0)
    for position, size in sizes.items():
        if size <= room:
            kept[position] = counts[position]
            room -= size
    return kept


def _single_diagonals(
    sizes: Mapping[int, int], counts: Mapping[int, int], room: float
) -> dict[int, int]:
    each = {position: size / max(1, counts[position]) for position, size in sizes.items()}
    kept = dict.fromkeys(sizes, 0)
    for position in sorted(each, key=each.__getitem__):
        if each[position]:  # weights that are numbers are never kept, and take nothing
            kept[position] = max(0, min(counts[position], int(room / each[position])))
            room -= kept[position] * each[position]
    return kept


def require_memory(memory: Memory, limit: float, place: str, who: str = "the server") -> None:
    """Raise `CompileError` if `memory` is more than `limit` or than this machine has free."""
    free = free_memory()
    least = memory.least
    if free is not None and free < min(limit, least):
        raise fail(
            f"{who} needs {least / 1e9:.1f} GB, {(least - free) / 1e9:.1f} GB more than this"
            " machine has free",
            place,
            f"run it where {least / 1e9:.1f} GB are free, or compile with"
            f" --max-ram {_whole_gigabytes(free)}G",
        )
    if least > limit:
        raise fail(
            f"{who} needs {least / 1e9:.1f} GB, {(least - limit) / 1e9:.1f} GB more than it may"
            " hold",
            place,
            f"allow --max-ram {_whole_gigabytes(least) + 1}G, or compile with"
            f" --max-ram {limit / 1e9:.3g}G",
        )


def _whole_gigabytes(size: float) -> int:
    return int(size / 1e9)


def client_memory(parameters: EncryptionParameters, keys: KeyManifest) -> Memory:
    """Return what a client holds while it makes its keys."""
    return Memory(keys_bytes(parameters, keys), setup_bytes(parameters), _PROCESS_BYTES)


def keys_bytes(parameters: EncryptionParameters, keys: KeyManifest) -> int:
    """Return the size of all evaluation keys in memory; OpenFHE's file of them is as large."""
    return count_keys(parameters, keys) * one_key_bytes(parameters)


def count_keys(parameters: EncryptionParameters, keys: KeyManifest) -> int:
    """Return how many evaluation keys there are, those of the bootstrap included."""
    count = len(keys.rotations) + keys.relinearization
    if keys.bootstrapping and parameters.bootstrapping is not None:
        count += key_count(parameters.ring_degree, parameters.bootstrapping)
    return count


def one_key_bytes(parameters: EncryptionParameters) -> int:
    """Return the size of one rotation key: a pair of polynomials for each digit."""
    digits = parameters.digits or len(parameters.primes)
    return 2 * digits * _top_limbs(parameters) * _limb_bytes(parameters)


def setup_bytes(parameters: EncryptionParameters) -> int:
    """Return the size of the bootstrap's encoded matrices, 0 where there are none."""
    how = parameters.bootstrapping
    if how is None:
        return 0
    top = len(parameters.primes)
    lowest = len(slots_to_coeffs(how)) + 1
    return _stages_bytes(coeffs_to_slots(how), top, parameters, how) + _stages_bytes(
        slots_to_coeffs(how), lowest, parameters, how
    )


def _stages_bytes(
    stages: Sequence[Stage], limbs: int, parameters: EncryptionParameters, how: Bootstrapping
) -> int:
    """Return the size of encoded stages, the first at `limbs`; one limb more holds coefficients."""
    extra = len(parameters.special_primes) + 1
    return sum(
        stage.diagonals
        * ((limbs - number + extra) * _limb_bytes(parameters) + how.slots * _COMPLEX_BYTES)
        for number, stage in enumerate(stages)
    )


def free_memory() -> int | None:
    """Return the bytes that this process may still take; None where the system does not tell."""
    found = [limit for limit in (_available(), *map(_group_rest, _GROUP_LIMITS)) if limit]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((1024 * int(number) for number in kilobytes), None)


def _group_rest(files: tuple[str, str]) -> int | None:
    """Return what a control group has left; None without a limit."""
    try:
        limit, used = (Path(file).read_text(encoding="ascii").strip() for file in files)
        return max(1, int(limit) - int(used))
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _limb_bytes(parameters: EncryptionParameters) -> int:
    return parameters.ring_degree * LIMB_BYTES


def _top_limbs(parameters: EncryptionParameters) -> int:
    return len(parameters.primes) + len(parameters.special_primes)


def _bootstrap_working(parameters: EncryptionParameters) -> int:
    """Return the size of the baby steps of the largest stage."""
    how = parameters.bootstrapping
    if how is None:
        return 0
    babies = max(stage.babies for stage in coeffs_to_slots(how))
    return 2 * babies * _top_limbs(parameters) * _limb_bytes(parameters)


def _weight_bytes(program: Program) -> int:
    """Return the size of the matrices as the plan has them, not encoded."""
    matrices = {
        id(x.matrix): x.matrix for x in program.instructions if isinstance(x, LinearTransform)
    }
    return sum(
        m.index.nbytes + m.values.data.nbytes + m.values.indices.nbytes for m in matrices.values()
    )


def _encoded(
    instruction: object, types: Sequence[ValueType], parameters: EncryptionParameters
) -> int:
    # OpenFHE keeps the complex values of a plaintext beside its limbs: as large as one more limb.
    extra = 1 if parameters.digits else 0
    match instruction:
        case LinearTransform():
            level = types[instruction.operand].level + extra
            return diagonal_bytes(instruction, level, parameters.batch)
        case AddPlain():
            x = types[instruction.operand]
            return x.blocks * (x.level + 1 + extra) * _limb_bytes(parameters)
        case _:
            return 0
