"""The tensor passes, in order: one list for leveled programs, one for functional bootstraps.

A program with plain bootstraps is a leveled one, in which `place_bootstraps` comes before scaling.
So it does in one of functional bootstraps, where products of two tensors take levels in between.

After them a graph is in normal form: `Input`, `Linear`, `Multiply`, and `Polynomial` in the
Chebyshev basis of degree 3 or more, or else `Bootstrap`; no two linear layers in a row that are
better fused; every multiplied value, every polynomial's operand, and every output in [-1, 1]; every
bootstrap's operand in [-1/2, 1/2].
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from hec.compiler.calibration import Calibration
from hec.compiler.target import Target
from hec.compiler.tensor_ir import TensorGraph, check
from hec.passes.activate_polynomials import activate_polynomials
from hec.passes.approximate_activations import approximate_activations
from hec.passes.check_normal_form import check_normal_form
from hec.passes.complete_quartics import complete_quartics
from hec.passes.complete_squares import complete_squares
from hec.passes.dump import dump
from hec.passes.eliminate_dead_code import eliminate_dead_code
from hec.passes.eliminate_identities import eliminate_identities
from hec.passes.extend_functions import extend_functions
from hec.passes.fold_into_polynomials import fold_into_polynomials
from hec.passes.fold_scales import fold_scales
from hec.passes.fuse_linear import fuse_linear
from hec.passes.move_broadcasts import move_broadcasts
from hec.passes.narrow_softmax import narrow_softmax
from hec.passes.normalize_polynomials import normalize_polynomials
from hec.passes.recognize_activations import recognize_activations
from hec.passes.recognize_polynomials import recognize_polynomials
from hec.passes.refresh_activations import refresh_activations
from hec.passes.share_scaled_layers import share_scaled_layers

TensorPass: TypeAlias = Callable[[TensorGraph, Target, Calibration], TensorGraph]

SHARED_PASSES: tuple[TensorPass, ...] = (
    eliminate_dead_code,
    recognize_polynomials,
    recognize_activations,
    narrow_softmax,  # before move_broadcasts, as it looks for sums that are not yet copied
    move_broadcasts,
    extend_functions,  # before anything fits what is not defined everywhere
    eliminate_identities,
    fuse_linear,  # fewer non-zeros to evaluate in the search for degrees
    share_scaled_layers,  # of sums that a normalization between two transpositions reads
    fuse_linear,
)

POLYNOMIAL_PASSES: tuple[TensorPass, ...] = (
    *SHARED_PASSES,
    approximate_activations,
    complete_quartics,  # before normalize_polynomials gives degree 4 a scaling of its own
    normalize_polynomials,
    complete_squares,  # after it no polynomial below degree 3 is left
    fold_into_polynomials,
    eliminate_identities,
)

SCALING_PASSES: tuple[TensorPass, ...] = (
    share_scaled_layers,  # before fuse_linear would compute such a layer twice
    fuse_linear,
    eliminate_identities,
    fold_scales,  # last: it relies on every range that the passes before have settled
)

TENSOR_PASSES: tuple[TensorPass, ...] = (*POLYNOMIAL_PASSES, *SCALING_PASSES)

SERIES_PASSES: tuple[TensorPass, ...] = (
    *SHARED_PASSES,
    normalize_polynomials,
    complete_squares,  # elements with quadratics of their own then share one function
    activate_polynomials,
    refresh_activations,
    eliminate_identities,
    share_scaled_layers,
    fuse_linear,  # the levels between two bootstraps are then what they will be
)

REFRESHING_PASSES: tuple[TensorPass, ...] = (*SERIES_PASSES, *SCALING_PASSES)


def run_tensor_passes(
    graph: TensorGraph,
    target: Target,
    calibration: Calibration,
    passes: Sequence[TensorPass] = TENSOR_PASSES,
    done: int = 0,
) -> TensorGraph:
    """Run `passes` in order, but for the first `done`, checking the graph after each.

    With the environment variable HEC_DUMP=folder, write the text after each pass there.
    Raises `InvalidProgram`, naming the pass, if one of them breaks a rule.
    """
    folder = os.environ.get("HEC_DUMP")
    for number, tensor_pass in enumerate(passes[done:], start=done + 1):
        graph = tensor_pass(graph, target, calibration)
        check(graph, made_by=tensor_pass.__name__)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder) / f"{number:02}-{tensor_pass.__name__}.txt"
            path.write_text(dump(graph), encoding="utf-8")
    if fold_scales in passes:
        check_normal_form(graph)
    return graph


__all__ = [
    "POLYNOMIAL_PASSES",
    "REFRESHING_PASSES",
    "SCALING_PASSES",
    "SERIES_PASSES",
    "SHARED_PASSES",
    "TENSOR_PASSES",
    "TensorPass",
    "check_normal_form",
    "run_tensor_passes",
]
