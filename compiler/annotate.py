"""Write a network with what its plan costs beside each node, so that Netron and others show it.

Every layer's costs stand at one node, its carrier, so that sums over nodes are right; the other
nodes of the layer name it. Keys begin with `hec.`; older tools find the same in the doc string.

Source: ONNX IR version 10, which gave nodes `metadata_props`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from onnx import GraphProto, ModelProto, NodeProto, StringStringEntryProto

from hec.compiler.atomic_file import atomic_file
from hec.compiler.ckks_ir import Bootstrap
from hec.compiler.clear_model import quoted
from hec.compiler.errors import fail
from hec.compiler.layer_report import LayerReport
from hec.compiler.layers import Layer, fit_of, layers
from hec.compiler.onnx_model import load_model
from hec.compiler.onnx_node import node_name, operators_of
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanFit
from hec.compiler.program_depth import depth, depths
from hec.compiler.report import Report, report, server_of
from hec.compiler.typing_rules import infer_types

PREFIX: Final = "hec."
IR_VERSION: Final = 10  # the first in which nodes have metadata
_SEPARATE: Final = 4  # the first in which initializers need not be inputs
MAX_FILE_BYTES: Final = 2**31 - 1  # protobuf writes no more
_HEAVY: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})

Texts = dict[str, str]  # of one node, by key without the prefix


def annotate(plan: Plan, model: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the network in the file `model`, which `plan` was compiled from, with its costs.

    Weights in other files come into the new one; functions are written out. Raise `CompileError`
    where the network is another, would be replaced, or is too large for one file.
    """
    source, target = Path(model), Path(output)
    if target.exists() and source.exists() and target.samefile(source):
        raise fail(
            "the annotated network would replace the network", str(target), "give another path"
        )
    proto = annotated(plan, load_model(source).proto, source.name)
    if proto.ByteSize() > MAX_FILE_BYTES:
        raise fail(
            f"the network is too large for one file: {proto.ByteSize():,} bytes, and ONNX allows "
            f"{MAX_FILE_BYTES:,}",
            str(target),
            "leave out --annotate: hec report and hec explain tell the same",
        )
    with atomic_file(target) as file:
        file.write(proto.SerializeToString())


def annotated(plan: Plan, network: ModelProto, name: str = "model") -> ModelProto:
    """Return a copy of the network that the plan was compiled from, with what it costs."""
    proto = ModelProto()
    proto.CopyFrom(network)
    require_same_network(plan, proto.graph, name)
    _raise_version(proto)
    told, named = _Teller(plan, proto.graph.node), set[str]()
    _set(proto, told.model())
    for node in proto.graph.node:
        texts = told.node(node_name(node), is_first=node_name(node) not in named)
        named.add(node_name(node))
        _set(node, texts)
        line = "hec: " + ", ".join(f"{key} {value}" for key, value in texts.items())
        node.doc_string = "\n".join(filter(None, [_own(node.doc_string), line]))
    return proto


def require_same_network(plan: Plan, graph: GraphProto, place: str) -> None:
    """Raise `CompileError` at `place` unless the graph has just the outputs of the plan."""
    found = {value.name for value in graph.output}
    expected = {item.name for item in plan.client.outputs}
    if expected != found:
        raise fail(
            f"the network is not the one that was compiled, {plan.client.model}",
            f"{place}: outputs {quoted(found)}",
            f"the plan has outputs {quoted(expected)}",
        )


def _raise_version(proto: ModelProto) -> None:
    """Raise the IR version to one whose nodes have metadata.

    Before version 4 initializers were inputs, and constants; later such an input is a default that
    a caller may replace, which keeps runtimes from computing with it beforehand.
    """
    if proto.ir_version < _SEPARATE:
        stored = {tensor.name for tensor in proto.graph.initializer}
        kept = [value for value in proto.graph.input if value.name not in stored]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
    proto.ir_version = max(proto.ir_version, IR_VERSION)


