"""What the two sides of a Plan hold: the data owner's part, and the part with the weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hec.compiler.alternative import Alternative
from hec.compiler.ckks_ir import EncryptionParameters, Program
from hec.compiler.client_steps import Classes, Columns, Label, PrologueStep
from hec.compiler.key_manifest import KeyManifest
from hec.compiler.layout import Layout
from hec.compiler.packing import Packing
from hec.compiler.record import NOT_STORED
from hec.compiler.target import Target
from hec.compiler.tensor_ir import ClientStep, Fit


@dataclass(frozen=True, eq=False)
class PlanInput:
    """A tensor to put through `prologue`, divide by `divisor`, pack by `layout`, and encrypt."""

    name: str
    shape: tuple[int, ...]
    layout: Layout
    level: int
    scale: float
    divisor: float
    interval: tuple[float, float] | None  # where calibration saw the elements, before division
    prologue: tuple[PrologueStep, ...] = ()


@dataclass(frozen=True, eq=False)
class PlanOutput:
    """A tensor to unpack by `layout`, multiply by `factor`, and put through `epilogue`."""

    name: str
    shape: tuple[int, ...]
    layout: Layout
    level: int
    scale: float
    factor: float
    epilogue: tuple[ClientStep, ...]

    @property
    def classes(self) -> Classes | None:
        """Return what the classes are called: the values of labels, the columns of others."""
        steps = [step for step in self.epilogue if isinstance(step, Label | Columns)]
        return steps[-1].classes if steps else None


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
class PlanFit:
    """An activation that a polynomial stands for, and the value of the Program that it reads."""

    label: str  # its ONNX nodes
    fit: Fit
    value: int | None = None  # None: not known
    used: NDArray[np.uint8] = field(  # (blocks, slots): 1 where the value has elements
        default_factory=lambda: np.zeros((0, 0), np.uint8)
    )
    radius: float = 1.0  # magnitude, in slots, up to which an element lies in the interval


@dataclass(frozen=True)
class CalibrationResult:
    """What the plan's outputs were on the calibration samples, in the clear, when it was made."""

    samples: int
    agreement: float | None  # share with the exact network's class; None: no output tells one
    error: float  # root mean square, as a share of the exact output's, the worst of the outputs


@dataclass(frozen=True)
class PlanTensor:
    """A tensor of the network as the Program holds it: for reports."""

    nodes: tuple[str, ...]  # all ONNX nodes of the layer that computes it
    shape: tuple[int, ...]
    packing: Packing


@dataclass(frozen=True, eq=False)
class ServerPart:
    """The Program with its matrices, and what reports and checks need to know about it."""

    program: Program
    labels: tuple[str, ...]  # one per instruction: ONNX node names, or ""
    magnitudes: tuple[float, ...] = ()  # root mean square of every value, slots in [-1, 1]
    deviations: tuple[float, ...] = ()  # errors from bootstraps in every value, where known
    fits: tuple[PlanFit, ...] = ()
    onnx: NDArray[np.uint8] = field(  # the file of the clear model, or nothing
        default_factory=lambda: np.zeros(0, np.uint8)
    )
    reason: str = ""  # why this backend and this way, for people
    approximation: tuple[float, ...] = ()  # rms of approximated - exact, every value; (): unknown
    calibrated: CalibrationResult | None = None  # None: there were no samples
    tensors: tuple[PlanTensor, ...] = ()  # (): not known
    sources: tuple[int, ...] = ()  # one per instruction: the tensor that it belongs to
    target: Target | None = None  # what was asked for; None: not known
    advice: tuple[Alternative, ...] | None = None  # None: no alternative was compiled
    peaks: tuple[float, ...] = ()  # largest magnitude of every value on samples, likewise
    coherence: tuple[float, ...] = ()  # of errors that enter every instruction; (): unknown
    reaches: tuple[float, ...] = ()  # of errors from bootstraps, over Gaussian ones; (): unknown
