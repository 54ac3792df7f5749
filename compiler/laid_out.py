"""A TensorGraph whose every tensor has a layout and whose every Linear has a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hec.compiler.ckks_ir import DiagonalMatrix
from hec.compiler.layout import Layout
from hec.compiler.schedule import Split
from hec.compiler.tensor_ir import Linear, TensorGraph


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
    _biases: dict[int, NDArray[np.float64] | None] = field(default_factory=dict)

    def packed_bias(self, position: int) -> NDArray[np.float64] | None:
        """Return the bias of a Linear as its layout has it, (blocks, slots); None where it is 0.

        It is packed once: the same graph is lowered under many parameters.
        """
        if position not in self._biases:
            linear = self.graph.operations[position]
            bias = linear.bias if isinstance(linear, Linear) else np.zeros(0)
            packed = self.layouts[position].pack(bias[None, :])[0] if bias.any() else None
            self._biases[position] = packed
        return self._biases[position]
