"""A TensorGraph whose every tensor has a layout and whose every Linear has a kernel."""

from __future__ import annotations

from dataclasses import dataclass

from hec.compiler.ckks_ir import DiagonalMatrix
from hec.compiler.layout import Layout
from hec.compiler.schedule import Split
from hec.compiler.tensor_ir import TensorGraph


@dataclass(frozen=True, eq=False)
class LinearKernel:
    """How one Linear is computed: a matrix per operand, summed, then folded."""

    matrices: tuple[DiagonalMatrix, ...]
    splits: tuple[Split, ...]
    folds: tuple[int, ...]  # steps of the rotate-and-sum that follows


@dataclass(frozen=True, eq=False)
class LaidOutGraph:
    """`layouts[i]` and, for a Linear, `kernels[i]` belong to operation i of `graph`."""

    graph: TensorGraph
    slots: int
    layouts: tuple[Layout, ...]
    kernels: dict[int, LinearKernel]
