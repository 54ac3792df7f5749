"""Words that every face of the report uses: short names, what stands out, what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from hec.compiler.activation_report import ActivationReport
from hec.compiler.instance_report import KeysReport
from hec.compiler.layer_report import LayerReport
from hec.compiler.quantities import duration, share, size
from hec.compiler.report import Report
from hec.compiler.report_cards import peaks_early
from hec.compiler.server_report import ServerReport

JOINT = " + "  # between the names of nodes in a label
_PATHS = (2, 3, 4)  # parts of a path that a short name may have
_NOTABLE_TAIL = 1e-3  # probability that an element of a sample leaves the interval


def short_names(layers: Sequence[LayerReport], longest: int) -> tuple[str, ...]:
    """Return a name of at most `longest` characters for every layer.

    The last parts of its path, as many as tell it from others. A matrix is not called after an
    activation whose factors it merely holds: that has a layer of its own.
    """
    nodes = _own_nodes(layers)
    tails = [{_tail(label, path) for label in set(nodes)} for path in _PATHS]
    everything = len(set(nodes))
    path = next((p for p, found in zip(_PATHS, tails, strict=True) if len(found) == everything), 4)
    return tuple(
        shortened(label, longest, path) or layer.kind
        for label, layer in zip(nodes, layers, strict=True)
    )


def operators(layers: Sequence[LayerReport], longest: int) -> tuple[str, ...]:
    """Return the last part of every layer's name: for pictures, where layers have numbers."""
    pairs = zip(_own_nodes(layers), layers, strict=True)
    return tuple(shortened(label, longest, 1) or layer.kind for label, layer in pairs)


def shortened(nodes: str, longest: int, path: int = 2) -> str:
    """Return the label of some nodes in at most `longest` characters."""
    parts = nodes.split(JOINT)
    first = _tail(nodes, path) or nodes
    rest = sum(_count(part) for part in parts[1:])
    more = f" +{rest}" if rest else ""
    return elided(first, longest - len(more)) + more


def elided(text: str, longest: int) -> str:
    """Return `text`, its middle left out if it has more than `longest` characters."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) * 2 // 3
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def _own_nodes(layers: Sequence[LayerReport]) -> list[str]:
    """Return the label of every layer, without nodes that have a nonlinear layer of their own."""
    nonlinear = {x.nodes for x in layers if x.kind not in ("matrix", "sum")}
    found = []
    for layer in layers:
        parts = layer.nodes.split(JOINT)
        own = parts if layer.kind != "matrix" else [x for x in parts if x not in nonlinear]
        found.append(JOINT.join(own) or layer.nodes)
    return found


def _tail(label: str, path: int) -> str:
    return "/".join(label.split(JOINT, maxsplit=1)[0].split("/")[-path:])


def _count(part: str) -> int:
    """Return how many nodes a part of a label stands for: its last may be '4 more'."""
    number, _, more = part.partition(" ")
    return int(number) if more == "more" and number.isdecimal() else 1


def primes_in_words(bits: Sequence[float], special: float) -> str:
    """Return the sizes of the primes, equal ones counted: 60 + 18 x 42, special 60."""
    runs = [(size, len(list(run))) for size, run in groupby(round(x) for x in bits)]
    told = " + ".join(f"{count} x {size}" if count > 1 else str(size) for size, count in runs)
    return f"{told}, special {special:.0f}"


def keys_in_words(keys: KeysReport) -> str:
    """Return how many keys of each kind there are."""
    told = [
        f"{keys.rotations} of rotations" if keys.rotations else "",
        f"{keys.bootstrapping} of the bootstrap" if keys.bootstrapping else "",
        "1 of products" if keys.relinearization else "",
    ]
    return ", ".join(words for words in told if words) or "none"


def highlights(report: Report) -> tuple[str, ...]:
    """Return what stands out in a plan, a sentence each."""
    server = report.server
    if server is None or not server.layers:
        return ()
    found = [_refreshing(server) or _slowest(server), _largest(server)]
    if server.activations:
        found += [_least_exact(server.activations), _strays(server.activations)]
    return tuple(sentence for sentence in found if sentence)


def _refreshing(server: ServerReport) -> str:
    """Return a sentence about bootstraps, if they take most of the time."""
    how, seconds = server.bootstraps, server.seconds_by_kind.bootstraps
    if how is None or seconds < server.seconds / 2:
        return ""
    part = 100 * seconds / server.seconds
    each = " or ".join(duration(x) for x in how.seconds_each)
    return f"The {how.count} bootstraps take {part:.0f} % of the time: {each} each."


def _slowest(server: ServerReport) -> str:
    names = short_names(server.layers, 40)
    place = max(range(len(names)), key=lambda i: server.layers[i].seconds)
    layer = server.layers[place]
    part = layer.seconds / server.seconds if server.seconds else 0.0
    work = f" with {layer.diagonals} diagonals" if layer.diagonals else ""
    switches = f" and {layer.key_switches} key switches" if layer.key_switches else ""
    return (
        f"Layer {place + 1} ({names[place]}) takes {100 * part:.0f} % of the time,"
        f" {duration(layer.seconds)}: a {layer.operation}{work}{switches} at level"
        f" {layer.level_in}."
    )


def _largest(server: ServerReport) -> str:
    memory = server.memory
    parts = {
        "evaluation keys": memory.keys,
        "encoded matrices of the bootstrap": memory.bootstrapping,
    }
    if peaks_early(memory):
        parts["the process and the file of keys"] = memory.loading
    else:
        parts["encoded weights"] = memory.diagonals
        parts["ciphertexts at work and the process"] = memory.working
    name = max(parts, key=lambda part: parts[part])
    of = f"{100 * parts[name] / memory.peak:.0f} % of the server's memory"
    return f"Most memory goes to {name}: {size(parts[name])}, {of}."


def _least_exact(activations: Sequence[ActivationReport]) -> str:
    known = [(x.error_at_outputs, x) for x in activations if x.error_at_outputs is not None]
    if not known:
        return ""
    error, worst = max(known, key=lambda pair: pair[0])
    return (
        f"The fit that moves the outputs most is {worst.function} at {shortened(worst.nodes, 40)},"
        f" of degree {worst.degree}: by {share(error)} of their size, if it were the only one."
    )


def _strays(activations: Sequence[ActivationReport]) -> str:
    tails = [(x.tail_probability, x) for x in activations if x.tail_probability is not None]
    far = [(tail, x) for tail, x in tails if tail >= _NOTABLE_TAIL]
    if not far:
        return ""
    tail, worst = max(far, key=lambda pair: pair[0])
    return (
        f"New samples may leave the interval of {shortened(worst.nodes, 40)}: with probability"
        f" {tail:.1g} for the farthest of its elements; more calibration samples widen it."
    )


def gaps(report: Report) -> tuple[str, ...]:
    """Return what is not known of a plan, and why, a sentence each."""
    server = report.server
    if server is None:
        return ("Layers, time, memory and errors: this file holds only the client's part.",)
    found = []
    if server.calibration is None:
        found.append(
            "Agreement with the network: the plan was made without calibration samples, or by an"
            " older hec. Compile with --calibration, or measure it with hec check."
        )
    if server.activations and any(x.histogram is None for x in server.activations):
        found.append("Histograms of the activations' inputs: they are not in this plan.")
    if server.activations and all(x.approximation_error is None for x in server.layers):
        found.append(
            "The share of the errors that fitted activations cause: it is measured on calibration"
            " samples."
        )
    return tuple(found)
