"""Where things stand in the pictures of a report, and what the pictures tell."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hec.compiler.quantities import duration
from hec.compiler.report import Report, report, server_of
from hec.compiler.report_network import NetworkPicture, _levels, network_picture
from hec.compiler.report_tracks import Tracks
from report_plans import with_results
from sample_plans import deep_program, plan_of

LABELS = ("", "", *["a/conv"] * 4, *["a/square"] * 3, "a/tanh", "", "")


@pytest.fixture(scope="module")
def leveled() -> Report:
    return report(with_results(plan_of(deep_program()), LABELS))


def changed(told: Report, **changes: object) -> Report:
    return replace(told, server=replace(server_of(told), **changes))  # type: ignore[arg-type]


def drawn(told: Report) -> NetworkPicture:
    picture = network_picture(told)
    assert picture is not None
    return picture


def test_a_few_columns_share_the_width_and_many_widen_it() -> None:
    few, many, none = Tracks(8), Tracks(100), Tracks(0)
    assert (few.pitch, few.width, few.bar) == (106.0, 920.0, 44 / 106)
    assert (few.middle(1), few.middle(8)) == (56 + 53, 56 + 7.5 * 106)
    assert (many.pitch, many.width, many.bar) == (14.0, 1472.0, 0.64)
    assert (none.width, none.numbers) == (920.0, ())


def test_of_many_columns_some_show_their_number() -> None:
    assert Tracks(24).numbers == tuple(range(1, 25))
    assert Tracks(25).numbers == (1, 5, 10, 15, 20, 25)
    assert Tracks(96).numbers == (1, *range(5, 96, 5))
    assert Tracks(97).numbers == (1, *range(10, 97, 10))


def test_a_few_levels_have_lines() -> None:
    for top, levels in (
        (0, [0]),
        (6, [0, 1, 2, 3, 4, 5, 6]),
        (7, [0, 2, 4, 7]),  # 6 is too near to the top
        (8, [0, 2, 4, 6, 8]),
        (400, [*range(0, 400, 50), 400]),
    ):
        assert list(_levels(top)) == levels


def test_a_block_is_as_high_as_its_levels(leveled: Report) -> None:
    picture, columns = drawn(leveled), Tracks(3)
    assert (picture.width, picture.left, picture.right) == (920, 56, 904)
    assert (picture.base, picture.height) == (50 + 4 * 44, 50 + 4 * 44 + 44)
    assert [(x.number, x.name, x.note, x.colour) for x in picture.blocks] == [
        (1, "conv", "matrix", "matrix"),
        (2, "square", "square", "polynomial"),
        (3, "tanh", "degree 3", "polynomial"),
    ]
    assert [(x.y, x.height, x.label_y) for x in picture.blocks] == [
        (50, 44, 41), (94, 44, 85), (94, 88, 85)
    ]  # fmt: skip
    for block in picture.blocks:
        assert block.width == pytest.approx(44)
        assert block.x == pytest.approx(columns.middle(block.number) - 22)
    assert [(x.level, x.y) for x in picture.lines] == [(n, 50 + 44 * (4 - n)) for n in range(5)]
    assert picture.numbers == tuple((n, columns.middle(n)) for n in (1, 2, 3))


def test_hovering_and_reading_aloud_tell_all_of_a_layer(leveled: Report) -> None:
    first, *_, last = server_of(leveled).layers
    picture = drawn(leveled)
    words = f"matrix, level 4 to 3, {duration(first.seconds)}"
    assert picture.blocks[0].told == f"1: a/conv, {words}"
    assert picture.told.startswith(f"1: a/conv, {words}; 2: a/square, square, level 3 to 2, ")
    assert picture.told.endswith(f"level 3 to 1, {duration(last.seconds)}")
    long = replace(first, nodes="x" * 1000)
    picture = drawn(changed(leveled, layers=(long,)))
    assert len(picture.blocks[0].told) == len(f"1: , {words}") + 200
    assert len(picture.told) == len(f"1: , {words}") + 60


def test_a_layer_of_no_level_is_thin_and_a_bootstrap_rises(leveled: Report) -> None:
    (first, *_) = server_of(leveled).layers
    flat = replace(first, level_in=5, level_out=5)
    rising = replace(first, kind="bootstrap", operation="bootstrap of degree 7", level_in=3,
                     level_out=30)  # fmt: skip
    thin, tall = drawn(changed(leveled, layers=(flat, rising))).blocks
    assert (thin.height, thin.y) == (4, 50 + 25 * 9 - 2)  # 9 pixels a level, of so many
    assert (tall.height, tall.y, tall.note, tall.colour) == (243, 50, "bootstrap", "bootstrap")
    (alone,) = drawn(changed(leveled, layers=(replace(flat, level_in=20),))).blocks
    assert alone.height == 15 * 12  # 240 pixels, of 20 levels


def test_words_have_to_have_room(leveled: Report) -> None:
    (first, *_) = server_of(leveled).layers
    named = replace(first, nodes="a/ConvTranspose")
    for count, words in ((12, ("Conv…nspose", "matrix")), (13, ("", ""))):
        block, *_ = drawn(changed(leveled, layers=(named,) * count)).blocks
        assert (block.name, block.note) == words


def path(text: str) -> list[float]:
    assert re.fullmatch(r"M[-\d.]+ [-\d.]+C([-\d.]+ ){5}[-\d.]+", text)
    return [float(number) for number in re.findall(r"-?[\d.]+", text)]


def test_edges_lead_from_what_is_read_to_who_reads_it(leveled: Report) -> None:
    picture = drawn(leveled)
    left = [block.x for block in picture.blocks]
    right = [block.x + block.width for block in picture.blocks]
    found = [(path(edge.path), edge.skips) for edge in picture.edges]
    assert [(*x[:2], *x[6:], skips) for x, skips in found] == [
        (56, 50, pytest.approx(left[0], abs=0.1), 50, False),
        (56, 50, pytest.approx(left[0], abs=0.1), 50, False),
        (pytest.approx(right[0], abs=0.1), 94, pytest.approx(left[1], abs=0.1), 94, False),
        (pytest.approx(right[1], abs=0.1), 138, 904, 138, False),
        (pytest.approx(right[0], abs=0.1), 94, pytest.approx(left[2], abs=0.1), 94, True),
        (pytest.approx(right[2], abs=0.1), 182, 904, 182, False),
    ]
    for (x, y, bent, high, back, low, u, v), skips in found:
        if skips:  # it rises above the layers between
            rise = min(90, 12 + (u - x) / 8)
            assert (bent, back) == pytest.approx((x + 60, u - 60), abs=0.11)
            assert (high, low) == pytest.approx((y - rise, v - rise), abs=0.11)
        else:
            assert (bent, back) == pytest.approx(((x + u) / 2, (x + u) / 2), abs=0.11)
            assert (high, low) == (y, v)


def test_an_input_that_is_read_late_passes_by_other_layers(leveled: Report) -> None:
    first, second, third = server_of(leveled).layers
    late = (replace(first, inputs=()), replace(second, reads=(), inputs=(0,), outputs=()), third)
    entering, *_ = drawn(changed(leveled, layers=late)).edges
    assert entering.skips
    assert path(entering.path)[:2] == [56, 50]


def test_an_arch_over_narrow_columns_turns_in_its_middle(leveled: Report) -> None:
    (first, *_) = server_of(leveled).layers
    bare = replace(first, inputs=())
    (edge,) = drawn(
        changed(leveled, layers=(bare, bare, replace(bare, reads=(0,)), *[bare] * 60))
    ).edges
    x, _, bent, _, back, _, u, _ = path(edge.path)
    assert edge.skips
    assert (bent, back) == pytest.approx(((x + u) / 2, (x + u) / 2), abs=0.11)


def test_without_layers_there_is_no_picture(leveled: Report) -> None:
    assert network_picture(replace(leveled, server=None)) is None
    assert network_picture(changed(leveled, layers=())) is None
