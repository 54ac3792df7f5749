"""Growth along the axes of the benchmarks: fitted exponents, tables, the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

import growth
from networks import products
from rows import Row
from scaling import COSTS, laws, panels, rows_of

SIZES = (1, 2, 4, 8, 16)
WIDTH = growth.axis("width")


def table(power: float) -> list[Row]:
    """Return the rows of an axis all of whose costs grow with this power of the size."""
    costs = (*COSTS, "run_seconds", "server_peak_bytes")
    return [{"model": f"width:{size}", **dict.fromkeys(costs, 3.0 * size**power)} for size in SIZES]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    values = [3.0 * size**power for size in SIZES]
    assert growth.exponent(SIZES, values) == pytest.approx(power)
    assert growth.upper(SIZES, values) == pytest.approx(power)


def test_the_larger_half_leaves_out_what_is_constant_at_first() -> None:
    values = [1.0, 1.0, 1.0, 4.0, 16.0]
    assert growth.upper(SIZES, values) == pytest.approx(2.0)
    assert growth.exponent(SIZES, values) == pytest.approx(1.0)


def test_one_size_or_a_zero_has_no_exponent() -> None:
    assert growth.exponent([4], [1.0]) is None
    assert growth.exponent([2, 4], [0.0, 1.0]) is None


def test_only_what_grows_faster_than_the_arithmetic_is_told() -> None:
    assert laws(WIDTH, table(2.0))["faster"] == "-"
    told = laws(WIDTH, table(2.5))["faster"]
    assert told == "seconds, bytes, key switches, plain products, compile seconds"


def test_a_refused_size_is_left_out_of_a_fit() -> None:
    rows = [*table(1.0), {"model": "width:32", "refused": "too wide"}]
    assert laws(WIDTH, rows)["forecast_seconds"] == pytest.approx(1.0)


def test_an_axis_has_only_its_own_rows() -> None:
    assert rows_of(growth.axis("depth"), table(1.0)) == []
    assert len(rows_of(WIDTH, table(1.0))) == len(SIZES)


@pytest.mark.parametrize("axis", growth.AXES, ids=lambda axis: axis.name)
def test_the_arithmetic_follows_its_law(axis: growth.Axis) -> None:
    if axis.batched:
        assert axis.network(1) == axis.network(64)
        return
    sizes = axis.sizes[-2:]
    work = [products(*axis.network(size)) for size in sizes]
    assert growth.exponent(sizes, work) == pytest.approx(axis.law, abs=0.15)
    assert set(axis.run) <= set(axis.sizes)


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(SystemExit) as problem:
        growth.axis("length")
    known = "width, depth, image, channels, batch"
    assert str(problem.value) == f"no axis length; there are {known}"


def test_the_picture_has_a_panel_for_each_axis(tmp_path: Path) -> None:
    shown = panels([WIDTH], table(1.0))
    assert shown[0].seconds.forecast == tuple(3.0 * size for size in SIZES)
    assert shown[0].gigabytes.measured == tuple(3e-9 * size for size in SIZES)
    growth.draw(shown * 4, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