def _own(text: str) -> str:
    """Return a doc string without what an earlier annotation wrote."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("hec: "))


def _set(owner: ModelProto | NodeProto, texts: Mapping[str, str]) -> None:
    kept = [(x.key, x.value) for x in owner.metadata_props if not x.key.startswith(PREFIX)]
    told = [*kept, *((PREFIX + key, value) for key, value in texts.items())]
    del owner.metadata_props[:]
    owner.metadata_props.extend(StringStringEntryProto(key=key, value=value) for key, value in told)


@dataclass(frozen=True)
class _Told:
    """A layer, what the report says of it, and the fit that it evaluates."""

    layer: Layer
    found: LayerReport
    fit: PlanFit | None
    bootstraps: int
    ciphertexts: int
    depth: int  # rescalings from the inputs to its result

    @property
    def linear(self) -> bool:
        return self.found.is_linear


class _Teller:
    def __init__(self, plan: Plan, nodes: Sequence[NodeProto]) -> None:
        self.plan, self.report = plan, report(plan)
        self.operators = operators_of(nodes)
        self.told = _told(plan, self.report)
        self.carriers = self._carriers()

    def _carriers(self) -> dict[str, list[_Told]]:
        """Return the layers whose costs stand at a node, by its name: functions first."""
        found: dict[str, list[_Told]] = {}
        for told in sorted(self.told, key=lambda told: told.linear):
            known = [name for name in told.layer.nodes if name in self.operators]
            if not known:
                continue
            if not told.linear:
                carrier = known[-1]
            else:
                free = [name for name in known if name not in found] or known
                heavy = [name for name in free if self.operators[name] in _HEAVY]
                carrier = (heavy or free)[0]
            found.setdefault(carrier, []).append(told)
        return {name: sorted(each, key=lambda t: t.layer.number) for name, each in found.items()}

    def model(self) -> Texts:
        """Return what there is to say about the whole network."""
        told, server = self.report, server_of(self.report)
        texts = {
            "version": version("hec"),
            "plan": told.plan_id,
            "backend": told.backend,
            "security_bits": str(told.parameters.security_bits),
            "ring_degree": str(told.parameters.ring_degree),
            "modulus_bits": f"{told.parameters.modulus_bits:.0f}",
            "depth": str(depth(self.plan.server.program)),
            "bootstraps": str(server.bootstraps.count if server.bootstraps else 0),
            "seconds": f"{server.seconds:.4g}",
            "memory_bytes": str(server.memory.peak),
            "key_bytes": str(told.key_bytes),
            "precision_bits": f"{told.precision_bits:.1f}",
        }
        known = self.plan.server.calibrated
        if known is not None and known.agreement is not None:
            texts["agreement"] = f"{known.agreement:.4f} of {known.samples} calibration samples"
        return texts

    def node(self, name: str, is_first: bool) -> Texts:
        """Return what there is to say about a node; of several of one name the first has costs."""
        mine = self.carriers.get(name)
        if mine and is_first:
            return self._costs(name, mine)
        within = [told for told in self.told if name in told.layer.nodes]
        if not within:
            return {"layer": "none: constant, moved for free, or left to the client"}
        first = within[0]
        carrier = next(n for n, each in self.carriers.items() if first in each)
        return {
            "layer": _names(within),
            "fused_into": f"layer {first.layer.number}, whose costs stand at node '{carrier}'",
        }

    def _costs(self, name: str, mine: Sequence[_Told]) -> Texts:
        total = server_of(self.report).seconds or 1.0
        seconds = sum(told.found.seconds for told in mine)
        texts = {
            "layer": _names(mine),
            "operation": "; ".join(told.found.operation for told in mine),
            "depth": str(max(told.depth for told in mine)),
            "level_in": str(max(told.found.level_in for told in mine)),
            "level_out": str(mine[-1].found.level_out),
            "scale_bits": f"{mine[-1].found.scale_bits:.1f}",
            "seconds": f"{seconds:.4g}",
            "share_percent": f"{100 * seconds / total:.1f}",
            "rotations": str(sum(told.found.rotations for told in mine)),
            "bootstraps": str(sum(told.bootstraps for told in mine)),
            "ciphertexts": str(mine[-1].ciphertexts),
            "weights_bytes": str(sum(told.found.plaintext_bytes for told in mine)),
            "precision_bits": f"{mine[-1].found.precision_bits:.1f}",
        }
        fit = next((told.fit.fit for told in mine if told.fit is not None), None)
        if fit is not None:
            texts |= {
                "function": fit.function,
                "degree": str(fit.degree),
                "interval": f"[{fit.interval[0]:.4g}, {fit.interval[1]:.4g}]",
                "observed": f"[{fit.observed[0]:.4g}, {fit.observed[1]:.4g}]",
                "fit_error": f"{fit.error:.3g}",
            }
        others = [n for told in mine for n in told.layer.nodes if n != name]
        if others:
            texts["fused_with"] = ", ".join(dict.fromkeys(others))
        return texts


def _names(told: Sequence[_Told]) -> str:
    return "; ".join(str(each.layer) for each in told)


def _told(plan: Plan, found: Report) -> list[_Told]:
    """Return every layer with its report."""
    program, types = plan.server.program, infer_types(plan.server.program)
    all_told, deepest = list[_Told](), depths(program)
    for layer, each in zip(layers(plan.server), server_of(found).layers, strict=True):
        refreshed = sum(
            types[i].blocks
            for i in layer.positions
            if isinstance(program.instructions[i], Bootstrap)
        )
        end = layer.positions[-1]
        all_told.append(
            _Told(
                layer, each, fit_of(plan.server, layer), refreshed, types[end].blocks, deepest[end]
            )
        )
    return all_told
