"""Layouts keep the meaning of every graph, in every slot; the client's arrangements save turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import random_graphs
from hec.compiler import ckks_ir, tensor_ir
from hec.compiler.arrangement import candidates, in_phases
from hec.compiler.calibration import Calibration
from hec.compiler.laid_out import LaidOutGraph
from hec.compiler.layout import UNUSED
from hec.compiler.schedule import best_split, steps
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Linear, Multiply, Output, Polynomial, TensorGraph
from hec.passes import run_tensor_passes
from hec.passes.choose_layouts import choose_layouts, layouts_to_compare
from sample_graphs import (
    GRAIN,
    SHAPES,
    Builder,
    Strict,
    assert_keeps_meaning,
    compiled,
    convolution,
    outputs,
    random_graph,
)


def builder(seed: int = 0) -> Builder:
    return Builder(np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_keep_their_meaning(seed: int) -> None:
    assert_keeps_meaning(random_graph(seed), (16, 64, 256)[seed % 3], tolerance=1e-11)


def test_the_random_graphs_cover_every_case() -> None:
    graphs = [random_graph(seed) for seed in range(30)]
    counts = Counter(type(op) for graph in graphs for op in graph.operations)
    assert min(counts[kind] for kind in (Linear, Multiply, Polynomial)) > 10
    sums = [op for graph in graphs for op in graph.operations if isinstance(op, Linear)]
    assert sum(len(op.operands) > 1 for op in sums) > 10


@pytest.mark.parametrize("seed", range(40))
def test_graphs_from_the_tensor_passes_keep_their_meaning(seed: int) -> None:
    """Constant outputs, unused inputs, copies, degenerate matrices: what passes leave behind."""
    graph, seen = random_graphs.random_graph(seed, activations=False)
    graph = run_tensor_passes(graph, Target(), Calibration(seen, margin=1.1))
    _, lowered = compiled(graph, 16)
    found = outputs(lowered.program, seen, Strict(lowered.program.parameters))
    for output, expected in zip(graph.outputs, random_graphs.meaning(graph, seen), strict=True):
        np.testing.assert_allclose(found[output.name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_may_enter_and_leave(shape: tuple[int, ...]) -> None:
    b = builder()
    x = b.input("x", *shape)
    y = b.multiply(*[b.linear((x,), *shape)] * 2)
    assert_keeps_meaning(b.graph(b.linear((y,), *shape)))


def test_splits_prefer_the_steps_that_other_matrices_and_folds_make() -> None:
    """A fold of step 4 is a key that a later matrix may use for free, instead of a new one."""
    shared = 0
    for seed in range(60):
        laid_out = choose_layouts(random_graph(seed), 256, Target())
        known: frozenset[int] = frozenset()
        for position in sorted(laid_out.kernels):
            kernel = laid_out.kernels[position]
            without_folds, known = known, known | set(kernel.folds)
            for matrix, split in zip(kernel.matrices, kernel.splits, strict=True):
                assert split == best_split(matrix.index, 256, known)
                shared += split != best_split(matrix.index, 256, without_folds)
                known |= steps(matrix.index, split, 256)
    assert shared


def test_an_input_read_by_two_matrices() -> None:
    b = builder()
    x = b.input("x", 1, 20)
    left, right = b.linear((x,), 1, 6, density=1.0), b.linear((x,), 1, 11, density=0.4)
    assert_keeps_meaning(b.graph(left, right))


def test_matrices_that_read_different_parts_of_an_input() -> None:
    eye = np.eye(20)
    for halves in ((eye[:10], eye[10:]), (eye[10:], eye[12:15])):
        b = builder()
        x = b.input("x", 1, 20)
        for half in halves:
            matrix, bias = sp.csr_array(half), np.zeros(len(half))
            b.add(Linear((x,), (matrix,), bias, (1, len(half))))
        assert_keeps_meaning(b.graph(1, 2))


def test_a_sum_that_reads_an_input_twice() -> None:
    b = builder()
    x = b.input("x", 1, 20)
    assert_keeps_meaning(b.graph(b.linear((x, x), 1, 9)))


def test_a_product_of_an_input_and_a_layer() -> None:
    b = builder()
    x = b.input("x", 1, 3, 3, 5)
    assert_keeps_meaning(b.graph(b.multiply(x, b.linear((x,), 1, 3, 3, 5))))


def test_a_product_of_two_layers() -> None:
    b = builder()
    x, z = b.input("x", 1, 20), b.input("z", 1, 7)
    y = b.multiply(b.linear((x,), 1, 13), b.linear((z,), 1, 13))
    assert_keeps_meaning(b.graph(b.linear((y,), 1, 3)))


def test_the_square_of_an_input_is_an_output() -> None:
    b = builder()
    x = b.input("x", 2, 3, 5)
    assert_keeps_meaning(b.graph(b.multiply(x, x), b.polynomial(x, 3)))


def test_an_input_is_an_output() -> None:
    b = builder()
    x = b.input("x", 1, 9)
    assert_keeps_meaning(b.graph(x))
    assert_keeps_meaning(b.graph(b.linear((x,), 1, 4, density=0.3), x))


def test_an_input_that_nothing_reads() -> None:
    b = builder()
    x, _ = b.input("x", 1, 9), b.input("z", 1, 9)
    assert_keeps_meaning(b.graph(b.linear((x,), 1, 4)))


@pytest.mark.parametrize("rows", [4, 100])
def test_a_layer_of_constants(rows: int) -> None:
    b = builder()
    x = b.input("x", 1, 9)
    bias = np.arange(rows) * GRAIN
    b.add(Linear((x,), (sp.csr_array((rows, 9)),), bias, (1, rows)))
    laid_out, _ = assert_keeps_meaning(b.graph(1, b.multiply(1, 1)))
    assert laid_out.layouts[0].holds_all(9)  # a plan wants at least one element


def test_tensors_of_many_ciphertexts() -> None:
    b = builder()
    x = b.input("x", 1, 2, 9, 9)
    y = b.polynomial(b.linear((x,), 1, 5, 7, 7, density=0.1), 3, shared=False)
    laid_out, _ = assert_keeps_meaning(b.graph(b.linear((y,), 1, 130)), 64, tolerance=1e-11)
    assert all(layout.blocks > 1 for layout in laid_out.layouts)


def test_an_image_whose_channel_is_larger_than_a_ciphertext() -> None:
    b = builder()
    x = b.input("x", 1, 30)
    assert_keeps_meaning(b.graph(b.linear((x,), 1, 3, 12, 12, density=0.2)))


def conv_net(target: Target, slots: int) -> tuple[TensorGraph, int]:
    """Return convolution, square, dense; and the ciphertexts of the input."""
    matrix, shape = convolution(np.random.default_rng(0), (1, 12, 12), 4, 4, 2)
    b = builder()
    x = b.input("x", 1, 1, 12, 12)
    bias = np.zeros(matrix.shape[0])
    y = b.add(Linear((x,), (matrix,), bias, (1, *shape)))
    graph = b.graph(b.linear((b.multiply(y, y),), 1, 10, density=1.0))
    return graph, choose_layouts(graph, slots, target).layouts[0].blocks


def test_the_client_sends_windows_so_that_the_first_layer_needs_few_rotations() -> None:
    graph, blocks = conv_net(Target(), 256)
    _, lowered = assert_keeps_meaning(graph, 256)
    first = lowered.program.instructions[1]
    assert isinstance(first, ckks_ir.LinearTransform)
    assert len(np.unique(first.matrix.index[:, 2])) * blocks <= 16


@pytest.mark.parametrize("limit", [1, 2, 4, 8])
def test_the_client_sends_no_more_ciphertexts_than_allowed(limit: int) -> None:
    assert conv_net(Target(max_input_ciphertexts=limit), 256)[1] <= limit


def test_where_no_arrangement_is_small_enough_the_input_is_plain() -> None:
    b = builder()
    x = b.input("x", 1, 200)
    graph = b.graph(b.linear((x,), 1, 150, density=1.0))
    target = Target(max_input_ciphertexts=1)
    layout = choose_layouts(graph, 64, target).layouts[0]
    assert (layout.blocks, layout.period) == (4, 64)
    _, lowered = compiled(graph, 64, target=target)
    assert isinstance(lowered.program.instructions[0], ckks_ir.Input)
    assert lowered.program.instructions[0].layout.blocks == 4


def test_the_output_of_a_layer_repeats_and_is_zero_elsewhere() -> None:
    b = builder()
    x = b.input("x", 1, 40)
    b.add(Linear((x,), (sp.csr_array(np.eye(3, 40)),), np.zeros(3), (1, 3)))
    laid_out, _ = assert_keeps_meaning(b.graph(1), 64)
    assert laid_out.layouts[1].elements[0].tolist() == [0, 1, 2, UNUSED] * 16


def test_tensors_that_meet_elementwise_share_a_layout() -> None:
    for seed in range(6):
        graph = random_graph(seed)
        layouts = choose_layouts(graph, 64, Target()).layouts
        for position, operation in enumerate(graph.operations):
            met = () if isinstance(operation, Linear) else tensor_ir.operands(operation)
            assert all(layouts[operand] is layouts[position] for operand in met)


def test_a_strided_network_keeps_its_pixels_in_place() -> None:
    """Otherwise the second convolution would take several times the rotations."""
    random, b = np.random.default_rng(0), builder()
    x, shape = b.input("x", 1, 2, 16, 16), (2, 16, 16)
    b.multiply(x, x)  # so that the client must send it row by row
    for kernels in (4, 8):
        matrix, shape = convolution(random, shape, kernels, 2, 2)
        bias = np.zeros(matrix.shape[0])
        b.add(Linear((len(b.operations) - 1,), (matrix,), bias, (1, *shape)))
        b.multiply(len(b.operations) - 1, len(b.operations) - 1)
    _, lowered = assert_keeps_meaning(b.graph(len(b.operations) - 1), 512)
    transforms = [x for x in lowered.program.instructions if isinstance(x, ckks_ir.LinearTransform)]
    assert [len(x.matrix.index) for x in transforms] == [9, 28]


def dense_net(*sizes: int, degree: int = 2) -> TensorGraph:
    """Return dense layers with a polynomial after each but the last."""
    b = builder()
    x = b.input("x", 1, sizes[0])
    for number, width in enumerate(sizes[1:]):
        if number:
            x = b.polynomial(x, degree)
        x = b.linear((x,), 1, width, density=1.0)
    return b.graph(x)


def diagonals(laid_out: LaidOutGraph) -> list[int]:
    return [len(kernel.matrices[0].index) for kernel in laid_out.kernels.values()]


def test_what_the_client_may_repeat_in_runs_spares_the_next_matrix_diagonals() -> None:
    matrix, shape = convolution(np.random.default_rng(0), (1, 8, 8), 2, 2, 2)
    b = builder()
    x = b.input("x", 1, 1, 8, 8)
    y = b.add(Linear((x,), (matrix,), np.zeros(matrix.shape[0]), (1, *shape)))
    graph = b.graph(b.linear((b.multiply(y, y),), 1, 16, density=1.0))
    assert_keeps_meaning(graph, 256)
    with_runs, without = layouts_to_compare(graph, 256, Target())
    assert with_runs.layouts[1].run == 4  # 32 elements in 256 slots
    assert [diagonals(each)[1] for each in (with_runs, without)] == [4, 16]


def test_an_input_that_several_read_does_not_come_in_runs() -> None:
    graph = dense_net(16, 16, 16)
    two = replace(graph, outputs=(*graph.outputs, Output("x", 0, 1.0)))
    assert max(each.layouts[1].run for each in layouts_to_compare(graph, 256, Target())) > 1
    assert max(each.layouts[1].run for each in layouts_to_compare(two, 256, Target())) == 1


def test_a_matrix_between_two_others_may_leave_gaps() -> None:
    with_gaps, *_, without = layouts_to_compare(dense_net(200, 32, 32, 8), 256, Target())
    assert diagonals(with_gaps)[1] < diagonals(without)[1]
    first, *_ = with_gaps.kernels[3].folds
    assert first < with_gaps.layouts[3].period


@pytest.mark.parametrize("graph", [dense_net(200, 32, 32), dense_net(200, 32, 32, 8, degree=3)])
def test_no_gaps_in_outputs_or_before_higher_powers(graph: TensorGraph) -> None:
    """Partial sums would tell the client about weights, and may be too large for a polynomial."""
    for laid_out in layouts_to_compare(graph, 256, Target()):
        folds = ((kernel.folds, laid_out.layouts[i]) for i, kernel in laid_out.kernels.items())
        assert all(not steps or steps[0] >= layout.period for steps, layout in folds)


def test_an_image_too_large_to_be_gathered_lies_in_the_phases_of_a_stride() -> None:
    """Row by row it would take hundreds of diagonals, and a gather nine ciphertexts."""
    matrix, shape = convolution(np.random.default_rng(0), (1, 16, 16), 4, 3, 2)
    b = builder()
    x = b.input("x", 1, 1, 16, 16)
    y = b.add(Linear((x,), (matrix,), np.zeros(matrix.shape[0]), (1, *shape)))
    laid_out, lowered = assert_keeps_meaning(b.graph(b.multiply(y, y)), 64)
    (first,) = (x for x in lowered.program.instructions if isinstance(x, ckks_ir.LinearTransform))
    assert [layout.blocks for layout in laid_out.layouts] == [4, 4, 4]
    assert len(first.matrix.index) == 4 * 9


def test_the_phases_of_an_image_lie_where_a_result_has_its_pixels() -> None:
    (result,) = (x for x in candidates((1, 2, 4, 4), None, 16) if x.places is not None)
    (found,) = in_phases((1, 1, 8, 8), result, 16)
    assert found.layout.elements.shape == (4, 16)
    for phase, elements in enumerate(found.layout.elements):
        row, column = divmod(phase, 2)
        image = np.arange(64).reshape(8, 8)[row::2, column::2]
        np.testing.assert_array_equal(elements, image.ravel())


def test_an_image_smaller_than_the_result_has_no_phases() -> None:
    result = candidates((1, 2, 8, 8), None, 64)[-1]
    assert in_phases((1, 1, 4, 4), result, 64) == []
