"""Evaluation keys in OpenFHE's own tables, which belong to the process and go by key tag.

They are read from the archives in a key file, several gigabytes, without a second copy in memory.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from hec.compiler.bootstrap_keys import rotation_steps
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.key_manifest import KeyManifest
from hec.runtime.openfhe_context import OpenfheContext
from hec.runtime.openfhe_library import fhe

_LITTLE_ENDIAN: Final = b"\x01"
_USERS: Counter[str] = Counter()  # of the keys of each tag


@dataclass(frozen=True, eq=False)
class EvaluationKeys:
    """The keys of one client in OpenFHE's tables; they leave with the last of these."""

    tag: str
    rotations: frozenset[int]  # left steps of the slots of an image, in [1, slots)
    has_product: bool

    def __post_init__(self) -> None:
        _USERS[self.tag] += 1
        weakref.finalize(self, _release, self.tag)


def _release(tag: str) -> None:
    _USERS[tag] -= 1
    if not _USERS[tag]:
        forget(tag)


def held(context: OpenfheContext, tag: str) -> EvaluationKeys:
    """Return the keys that OpenFHE's tables hold for `tag`."""
    steps = _steps(context.parameters.ring_degree)
    batch = context.parameters.batch
    turns = (steps[index] for index in automorphisms(tag) if index in steps)
    rotations = frozenset(turn // batch for turn in turns if turn % batch == 0)
    product = fhe.CryptoContext.GetAllEvalMultKeys().get(tag)  # a list of one key
    return EvaluationKeys(tag, rotations - {0}, bool(product))


def needed(parameters: EncryptionParameters, manifest: KeyManifest) -> list[int]:
    """Return the automorphisms that keys are needed for, sorted.

    Where a bootstrap misses one, OpenFHE ends the process.
    """
    how, order = parameters.bootstrapping, 2 * parameters.ring_degree
    steps, others = frozenset(manifest.rotations), frozenset[int]()
    if manifest.bootstrapping and how is not None:
        steps |= rotation_steps(parameters.ring_degree, how)
        others = frozenset(order - back for back in (1, 2, 4))  # conjugation; changes of secret
    return sorted(others | {pow(5, step * parameters.batch, order) for step in steps})


def is_held(tag: str) -> bool:
    """Tell whether OpenFHE's tables hold keys for `tag`."""
    return bool(automorphisms(tag)) or tag in fhe.CryptoContext.GetAllEvalMultKeys()


def automorphisms(tag: str) -> list[int]:
    """Return the indices of the automorphisms that OpenFHE holds keys for."""
    return list(fhe.CryptoContext.GetExistingEvalAutomorphismKeyIndices(tag))


def forget(tag: str) -> None:
    """Take the keys of `tag` out of OpenFHE's tables, which can only be emptied as a whole."""
    rotations = fhe.CryptoContext.GetAllEvalAutomorphismKeys()
    if rotations.pop(tag, None) is not None:
        fhe.CryptoContext.ClearEvalAutomorphismKeys()
        for other, keys in rotations.items():
            fhe.CryptoContext.InsertEvalAutomorphismKey(keys, other)
    products = fhe.CryptoContext.GetAllEvalMultKeys()
    if products.pop(tag, None) is not None:
        fhe.ClearEvalMultKeys()
        for other, vector in products.items():
            fhe.CryptoContext.InsertEvalMultKey(vector, other)


def write_rotations(path: Path, tag: str) -> int:
    """Write the rotation keys of `tag` to a file; return its bytes, 0 where there are none."""
    if not automorphisms(tag):
        path.write_bytes(b"")
    elif not fhe.CryptoContext.SerializeEvalAutomorphismKey(str(path), fhe.BINARY, tag):
        raise OSError(f"OpenFHE could not write {path}")
    return path.stat().st_size


def product_key(tag: str) -> bytes:
    """Return the relinearization key of `tag`, b"" where there is none."""
    if tag not in fhe.CryptoContext.GetAllEvalMultKeys():
        return b""
    return bytes(fhe.SerializeEvalMultKeyString(fhe.BINARY, tag))


def archive_start(tag: str) -> bytes:
    """Return how OpenFHE's archives start that hold keys of `tag` and of no other."""
    name = tag.encode()
    numbers = (1, len(name))  # of tags; of bytes
    return _LITTLE_ENDIAN + b"".join(number.to_bytes(8, "little") for number in numbers) + name


def read(path: Path, product: bytes, has_rotations: bool) -> None:
    """Read archives into OpenFHE's tables: of rotation keys, at the start of `path`, and another.

    The context exists, so the tables that a new one would need are not computed. Raise whatever
    OpenFHE raises.
    """
    fhe.DisablePrecomputeCRTTablesAfterDeserializaton()
    try:
        if has_rotations and not fhe.CryptoContext.DeserializeEvalAutomorphismKey(
            str(path), fhe.BINARY
        ):
            raise RuntimeError("it cannot be read")
        if product:
            fhe.DeserializeEvalMultKeyString(product, fhe.BINARY)
    finally:
        fhe.EnablePrecomputeCRTTablesAfterDeserializaton()


def contexts() -> int:
    """Return how many contexts this process has: foreign archives would bring their own."""
    return len(fhe.GetAllContexts())


@lru_cache(maxsize=8)
def _steps(ring_degree: int) -> dict[int, int]:
    """Return the rotation that each automorphism is: left by k slots is 5^k modulo 2N."""
    steps: dict[int, int] = {}
    index = 1
    for step in range(ring_degree // 2):
        steps[index] = step
        index = index * 5 % (2 * ring_degree)
    return steps
