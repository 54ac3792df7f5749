"""`hec explain`: one layer of a plan, its whole story."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from hec.compiler.cli_terminal import duration, interval, share, show_json, show_story, size

if TYPE_CHECKING:
    from hec.compiler.activation_report import ActivationReport
    from hec.compiler.explain import LayerStory, TensorStory
    from hec.compiler.explain_matrix import MatrixStory
    from hec.compiler.explain_series import SeriesStory

Lines: TypeAlias = Iterator[tuple[str, str]]


def explain(
    plan: Annotated[Path, typer.Argument(help="a plan, with its weights")],
    layer: Annotated[str, typer.Argument(help="its number, its ONNX node, or a part of a name")],
    costs: Annotated[
        str | None, typer.Option(help="seconds of: reference, host, FILE [host, if measured]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell a layer's story: nodes, layout, levels, cost, and why.

    \b
    Example:
      hec explain model.hec conv1
    """
    from hec.compiler.cli_files import load_whole_plan
    from hec.compiler.explain import explain as story_of
    from hec.compiler.host_costs import chosen_table

    loaded = load_whole_plan(plan)
    found = story_of(loaded, layer, str(plan), chosen_table(costs, loaded.client.backend))
    if as_json:
        show_json(found)
        return
    show_story([*_origin(found), *_place(found), *_costs(found), *_kernels(found)])


def _origin(story: LayerStory) -> Lines:
    yield "layer", f"{story.number} of {story.of}, '{story.label}': {story.operation}"
    yield "model", f"{story.model}, plan {story.plan_id[:12]}"
    for number, node in enumerate(story.nodes):
        name = f"'{node.name}'{f' ({node.operator})' if node.operator else ''}"
        yield "" if number else "ONNX nodes", name
    if not story.nodes:
        yield "ONNX nodes", "not known: the plan does not tell"
    for number, tensor in enumerate(story.reads):
        yield "" if number else "reads", _tensor(tensor)
    yield "result", _tensor(story.result, with_source=False)
    yield "read by", ", ".join(story.readers) or "nothing"


def _tensor(tensor: TensorStory, with_source: bool = True) -> str:
    shape = "" if tensor.shape is None else f" ({', '.join(map(str, tensor.shape))})"
    held = _ciphertexts(tensor.ciphertexts)
    place = f"level {tensor.level}, scale {tensor.scale_bits:.1f} bits"
    text = f"{tensor.source if with_source else ''}{shape}: {held}, {place}".lstrip(": ")
    if tensor.packing is None:
        return text
    packed = tensor.packing
    every = tensor.ciphertexts * tensor.slots
    used = f"{packed.slots} of {every} slots"
    copies = f", {packed.copies} copies of each element" if packed.copies > 1 else ""
    return f"{text}; {tensor.kind}, {used}{copies}"


def _ciphertexts(count: int) -> str:
    return f"{count} ciphertext{'s' if count > 1 else ''}"


def _place(story: LayerStory) -> Lines:
    from hec.compiler.explain_levels import why_level

    levels = story.levels
    yield "levels", f"{levels.enters} > {levels.leaves}"
    yield "  why", why_level(levels)
    yield "precision", f"{story.precision_bits:.1f} bits of the result, in slots in [-1, 1]"


def _costs(story: LayerStory) -> Lines:
    seconds = story.seconds
    parts = [
        (name, value)
        for name, value in (
            ("rotations", seconds.rotations),
            ("products", seconds.products),
            ("rescaling", seconds.rescaling),
            ("encoding", seconds.encoding),
            ("bootstraps", seconds.bootstraps),
            ("other", seconds.other),
        )
        if value > 0
    ]
    yield (
        "seconds",
        (f"{duration(seconds.total)}, {100 * story.share:.1f} % of a prediction; {story.costs}"),
    )
    if len(parts) > 1:
        yield "  of which", ", ".join(f"{name} {duration(value)}" for name, value in parts)
    yield "key switches", f"{story.key_switches}, of rotations and products of ciphertexts"
    if story.plaintext_bytes:
        yield "memory", f"{size(story.plaintext_bytes)} of encoded weights"


def _kernels(story: LayerStory) -> Lines:
    for matrix in story.matrices:
        yield from _matrix(matrix)
    if story.folds:
        yield "folds", f"sums of copies, rotated by {', '.join(map(str, story.folds))}"
    if story.series is not None:
        yield from _series(story.series)
    if story.activation is not None:
        yield from _activation(story.activation)


def _matrix(matrix: MatrixStory) -> Lines:
    from hec.compiler.explain_matrix import listed, why_split

    pairs = matrix.diagonals - matrix.products
    paired = f", {pairs} of them paired with others {matrix.pair_distance} slots apart"
    yield (
        "matrix",
        f"{matrix.diagonals} diagonals of {matrix.possible} are not zero{paired if pairs else ''}; "
        f"{matrix.products} products at 2^{matrix.plain_scale_bits:.1f}",
    )
    split = matrix.split
    yield (
        "  split",
        f"baby step {split.baby_step}, babies from {split.baby_start}; rotations: "
        f"{matrix.baby_rotations} baby ({duration(matrix.baby_seconds)}), "
        f"{matrix.giant_rotations} giant ({duration(matrix.giant_seconds)})",
    )
    if matrix.babies:
        yield "  babies", f"by {listed(matrix.babies)}"
    if matrix.giants:
        yield "  giants", f"by {listed(matrix.giants)}"
    yield "  why", why_split(matrix)
    if split.new_keys:
        yield "  keys", f"{split.new_keys} rotation keys that no other layer needs"


def _series(series: SeriesStory) -> Lines:
    from hec.compiler.explain_series import why_degree

    if series.transform_levels is not None and series.error is not None:
        first, second = series.transform_levels
        yield (
            "bootstrap",
            f"of {_ciphertexts(series.ciphertexts)}; {first} levels of CoeffsToSlots, {second} of "
            f"SlotsToCoeffs; error {series.error:.2g} of the range of the activation",
        )
    yield "degree", why_degree(series)


def _activation(fit: ActivationReport) -> Lines:
    yield "stands for", f"{fit.function} on {interval(fit.interval)}, degree {fit.degree}"
    bounded = "" if fit.bounded is None else f", bounded on {interval(fit.bounded)}"
    yield "  inputs", f"seen in {interval(fit.observed)}{bounded}"
    yield "  error", f"{fit.rms_error:.3g} (root mean square)"
    if fit.error_at_outputs is not None and fit.sensitivity is not None:
        yield (
            "  why",
            f"the outputs change {fit.sensitivity:.3g} for each unit of that error: this fit alone "
            f"changes them by {share(fit.error_at_outputs)} of their root mean square",
        )
