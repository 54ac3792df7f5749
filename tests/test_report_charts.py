"""The charts of a report: bars, lines and words stand where the numbers are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from hec.compiler.activation_report import ActivationReport, CurveReport, HistogramReport
from hec.compiler.report import report, server_of
from hec.compiler.report_activation_charts import Sheet
from hec.compiler.report_charts import (
    encryption_share,
    error_chart,
    level_chart,
    memory_chart,
    time_chart,
)
from hec.compiler.report_svg import _restyled
from hec.compiler.report_tracks import Tracks
from hec.compiler.server_report import ServerReport
from report_plans import with_results
from sample_plans import deep_program, plan_of

Y = Callable[[float], float]  # pixels from the top, of a value
COLUMNS = Tracks(3)
LABELS = ("", "", *["conv"] * 4, *["square"] * 3, "tanh", "", "")


@pytest.fixture(scope="module")
def server() -> ServerReport:
    return server_of(report(with_results(plan_of(deep_program()), LABELS)))


def near(*values: float) -> object:
    return pytest.approx(values, abs=0.011)  # places are cut after a hundredth of a pixel


def near_pair(one: float, other: float) -> tuple[object, object]:
    return pytest.approx(one, abs=0.011), pytest.approx(other, abs=0.011)


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)]


def bars(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Return colour, left, right, bottom and top of all filled rectangles."""
    found = re.findall(r'<path d="(M[^"C]*z) "[^>]* style="fill: var\(--(\w+)\)"', svg)
    places = [(name, numbers(path)) for path, name in found]
    return [(name, x[0], x[2], x[1], x[5]) for name, x in places if len(x) == 8]


def lines(svg: str, name: str, width: float) -> list[list[tuple[float, float]]]:
    """Return the corners of all lines of a colour and a width."""
    style = rf'style="[^"]*stroke: var\(--{name}\); stroke-width: {width:g}(?:;[^"]*)?"'
    paths = [numbers(path) for path in re.findall(rf'<path d="(M[^"z]*)"[^>]* {style}', svg)]
    return [list(zip(x[::2], x[1::2], strict=True)) for x in paths]


def dots(svg: str, name: str) -> list[tuple[float, ...]]:
    found = re.findall(rf'<use x="([\d.]+)" y="([\d.]+)" style="fill: var\(--{name}\); str', svg)
    return [(float(x), float(y)) for x, y in found]


