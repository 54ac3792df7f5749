"""Write out the functions that a model defines itself, as some exporters do for whole layers.

Functions that call functions can grow exponentially, so their size is computed beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx.inliner
from onnx import FunctionProto, ModelProto, NodeProto

from hec.compiler.errors import fail

_MAX_NODES = 100_000
_MAX_DEPTH = 50  # functions within functions; exporters need three


def inline_functions(name: str, proto: ModelProto) -> ModelProto:
    """Return the model without functions; raise `CompileError` if they are too many, or nested."""
    if not proto.functions:
        return proto
    functions = {(function.domain, function.name): function for function in proto.functions}
    too_many = fail(
        f"the functions of the model expand to more than {_MAX_NODES:,} nodes, "
        f"or are nested more than {_MAX_DEPTH} deep",
        name,
        "export the model without functions",
    )
    sizes: dict[tuple[str, str], int] = {}
    for key, function in functions.items():
        sizes[key] = _size(function.node, functions, sizes, _MAX_DEPTH)
        if sizes[key] > _MAX_NODES:
            raise too_many
    if _size(proto.graph.node, functions, sizes, _MAX_DEPTH) > _MAX_NODES:
        raise too_many
    try:
        return onnx.inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise fail(f"the functions of the model cannot be written out: {error}", name) from error


def _with_branches(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield the nodes and those of the graphs within them: functions are inlined there, too."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else []
            for graph in [*graphs, *attribute.graphs]:
                yield from _with_branches(graph.node)


def _size(
    nodes: Iterable[NodeProto],
    functions: dict[tuple[str, str], FunctionProto],
    sizes: dict[tuple[str, str], int],
    depth: int,
) -> int:
    """Return how many nodes there are after inlining, or more than the limit if it is too many."""
    total = 0
    for node in _with_branches(nodes):
        key = (node.domain, node.op_type)
        if key in functions and key not in sizes:
            if not depth:
                return _MAX_NODES + 1
            sizes[key] = _size(functions[key].node, functions, sizes, depth - 1)
        total += sizes.get(key, 1)
        if total > _MAX_NODES:
            return total
    return total
