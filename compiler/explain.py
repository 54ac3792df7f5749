"""One layer's whole story: where it comes from, how it lies in slots, what it costs, and why.

Nothing is measured anew: the story follows from the plan, with the searches and the prices that
compiled it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from hec.compiler.activation_report import ActivationReport, activation_report
from hec.compiler.ckks_ir import (
    Bootstrap,
    Input,
    LinearTransform,
    Output,
    Rescale,
    RotateSum,
)
from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.errors import CompileError
from hec.compiler.explain_levels import LevelStory, level_story
from hec.compiler.explain_matrix import MatrixStory, matrix_story
from hec.compiler.explain_series import SeriesStory, series_story, with_errors
from hec.compiler.layer_report import layer_reports
from hec.compiler.layers import Layer, find_layer, fit_of, layers, tensor_at
from hec.compiler.onnx_node import operators_of
from hec.compiler.packing import Packing
from hec.compiler.plan import Plan
from hec.compiler.plan_forecast import forecast_of
from hec.compiler.typing_rules import infer_types, operands


@dataclass(frozen=True)
class NodeStory:
    """An ONNX node that the layer came from."""

    name: str
    operator: str  # "": the plan holds no copy of the network, or the node is gone


@dataclass(frozen=True)
class TensorStory:
    """A value that enters the layer, or its result."""

    source: str  # what makes it: the name of an input, or the number and label of a layer
    shape: tuple[int, ...] | None  # of the tensor; None: the plan does not tell
    packing: Packing | None
    kind: str  # of the layout
    ciphertexts: int
    slots: int  # of one ciphertext
    level: int
    scale_bits: float


@dataclass(frozen=True)
class SecondsStory:
    """Where the seconds of the layer go."""

    total: float
    rotations: float
    products: float
    rescaling: float
    encoding: float
    bootstraps: float
    other: float  # polynomials, products of ciphertexts, sums


@dataclass(frozen=True)
class LayerStory:
    """All there is to say about one layer."""

    model: str
    plan_id: str
    number: int
    of: int  # layers
    label: str
    operation: str
    nodes: tuple[NodeStory, ...]
    reads: tuple[TensorStory, ...]
    result: TensorStory
    readers: tuple[str, ...]  # who reads the result: layers, or outputs
    levels: LevelStory
    costs: str  # whose seconds
    seconds: SecondsStory
    share: float  # of the seconds of one prediction
    key_switches: int
    plaintext_bytes: int
    precision_bits: float  # of the result, in slots in [-1, 1]
    matrices: tuple[MatrixStory, ...]
    folds: tuple[int, ...]  # rotations of the sums that follow matrices
    series: SeriesStory | None  # a polynomial, or a bootstrap
    activation: ActivationReport | None  # that it stands for


def explain(
    plan: Plan, wanted: str, place: str = "the plan", table: CostTable = REFERENCE
) -> LayerStory:
    """Return the story of the layer `wanted`: its number, label, node, or a part of a name.

    Seconds are those of `table`, with which plans are compiled only if it is the reference.

    Raise `CompileError`, naming candidates, where that is no single layer.
    """
    return _Teller(plan, table).story(find_layer(plan.server, wanted, place))


class _Teller:
    def __init__(self, plan: Plan, table: CostTable) -> None:
        self.plan, self.server, self.program = plan, plan.server, plan.server.program
        self.table = table
        self.instructions = self.program.instructions
        self.types = infer_types(self.program)
        self.layers = layers(self.server)
        self.owner = {i: layer for layer in self.layers for i in layer.positions}
        self.forecast = forecast_of(self.server, table)

    def story(self, layer: Layer) -> LayerStory:
        """Return the story of one layer."""
        inside = [self.instructions[i] for i in layer.positions]
        end = layer.positions[-1]
        told = layer_reports(self.server, self.forecast)[layer.number - 1]
        matrices = tuple(
            self._matrix(x, self.forecast.seconds[i])
            for i in layer.positions
            if isinstance(x := self.instructions[i], LinearTransform)
        )
        seconds, fit = self._seconds(layer, matrices), fit_of(self.server, layer)
        return LayerStory(
            self.plan.client.model,
            self.plan.plan_id,
            layer.number,
            len(self.layers),
            layer.label,
            told.operation,
            self._nodes(layer),
            tuple(self._tensor(i) for i in self._entering(layer)),
            self._tensor(end),
            self._readers(layer),
            level_story(self.program, self.types, self.layers, layer),
            self.table.told(self.plan.client.backend),
            seconds,
            seconds.total / (self.forecast.total_seconds or 1.0),
            told.key_switches,
            told.plaintext_bytes,
            told.precision_bits,
            matrices,
            tuple(step for x in inside if isinstance(x, RotateSum) for step in x.steps),
            self._series(layer),
            None if fit is None else activation_report(fit.label, fit.fit),
        )

    def _matrix(self, x: LinearTransform, seconds: float) -> MatrixStory:
        level = self.types[x.operand].level
        return matrix_story(self.program, x, level, seconds, self.table)

    def _nodes(self, layer: Layer) -> tuple[NodeStory, ...]:
        known = operators(self.server.onnx.tobytes())
        return tuple(NodeStory(name, known.get(name, "")) for name in layer.nodes)

    def _entering(self, layer: Layer) -> list[int]:
        read = [o for i in layer.positions for o in operands(self.instructions[i])]
        return list(dict.fromkeys(o for o in read if o not in layer.positions))

    def _readers(self, layer: Layer) -> tuple[str, ...]:
        found = dict[str, None]()
        for position, x in enumerate(self.instructions):
            if position in layer.positions or not set(operands(x)) & set(layer.positions):
                continue
            found[f"output '{x.name}'" if isinstance(x, Output) else str(self.owner[position])] = (
                None
            )
        return tuple(found)

    def _tensor(self, position: int) -> TensorStory:
        x, value = self.instructions[position], self.types[position]
        tensor = tensor_at(self.server, position)
        source = f"input '{x.name}'" if isinstance(x, Input) else str(self.owner[position])
        packing = None if tensor is None else tensor.packing
        kind = "not known" if packing is None else packing.kind
        if isinstance(x, Input) and kind == "irregular":
            kind = "arranged by the client for the matrix that reads it"
        return TensorStory(
            source,
            None if tensor is None else tensor.shape,
            packing,
            kind,
            value.blocks,
            self.program.parameters.slots,
            value.level,
            log2(value.scale),
        )

    def _seconds(self, layer: Layer, matrices: Sequence[MatrixStory]) -> SecondsStory:
        by_kind = {kind: 0.0 for kind in (RotateSum, Rescale, Bootstrap, LinearTransform)}
        for i in layer.positions:
            kind = type(self.instructions[i])
            if kind in by_kind:
                by_kind[kind] += self.forecast.seconds[i]
        total = sum(self.forecast.seconds[i] for i in layer.positions)
        turning = sum(m.baby_seconds + m.giant_seconds for m in matrices) + by_kind[RotateSum]
        return SecondsStory(
            total,
            turning,
            sum(m.product_seconds for m in matrices),
            by_kind[Rescale],
            sum(m.encoding_seconds for m in matrices),
            by_kind[Bootstrap],
            max(total - sum(by_kind.values()), 0.0),
        )

    def _series(self, layer: Layer) -> SeriesStory | None:
        story, fit = (
            series_story(self.program, self.types, layer, self.table),
            fit_of(self.server, layer),
        )
        return story if story is None or fit is None else with_errors(story, fit.fit)


def operators(model: bytes) -> dict[str, str]:
    """Return the operator of every node of an ONNX file, by the node's name.

    Nothing of a file that cannot be read, or of none: the story goes on without it.
    """
    from hec.compiler.onnx_model import load_model

    try:
        return operators_of(load_model(model).nodes)
    except CompileError:
        return {}
