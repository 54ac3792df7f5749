"""Words of the report that every face uses: short names of layers, what stands out, what is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from hec.compiler.activation_report import ActivationReport
from hec.compiler.layer_report import LayerReport
from hec.compiler.quantities import duration, share, size
from hec.compiler.report import Report
from hec.compiler.server_report import ServerReport

JOINT = " + "  # between the names of nodes in a label
_NOTABLE_TAIL = 1e-3  # probability that an element of a sample leaves the interval


def short_names(layers: Sequence[LayerReport], longest: int) -> tuple[str, ...]:
    """Return a name of at most `longest` characters for every layer.

    A matrix is not called after an activation whose factors it merely holds: that has its own.
    """
    fitted = {x.nodes for x in layers if x.kind in ("polynomial", "bootstrap", "square")}
    return tuple(_short(layer, fitted, longest) for layer in layers)


def shortened(nodes: str, longest: int) -> str:
    """Return the label of some nodes in at most `longest` characters."""
    parts = nodes.split(JOINT)
    first = "/".join(parts[0].split("/")[-2:]) or nodes
    rest = len(parts) - 1
    more = f" +{rest}" if rest else ""
    return elided(first, longest - len(more)) + more


def elided(text: str, longest: int) -> str:
    """Return `text`, its middle left out if it has more than `longest` characters."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) * 2 // 3
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def _short(layer: LayerReport, fitted: set[str], longest: int) -> str:
    parts = layer.nodes.split(JOINT)
    own = [part for part in parts if part not in fitted] if layer.kind == "matrix" else parts
    return shortened(JOINT.join(own or parts), longest) or layer.kind


def primes_in_words(bits: Sequence[float], special: float) -> str:
    """Return the sizes of the primes, equal ones counted: 60 + 18 x 42, special 60."""
    runs = [(size, len(list(run))) for size, run in groupby(round(x) for x in bits)]
    told = " + ".join(f"{count} x {size}" if count > 1 else str(size) for size, count in runs)
    return f"{told}, special {special:.0f}"


def highlights(report: Report) -> tuple[str, ...]:
    """Return what stands out in a plan, a sentence each."""
    server = report.server
    if server is None or not server.layers:
        return ()
    found = [_slowest(server), _largest(server)]
    if server.activations:
        found += [_least_exact(server.activations), _strays(server.activations)]
    return tuple(sentence for sentence in found if sentence)


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
        "encoded weights": memory.diagonals,
        "ciphertexts at work and the process": memory.working,
    }
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
