"""What a report tells of a layout is where its elements are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hec.compiler.arrangement import candidates
from hec.compiler.layout import Layout, at
from hec.compiler.packing import Packing, packing
from hec.compiler.pipeline import compile
from hec.compiler.plan import Plan
from hec.compiler.target import Target
from sample_plans import first_slots


def test_a_vector_lies_side_by_side() -> None:
    found = packing(at(np.arange(10), 16, 64), (1, 10))
    assert found == Packing(1, 40, 4, ((1, 2, 4, 8), (), ()))
    assert (found.kind, found.gap) == ("vector", 1)


def test_a_vector_with_a_gap() -> None:
    found = packing(at(8 * np.arange(4), 32, 32), (1, 4))
    assert (found.kind, found.gap, found.slots, found.copies) == ("vector, gap 8", 8, 4, 1)


def test_an_image_is_row_major_with_its_rows_padded() -> None:
    image = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    index = np.indices(image.shape)
    positions = (32 * index[0] + 8 * index[1] + index[2]).reshape(-1)
    found = packing(at(positions, 64, 64), (1, 2, 3, 5))
    assert found.distances == ((32,), (8, 16), (1, 2, 4))
    assert found.kind == "row-major"


def test_channels_in_the_gaps_of_pixels_are_multiplexed() -> None:
    index = np.indices((4, 2, 2))
    positions = (index[0] % 2 + 8 * (index[0] // 2) + 4 * index[1] + 2 * index[2]).reshape(-1)
    found = packing(at(positions, 16, 16), (1, 4, 2, 2))
    assert found.distances == ((1, 8), (4,), (2,))
    assert (found.kind, found.gap) == ("multiplexed, gap 2", 2)


def test_a_gap_that_nothing_fills_is_no_multiplexing() -> None:
    positions = 2 * np.arange(16)
    assert packing(at(positions, 32, 32), (1, 1, 4, 4)).kind == "row-major, gap 2"


def test_elements_in_no_order_are_irregular() -> None:
    positions = np.array([0, 3, 1, 2, 5])
    assert packing(at(positions, 8, 8), (1, 5)) == Packing(1, 5, 1, None)
    assert packing(at(positions, 8, 8), (1, 5)).kind == "irregular"
    assert packing(first_slots(8, 3), (1, 4)).distances is None  # an element is left out


def test_several_ciphertexts_and_uneven_copies_are_counted() -> None:
    found = packing(first_slots(32, 8, blocks=2), (1, 16))
    assert (found.ciphertexts, found.slots, found.copies) == (2, 16, 1)
    uneven = Layout(np.array([[0, 1, 0, -1]], np.int32))
    assert (packing(uneven, (1, 2)).slots, packing(uneven, (1, 2)).copies) == (3, 1)


@pytest.mark.parametrize("shape", [(1, 10), (1, 3, 7), (1, 5, 6, 3)])
def test_the_layouts_of_the_compiler_are_regular(shape: tuple[int, ...]) -> None:
    for option in candidates(shape, None, 4096):
        assert packing(option.layout, shape).distances is not None


def test_a_plan_remembers_nodes_packings_and_what_was_asked_for(tmp_path: Path) -> None:
    from cli_runner import MLP

    target = Target(backend="tenseal", precision=7.0, input_range=(0.0, 1.0))
    with pytest.warns(UserWarning, match="no calibration data"):
        plan = compile(MLP, target=target)
    plan.save(tmp_path / "mlp.hec")
    server = Plan.load(tmp_path / "mlp.hec").server
    assert server.target == target
    assert len(server.sources) == len(server.program.instructions)
    assert server.tensors == plan.server.tensors
    first = server.tensors[server.sources[0]]
    assert (first.nodes, first.shape) == ((), (1, 1, 28, 28))
    nodes = {name for tensor in server.tensors for name in tensor.nodes}
    assert len(nodes) > 3
