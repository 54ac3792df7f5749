"""How large the messages of client and server are: ciphertexts and polynomials in a file."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from hec.compiler.ckks_ir import LIMB_BYTES, EncryptionParameters


def ciphertext_bytes(parameters: EncryptionParameters, level: int, polynomials: int) -> int:
    """Return about how large a ciphertext is in a file; a fresh one travels as one polynomial."""
    chain = parameters.primes[: level + 1]
    if parameters.digits:  # OpenFHE has neither seeds nor compression
        return 2 * len(chain) * parameters.ring_degree * LIMB_BYTES
    return polynomials * stored_bytes(chain, parameters.ring_degree)


def stored_bytes(chain: Sequence[int], ring_degree: int) -> int:
    """Return the bytes of one polynomial after SEAL's compression of 64-bit words.

    The coder knows how often each byte occurs, and nothing of its place: a word with z zero bytes
    costs the entropy of which bytes are zero on top of the bits of the others.
    """
    return round(ring_degree / 8 * sum(_stored_bits(prime) for prime in chain))


def _stored_bits(prime: int) -> float:
    zero = (64 - prime.bit_length()) // 8 / 8  # share of bytes
    entropy = -sum(share * log2(share) for share in (zero, 1 - zero) if share)
    return min(64.0, log2(prime) + 8 * entropy)
