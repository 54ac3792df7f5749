"""What the user asks for: backend, precision, error target, security. Knobs of passes live here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BackendName = Literal["auto", "tenseal", "openfhe"]
SecurityBits = Literal[128, 192, 256]
MaxPoolChoice = Literal["approximate", "average"]


@dataclass(frozen=True)
class Target:
    """Options of a compilation; every pass reads them, none changes them."""

    backend: BackendName = "auto"
    security: SecurityBits = 128
    precision: float | None = None  # bits of the outputs' absolute error; None: 8 below their range
    max_error: float | None = None  # error of fitted activations at the outputs, share of their rms
    degree: int | None = None  # one degree for every fitted activation, instead of an error target
    input_shapes: dict[str, tuple[int, ...]] = field(  # fixes dynamic axes
        default_factory=dict,
        metadata={"stored": False},  # a plan's inputs have their shapes
    )
    input_range: tuple[float, float] = (-1.0, 1.0)  # assumed when there is no calibration data
    range_margin: float = 1.1  # calibrated intervals are widened by this factor
    max_ram: float | None = None  # bytes that the server may hold; None: what this machine has free
    maxpool: MaxPoolChoice | None = None  # what stands for MaxPool; None: such networks are refused
    max_input_ciphertexts: int = 4  # the client may send this many to spare the server rotations
    min_agreement: float | None = None  # of the samples' top-1, instead of `max_error`
    batch: int = field(  # images that are predicted together, as many as fit in one ciphertext
        default=1, metadata={"defaulted": True}
    )