def texts(svg: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', svg)
    return {words: (float(x), float(y)) for x, y, words in found}


def height(bottom: float, pixels: float, low: float, high: float) -> Y:
    """Return where values stand on an axis from `low` at `bottom` to `high`."""
    return lambda value: bottom - pixels * (value - low) / (high - low)


def test_a_bar_is_as_high_as_the_seconds(server: ServerReport) -> None:
    layers = [replace(x, seconds=s) for x, s in zip(server.layers, (2.0, 1.0, 0.0), strict=True)]
    picture = time_chart(replace(server, layers=tuple(layers)))
    y = height(142, 120, 0, 1.16 * 2)
    assert picture.width == 920
    assert [x[0] for x in bars(picture.svg)] == ["matrix", "polynomial", "polynomial"]
    for n, bar in enumerate(bars(picture.svg), 1):
        middle = COLUMNS.middle(n)
        assert bar[1:] == near(middle - 22, middle + 22, 142, y(layers[n - 1].seconds))
    told = texts(picture.svg)
    assert {"1", "2", "3", "seconds", "2 s", "1 s"} <= set(told) and "0 ms" not in told
    assert told["2 s"][0] == pytest.approx(COLUMNS.middle(1), abs=0.01)
    assert told["3"][0] == pytest.approx(COLUMNS.middle(3), abs=0.01)
    assert told["1 s"][1] - told["2 s"][1] == pytest.approx(y(1) - y(2), abs=0.02)
    assert "Seconds of every layer. 1: 2 s; 2: 1 s; 3: 0 ms." in picture.svg


def test_many_bars_have_no_words(server: ServerReport) -> None:
    layers = (replace(server.layers[0], seconds=2.0),)
    for count, told in ((19, True), (20, False)):
        svg = time_chart(replace(server, layers=count * layers)).svg
        assert ("2 s" in texts(svg)) == told
        assert len(bars(svg)) == count


def test_bars_stand_between_the_moduli_before_and_after(server: ServerReport) -> None:
    scales = (20.0, 30.0, 26.0)
    layers = [replace(x, scale_bits=s) for x, s in zip(server.layers, scales, strict=True)]
    layers[1] = replace(layers[1], level_in=0, level_out=2)  # as after a bootstrap
    svg = level_chart(replace(server, layers=tuple(layers)), (10.0, 10.0, 20.0, 20.0, 40.0)).svg
    y = height(172, 150, 0, 1.06 * 100)
    assert [x[3:] for x in bars(svg)] == [near(y(60), y(100)), near(y(10), y(40)),
                                          near(y(20), y(60))]  # fmt: skip
    (steps,) = [x for x in lines(svg, "soft", 1.2) if x[0][1] < 172]
    ends = [steps[0], steps[1], steps[2], steps[-2], steps[-1]]
    assert [y for _, y in ends] == near(y(100), y(100), y(60), y(20), y(20))
    sides = (56, COLUMNS.middle(1) - 22, COLUMNS.middle(1) + 22, COLUMNS.middle(3) + 22, 904)
    assert [x for x, _ in ends] == near(*sides)
    y = height(262, 56, 17, 33)
    (scale,) = [x for x in lines(svg, "soft", 1.2) if x[0][1] > 172]
    assert sorted({round(high) for _, high in scale}) == sorted(round(y(s)) for s in scales)
    assert dots(svg, "matrix") == [near(COLUMNS.middle(n), y(scales[n - 1])) for n in (1, 2, 3)]
    assert "1: level 4 to 3, 60 bits left, scale 20.0 bits; 2: level 0 to 2, 40 bits" in svg


def test_errors_stand_on_a_logarithmic_axis(server: ServerReport) -> None:
    values = ((1e-4, 3e-4, 1e-2), (1e-13, 1e-3, 1e-3), (1e-5, 1e20, None))
    layers = [
        replace(layer, encryption_error=one, error_bound=bound, approximation_error=other)
        for layer, (one, bound, other) in zip(server.layers, values, strict=True)
    ]
    svg = error_chart(replace(server, layers=tuple(layers))).svg
    y = height(172, 150, -13, 13)  # powers of ten, of the errors from 1e-12 to 1e12
    places = [COLUMNS.middle(n) for n in (1, 2, 3)]
    assert dots(svg, "encryption") == [near(places[0], y(-4)), near(places[2], y(-5))]
    assert dots(svg, "approximation") == [near(places[0], y(-2)), near(places[1], y(-3))]
    (bound,) = lines(svg, "encryption", 1.4)
    assert [high for _, high in bound] == near(y(-3.52288), y(-3), y(12))
    ticks = {"1e-13", "1e-7", "1e-1", "1e5", "1e11"}
    assert {x for x in texts(svg) if x.startswith("1e")} == ticks
    shares = [(x[0], *x[3:]) for x in bars(svg)]
    y = height(262, 56, 0, 100)
    part = 100 * encryption_share(layers[0])
    assert part == pytest.approx(100 * 1e-8 / (1e-8 + 1e-4))
    assert shares == [
        ("approximation", *near_pair(y(0), y(100 - part))),
        ("approximation", *near_pair(y(0), y(100))),
        ("approximation", *near_pair(y(0), y(0))),
        ("encryption", *near_pair(y(100 - part), y(100))),
        ("encryption", *near_pair(y(100), y(100))),
        ("encryption", *near_pair(y(0), y(100))),
    ]
    assert "1: encryption 0.0001 (at most 0.0003), approximation 0.01; 2: " in svg
    assert "3: encryption 1e-05 (at most 1e+20), approximation not known." in svg


def test_without_an_approximation_only_encryption_is_drawn(server: ServerReport) -> None:
    layers = [replace(x, approximation_error=None) for x in server.layers]
    svg = error_chart(replace(server, layers=tuple(layers))).svg
    assert dots(svg, "encryption") and not dots(svg, "approximation") and not bars(svg)
    assert "share of the variance, %" not in texts(svg)
    quiet = replace(layers[0], encryption_error=0.0)
    assert encryption_share(quiet) == 1
    assert encryption_share(replace(quiet, approximation_error=1.0)) == 0


def test_an_axis_of_few_powers_has_a_tick_at_each(server: ServerReport) -> None:
    quiet = replace(server.layers[0], encryption_error=0.02, error_bound=1.5,
                    approximation_error=None)  # fmt: skip
    told = texts(error_chart(replace(server, layers=(quiet,))).svg)
    assert {"1e-2", "1e-1", "1", "1e1"} <= set(told) and "1e-3" not in told
    narrow = replace(quiet, encryption_error=0.002, error_bound=0.004)
    told = texts(error_chart(replace(server, layers=(narrow,))).svg)
    assert set(told) == {"error of values in [-1, 1]", "1", "1e-3", "1e-2"}  # 1: of the column


def test_ciphertexts_stand_on_weights(server: ServerReport) -> None:
    sizes = ((3_000_000, 1_000_000), (0, 2_000_000), (1_000_000, 0))
    layers = [
        replace(layer, plaintext_bytes=weights, live_bytes=alive)
        for layer, (weights, alive) in zip(server.layers, sizes, strict=True)
    ]
    svg = memory_chart(replace(server, layers=tuple(layers))).svg
    y = height(142, 120, 0, 1.16 * 4)
    assert [(x[0], *x[3:]) for x in bars(svg)] == [
        ("weights", *near_pair(y(0), y(3))),
        ("weights", *near_pair(y(0), y(0))),
        ("weights", *near_pair(y(0), y(1))),
        ("ciphertexts", *near_pair(y(3), y(4))),
        ("ciphertexts", *near_pair(y(0), y(2))),
        ("ciphertexts", *near_pair(y(1), y(1))),
    ]
    assert {"4 MB", "2 MB", "1 MB"} <= set(texts(svg))
    assert "1: weights 3 MB, ciphertexts 1 MB; 2: weights 0 bytes, ciphertexts 2 MB" in svg


FIT = ActivationReport(
    "act", "relu", 7, (-2.0, 3.0), (-1.5, 2.0), (-4.8, 4.8), 0.01, 0.5, 0.004, None, None,
    HistogramReport(-3.0, 3.0, (1, 4, 2)),
    CurveReport((-4.0, 0.0, 6.0), (0.0, 0.0, 2.0), (0.5, 0.25, 2.5)),
)  # fmt: skip


def test_every_picture_has_room_and_only_colours_of_the_page(server: ServerReport) -> None:
    bits = (38.0, *[28.0] * 4)
    for picture, high in (
        (level_chart(server, bits), 22 + 150 + 34 + 56 + 26),
        (error_chart(server), 22 + 150 + 34 + 56 + 26),
        (time_chart(server), 22 + 120 + 26),
        (memory_chart(server), 22 + 120 + 26),
    ):
        assert f'viewBox="0 0 920 {high}"' in picture.svg
        assert re.search(r'fill: var\(--soft\)" x="762[^>]*>3<', picture.svg)
        assert not re.findall(r"#[0-9a-f]{6}", picture.svg)
    assert not re.findall(r"#[0-9a-f]{6}", Sheet().chart(FIT, "fit0") or "")


def test_a_fit_stands_over_its_function_and_its_inputs() -> None:
    svg = Sheet().chart(FIT, "fit0") or ""

    def x(value: float) -> float:
        return 42 + 249 * (value + 4) / 10

    y = height(116, 108, -0.7, 2.7)  # 0.35 of the function's range above and below
    (fitted,), (exact,) = lines(svg, "polynomial", 1.8), lines(svg, "soft", 1.2)
    assert fitted == [near(x(-4), y(0.5)), near(x(0), y(0.25)), near(x(6), y(2.5))]
    assert exact == [near(x(-4), y(0)), near(x(0), y(0)), near(x(6), y(2))]
    washed = [near(x(-2), x(3), bottom, top) for bottom, top in ((116, 8), (176, 132))]
    assert [bar[1:] for bar in bars(svg) if bar[0] == "wash"] == washed
    ends = re.findall(r'<path d="(M[^"]*)"[^>]* style="fill: none; stroke: var\(--line\)', svg)
    walls = [line[0] for line in map(numbers, ends) if line[0] == line[2]]
    assert walls == near(x(-2), x(3), x(-2), x(3))
    below = {words: place[0] for words, place in texts(svg).items() if place[1] > 116}
    assert 3 <= len(below) <= 5
    for words, place in below.items():
        assert place == pytest.approx(x(float(words)), abs=0.011)
    assert svg.count("<text") == len(re.findall(r'fill: var\(--soft\)" x=', svg))
    (stairs,) = re.findall(r'<path d="(M[^"]*)"[^>]* style="fill: var\(--matrix\)"', svg)
    corners = numbers(stairs)
    y = height(176, 44, 0, 1.1 * 4)
    assert corners[:2] == near(x(-3), y(0))
    assert sorted({*corners[1::2]}) == near(y(4), y(2), y(1), y(0))
    assert sorted({*corners[::2]}) == near(x(-3), x(-1), x(1), x(3))
    assert "Degree 7 on [-2, 3], root mean square error 0.01. 7 inputs lie in [-1.5, 2]; 3" in svg
    assert "bins from -3 to 3 hold 1, 4, 2." in svg


def test_all_inputs_have_room() -> None:
    svg = Sheet().chart(replace(FIT, curve=None), "fit0") or ""
    wide = [bar[1:3] for bar in bars(svg) if bar[0] == "wash"]
    assert wide == [near(42 + 249 / 6, 291)] * 2  # from -3, where inputs were seen, to 3


def test_a_sheet_forgets_the_fit_before() -> None:
    sheet = Sheet()
    first = sheet.chart(FIT, "fit0")
    other = replace(FIT, interval=(-9.0, 9.0), curve=None)
    second = sheet.chart(other, "fit0") or ""
    assert not lines(second, "polynomial", 1.8)
    assert [x[1:3] for x in bars(second) if x[0] == "wash"] == [near(42, 291)] * 2
    assert sheet.chart(FIT, "fit0") == first


def test_styles_take_colours_and_fonts_of_the_page() -> None:
    for style, page in (
        ("font: 11px 'DejaVu Sans', sans-serif; text-anchor: end; fill: #000001",
         "font-size: 11px; text-anchor: end; fill: var(--soft)"),
        ("font-size: 9px; font-family: 'DejaVu Sans', 'Arial'; fill: #000002",
         "font-size: 9px; fill: var(--line)"),
        ("stroke: #00000c; fill: #00000c1", "stroke: var(--ciphertexts); fill: #00000c1"),
    ):  # fmt: skip
        assert _restyled(style) == page


def test_a_picture_holds_only_what_is_drawn() -> None:
    svg = Sheet().chart(FIT, "fit0") or ""
    assert not re.findall(r"metadata|<style|xlink|font-family|-?\d+\.\d{3}", svg)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert used and all(name.startswith("fit0-") for name in used)
    assert used | {"fit0-title", "fit0-text"} == set(re.findall(r' id="([^"]+)"', svg))
    assert re.match(
        r'<svg xmlns="http://www\.w3\.org/2000/svg" role="img" viewBox="0 0 300 200" width="300" '
        r'height="200" aria-labelledby="fit0-title fit0-text">\s*<title id="fit0-title">relu, its '
        r'fit, and its inputs</title>\s*<desc id="fit0-text">Degree 7',
        svg,
    )


def test_what_is_not_known_of_a_fit_is_not_drawn() -> None:
    sheet = Sheet()
    svg = sheet.chart(replace(FIT, histogram=None), "fit0") or ""
    assert "root mean square error 0.01. The inputs are not known." in svg
    assert not re.findall(r'style="fill: var\(--matrix\)"', svg)
    assert lines(svg, "polynomial", 1.8)
    assert sheet.chart(replace(FIT, histogram=None, curve=None), "fit0") is None


def test_what_no_picture_holds_is_not_drawn() -> None:
    sheet, far = Sheet(), 2e30
    assert FIT.curve is not None and FIT.histogram is not None
    for fit in (
        replace(FIT, interval=(-far, 3.0)),
        replace(FIT, curve=replace(FIT.curve, x=(-4.0, 0.0, far))),
        replace(FIT, curve=replace(FIT.curve, exact=(-far, 0.0, 0.0))),
        replace(FIT, curve=replace(FIT.curve, fitted=(0.0, 0.0, far))),
        replace(FIT, histogram=replace(FIT.histogram, low=-far)),
        replace(FIT, histogram=replace(FIT.histogram, high=far)),
    ):
        assert sheet.chart(fit, "fit0") is None


def test_a_constant_function_and_no_inputs_have_room() -> None:
    curve = CurveReport((-4.0, 6.0), (1.0, 1.0), (1.0, 1.5))
    svg = Sheet().chart(replace(FIT, curve=curve, histogram=HistogramReport(-3, 3, (0, 0))), "f")
    y = height(116, 108, 0, 2)
    ((*_, end),) = lines(svg or "", "polynomial", 1.8)
    assert end == near(291, y(1.5))
