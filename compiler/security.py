"""How large a modulus may be: the hard gate of every compilation.

Source: Albrecht et al., "Homomorphic Encryption Security Standard", HomomorphicEncryption.org,
November 2018, Table 1 (classical attacks, ternary secret); the values that Microsoft SEAL enforces.
For ring degree 65536, which that table leaves out: Bossuat et al., "Security Guidelines for
Implementing Homomorphic Encryption", IACR Communications in Cryptology 1(4), 2025 (ePrint
2024/463); the value that OpenFHE enforces.
"""

from __future__ import annotations

from typing import Final

# Largest log2 of the whole modulus (special prime included), in bits.
MAX_MODULUS_BITS: Final[dict[int, dict[int, int]]] = {
    128: {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881, 65536: 1747},
    192: {1024: 19, 2048: 37, 4096: 75, 8192: 152, 16384: 305, 32768: 611},
    256: {1024: 14, 2048: 29, 4096: 58, 8192: 118, 16384: 237, 32768: 476},
}


def max_modulus_bits(ring_degree: int, security: int) -> int:
    """Return the bits that a modulus may have, or 0 where no value is standardised."""
    return MAX_MODULUS_BITS.get(security, {}).get(ring_degree, 0)


def is_secure(ring_degree: int, modulus_bits: float, security: int) -> bool:
    """Tell whether a modulus of that many bits reaches `security` bits."""
    return modulus_bits <= max_modulus_bits(ring_degree, security)
