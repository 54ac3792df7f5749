"""What the two sides of a Plan hold: the data owner's part, and the part with the weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from hec.compiler.ckks_ir import EncryptionParameters, Program
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.layout import Layout
from hec.compiler.record import NOT_STORED
from hec.compiler.tensor_ir import EpilogueStep


@dataclass(frozen=True, eq=False)
class PlanInput:
    """A tensor to divide by `divisor`, pack by `layout`, and encrypt at (level, scale)."""

    name: str
    shape: tuple[int, ...]
    layout: Layout
    level: int
    scale: float
    divisor: float
    interval: tuple[float, float] | None  # where calibration saw the elements, before division


@dataclass(frozen=True, eq=False)
class PlanOutput:
    """A tensor to unpack by `layout`, multiply by `factor`, and put through `epilogue`."""

    name: str
    shape: tuple[int, ...]
    layout: Layout
    level: int
    scale: float
    factor: float
    epilogue: tuple[EpilogueStep, ...]


@dataclass(frozen=True, eq=False)
class ClientPart:
    """All that the data owner needs; no weight, and nothing that weights could be read from."""

    parameters: EncryptionParameters
    inputs: tuple[PlanInput, ...]
    outputs: tuple[PlanOutput, ...]
    keys: KeyManifest
    precision: float  # promised bits of the outputs' absolute error
    backend: str
    model: str  # name, for people
    plan_id: str = field(default="", metadata=NOT_STORED)  # "" until the Plan is put together


@dataclass(frozen=True, eq=False)
class ServerPart:
    """The Program with its matrices, and what each instruction is in the user's words."""

    program: Program
    labels: tuple[str, ...]  # one per instruction: ONNX node names, or ""
