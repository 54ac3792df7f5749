"""What a report tells of the CKKS instance: parameters, inputs and outputs, evaluation keys."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Annotated, Final

from hec.compiler.bootstrap_keys import key_count
from hec.compiler.ckks_ir import EncryptionParameters
from hec.compiler.memory import count_keys, keys_bytes, stored_key_bytes
from hec.compiler.message_sizes import ciphertext_bytes
from hec.compiler.plan_parts import ClientPart, PlanInput, PlanOutput
from hec.compiler.security import max_modulus_bits

SECURITY_SOURCE: Final = "Homomorphic Encryption Security Standard, 2018, Table 1"


@dataclass(frozen=True)
class ParametersReport:
    """The CKKS instance, and the rule that it is held to."""

    ring_degree: Annotated[int, "N; a ciphertext has N/2 slots"]
    prime_bits: Annotated[tuple[float, ...], "size of each prime, from level 0 upwards"]
    special_prime_bits: Annotated[float, "size of the primes that only key switches use"]
    modulus_bits: Annotated[float, "size of the whole modulus, special primes included"]
    modulus_limit_bits: Annotated[int, "the largest modulus that this ring may have"]
    security_bits: Annotated[int, "security level that the limit stands for"]
    security_source: Annotated[str, "where the limit is published"]
    batch: Annotated[int, "images that share every ciphertext, and are predicted at once"] = 1


@dataclass(frozen=True)
class TensorReport:
    """An input or output, and what travels for it."""

    name: Annotated[str, "in the ONNX model"]
    shape: Annotated[tuple[int, ...], "of the tensor; the batch axis, if any, has size 1"]
    level: Annotated[int, "rescalings left in its ciphertexts"]
    ciphertexts: Annotated[int, "how many hold it"]
    bytes: Annotated[int, "of the message that carries it, about"]
    interval: Annotated[tuple[float, float] | None, "of an input's elements, in calibration"]
    classes: Annotated[
        tuple[int | str, ...] | None, "labels: the values of an output, or names of its columns"
    ]


@dataclass(frozen=True)
class KeysReport:
    """The evaluation keys, by kind: the client makes them once, and sends them once."""

    rotations: Annotated[int, "keys of single rotation steps, outside of bootstraps"]
    relinearization: Annotated[int, "1 if ciphertexts are multiplied with each other, else 0"]
    bootstrapping: Annotated[int, "keys of a bootstrap, of which all rotations are composed"]
    each_bytes: Annotated[int, "one key in a file, about"]
    memory_bytes: Annotated[int, "all keys in the server's memory"]


def parameters_report(chosen: EncryptionParameters) -> ParametersReport:
    """Return the sizes of the instance and its limit."""
    return ParametersReport(
        chosen.ring_degree,
        tuple(log2(prime) for prime in chosen.primes),
        sum(map(log2, chosen.special_primes)),
        chosen.modulus_bits,
        max_modulus_bits(chosen.ring_degree, chosen.security),
        chosen.security,
        SECURITY_SOURCE,
        chosen.batch,
    )


def tensor_report(item: PlanInput | PlanOutput, parameters: EncryptionParameters) -> TensorReport:
    """Return what travels for an input or output; a fresh ciphertext is one polynomial."""
    count, polynomials = item.layout.blocks, 1 if isinstance(item, PlanInput) else 2
    size = count * ciphertext_bytes(parameters, item.level, polynomials)
    interval = item.interval if isinstance(item, PlanInput) else None
    classes = None if isinstance(item, PlanInput) else item.classes
    names = None if classes is None else classes.names
    return TensorReport(item.name, item.shape, item.level, count, size, interval, names)


def keys_report(client: ClientPart) -> KeysReport:
    """Return how many keys of each kind there are, and their sizes."""
    parameters, keys = client.parameters, client.keys
    how, count = parameters.bootstrapping, count_keys(parameters, keys)
    refreshing = 0
    if keys.bootstrapping and how is not None:
        refreshing = key_count(parameters.ring_degree, how)
    each = key_bytes(client) // count if count else 0
    return KeysReport(
        len(keys.rotations),
        int(keys.relinearization),
        refreshing,
        each,
        keys_bytes(parameters, keys),
    )


def key_bytes(client: ClientPart) -> int:
    """Return about how large the file of evaluation keys is."""
    return stored_key_bytes(client.parameters, client.keys)
