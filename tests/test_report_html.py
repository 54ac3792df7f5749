"""The page of the report: complete, escaped, asking for nothing. test_report_browser opens it."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli_runner import hec
from hec.compiler.alternative import Alternative
from hec.compiler.errors import CompileError
from hec.compiler.report import report, server_of
from hec.compiler.report_html import (
    SHOWN,
    _activations,
    _contents,
    _environment,
    _least,
    _time_caption,
    frame,
    html,
)
from hec.compiler.report_svg import PALETTE
from hec.compiler.tensor_ir import Curve, Histogram
from report_plans import HOSTILE, fit_of, residual_plan, with_results
from sample_plans import deep_program, linear_program, moving_program, plan_of

STYLE = (Path(__file__).resolve().parent.parent / "hec" / "report" / "report.css").read_text(
    "utf-8"
)
ADVICE = (
    Alternative(
        "replace MaxPool by AveragePool", "model", "tenseal", -14, 0, 5.0, 3.1, 10**9, 1.0, 256,
        0.994, 0.991, 0.03, 0.02,
    ),
    Alternative(
        "compile with --degree 7", "option", "tenseal", 0, 1, 9.0, 0.5, 10**9, 0.5, 0,
        None, None, None, None,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    return html(report(residual_plan(2)))


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([a-z]+)"', page)


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_contents_are_the_sections(page: str) -> None:
    assert re.findall(r'<a href="#([a-z]+)">[^<]*</a></li>', page) == sections(page)
    assert sections(page) == [
        "summary", "network", "levels", "errors", "time", "activations", "layers", "keys",
        "traffic", "bootstraps", "security",
    ]  # fmt: skip


def test_the_summary_has_the_essentials(page: str) -> None:
    cards = re.findall(r"<dt>([^<]*)</dt>\s*<dd class=\"value\">([^<]*?) ?<", page)
    assert {("Agreement", "99.2"), ("Bootstraps", "5"), ("Security", "128")} <= set(cards)
    assert [name for name, _ in cards][:4] == ["Time", "Agreement", "Precision", "Bootstraps"]
    assert "The 5 bootstraps take" in page


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_wherever_it_stands(name: str) -> None:
    plan = with_results(plan_of(deep_program(), model=name), (name,) * 12)
    inputs = tuple(replace(item, name=name) for item in plan.client.inputs[:0])
    assert not inputs
    found = report(plan)
    assert found.server is not None
    activation = replace(found.server.activations[0], function=name)
    server = replace(found.server, reason=name, activations=(activation,), costs=name)
    advice = (replace(ADVICE[0], change=name),)
    tensors = tuple(replace(item, name=name) for item in found.inputs)
    shown = html(replace(found, server=server, advice=advice, inputs=tensors))
    bare = shown.replace("<wbr>", "")
    for made in ("<script", "<img", "onerror=alert(1)>"):
        assert made not in bare
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", bare)
    assert bare.count("&lt;script&gt;") >= 8 or "script" not in name
    assert name in unescape(bare)


def test_the_page_asks_for_nothing(page: str) -> None:
    allowed = {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) <= allowed
    assert not re.findall(
        r"<(?:script|link(?! rel=\"icon\" href=\"data:,\")|img|iframe|object)", page
    )
    assert not re.findall(r"url\((?!#)", page)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.split("; ") == [
        "default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "base-uri 'none'",
        "form-action 'none'",
    ]  # fmt: skip


def test_every_colour_is_in_every_palette() -> None:
    """Of light, dark and paper; what figures and the template use is among them."""
    palettes = [
        set(re.findall(r"--([a-z]+):", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    ]
    assert len(palettes) == 3
    assert palettes[0] == palettes[1] == palettes[2]
    assert set(PALETTE) <= palettes[0]


def test_every_picture_has_a_text(page: str) -> None:
    found = svgs(page)
    assert len(found) == 5 + 5  # along the network, and one for each activation
    for svg in found:
        assert svg.get("role") == "img"
        texts = {child.get("id"): child.text for child in svg if child.tag.rpartition("}")[2]
                 in ("title", "desc")}  # fmt: skip
        assert set((svg.get("aria-labelledby") or "").split()) == set(texts)
        assert all(texts.values())


def test_the_texts_of_pictures_hold_the_numbers(page: str) -> None:
    found = report(residual_plan(2))
    assert found.server is not None
    told = unescape(" ".join(re.findall(r"<desc[^>]*>(.*?)</desc>", page)))
    for number, layer in enumerate(found.server.layers, 1):
        assert f"{number}: level {layer.level_in} to {layer.level_out}" in told
        assert f"{number}: encryption {layer.encryption_error:.2g}" in told
    assert "40 bins from -3 to 3 hold 0, 0," in told


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used <= set(ids)


def test_a_plan_without_calibration_says_what_it_does_not_know() -> None:
    shown = html(report(with_results(plan_of(deep_program()), ("x",) * 12, portrait=False)))
    assert "No curve and no inputs to show" in shown
    assert "no calibration samples in this plan" in shown
    assert "Agreement with the network: the plan was made without calibration samples" in shown
    assert "The share of approximation is not known" in shown


def test_the_clients_part_has_a_page_too() -> None:
    shown = html(report(plan_of(linear_program()).client))
    assert sections(shown) == ["summary", "keys", "traffic", "security"]
    assert "this file holds only the client&#39;s part" in shown


def test_without_activations_all_errors_are_encryptions() -> None:
    shown = html(report(plan_of(linear_program())))
    assert "No activation is approximated: all errors come from encryption." in shown
    assert "error, approximation" not in shown


def test_a_peak_while_keys_are_read_is_told() -> None:
    found = report(plan_of(linear_program()))
    assert found.server is not None
    usual = replace(found.server.memory, loading=0)
    early = replace(usual, loading=usual.working + usual.diagonals + 1)
    for memory, told in ((usual, False), (early, True)):
        shown = html(replace(found, server=replace(found.server, memory=memory)))
        assert ("most while keys are read" in shown) == told
        assert ("The peak is while the file of keys is read" in shown) == told


def test_advice_is_a_table_or_a_hint() -> None:
    found = report(plan_of(linear_program()))
    assert "--advice model.onnx" in html(found)
    assert "advice" not in sections(html(found))
    advised = html(replace(found, advice=ADVICE))
    assert sections(advised)[1] == "advice"
    rows = re.findall(r"<tr><td class=\"name wide\">(.*?)</tr>", advised, re.DOTALL)
    words = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]
    assert words == [
        "replace MaxPool by AveragePool another network 5 s 3.1 x faster 1 GB the same -14 same"
        " 99.40 % → 99.10 % 3.00 % → 2.00 %",
        "compile with --degree 7 an option 9 s 2.0 x slower 1 GB 2.0 x more same +1 - → - - → -",
    ]
    none = html(replace(found, advice=()))
    assert "No change that was tried makes the network cheaper" in none


def test_numbers_are_shown_in_their_own_ways() -> None:
    for name, shown in (
        ("px", {12.3456: "12.35", 999.9: "999.9", -12345.6: "-12346"}),
        ("more", {0: "same", 3: "+3", -2: "-2"}),
        ("probability", {None: "not known", 0.0021: "0.002"}),
        ("growth", {None: "-", 1.25: "25 %"}),
        ("breakable", {"a/b<c": "a/<wbr>b&lt;c"}),
    ):
        for value, words in shown.items():
            assert _environment().filters[name](value) == words
    times = _environment().filters["times"]
    assert [times(ratio, "faster", "slower") for ratio in (2.0, 0.5, 1.06, 1.04, 0.96, 0.0)] == [
        "2.0 x faster", "2.0 x slower", "1.1 x faster", "the same", "the same", "the same"
    ]  # fmt: skip


def test_wide_charts_scroll_and_others_on_phones() -> None:
    assert (_least(920.0), _least(1472.4)) == (800, 1472)


def test_the_caption_of_times_has_all_kinds_that_take_some() -> None:
    server = server_of(report(plan_of(linear_program())))
    kinds = replace(server.seconds_by_kind, bootstraps=0.0, matrices=2.0, other=3.0, messages=0.5)
    assert _time_caption(replace(server, seconds_by_kind=kinds)) == (
        "Seconds of each layer. In all: matrices 2 s, other 3 s, reading and writing messages "
        "500 ms."
    )


def test_of_many_activations_those_that_matter_come_first() -> None:
    server = server_of(report(with_results(plan_of(deep_program()), ("x",) * 12, portrait=False)))
    fits = [replace(server.activations[0], error_at_outputs=error)
            for error in (0.1, None, 0.3, *[0.2] * (SHOWN - 2))]  # fmt: skip
    for count, errors in ((SHOWN, [0.1, None, 0.3]), (SHOWN + 1, [0.3, 0.2, 0.2])):
        found = _activations(replace(server, activations=tuple(fits[:count])))
        assert [item.fit.error_at_outputs for item in found][:3] == errors
        assert len(found) == count and not any(item.svg for item in found)


def test_a_plan_without_layers_has_a_page_without_pictures() -> None:
    bare = report(plan_of(moving_program()))
    shown = html(bare)
    assert sections(shown) == [key for key, _ in _contents(bare)] == [
        "summary", "layers", "keys", "traffic", "bootstraps", "security"
    ]  # fmt: skip
    assert not svgs(shown)
    cells = r'<td class="text">([^<]*)</td><td class="name">([^<]*)</td><td class="text">([^<]*)<'
    assert re.findall(cells, shown) == [("to the server", "x", "1 x 8"), ("back", "y", "1 x 8")]


def test_absurd_numbers_do_not_stop_it() -> None:
    """They pass the rules of plans: finite, ascending."""
    curve = Curve((-1e300, 0.0, 1e300), (-1e308, 0.0, 1e308), (0.0, 0.0, 1e-320))
    seen = Histogram(-1e300, 1e300, (2**60, 0))
    fit = replace(fit_of(), curve=curve, histogram=seen, interval=(-1e300, 1e300))
    plan = with_results(plan_of(deep_program()), ("x",) * 12)
    (only,) = plan.server.fits
    server = replace(plan.server, fits=(replace(only, fit=fit),), approximation=(1e300,) * 12)
    found = report(replace(plan, server=server))
    free = tuple(replace(x, seconds=0.0) for x in server_of(found).layers)
    assert "</html>" in html(replace(found, server=replace(server_of(found), layers=free)))


def test_a_page_of_a_very_deep_network_stays_small() -> None:
    found = report(residual_plan(20))
    assert found.server is not None
    bare = replace(found.server, activations=found.server.activations[:14])
    shown = html(replace(found, server=bare))
    assert len(shown) < 10**6
    assert "The other 2, which move the outputs less" in shown
    assert shown.count('class="activation"') == 14


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.hec", tmp_path / "report.html"
    with_results(plan_of(deep_program()), ("conv",) * 12).save(plan)
    run = hec("report", plan, "--html", out)
    assert (run.exit_code, run.stderr) == (0, "")
    assert re.fullmatch(rf"page  {re.escape(str(out))}, [\d.]+ kB\n", run.stdout)
    assert out.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_can_write_and_print(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.hec", tmp_path / "report.html"
    plan_of(linear_program()).save(plan)
    run = hec("report", plan, "--html", out, "--json")
    assert run.stdout.startswith('{\n  "schema": "hec report"')
    assert out.exists()


def test_a_name_that_is_no_text_becomes_one(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.hec", tmp_path / "report.html"
    plan_of(linear_program(), model="half a \ud83d").save(plan)
    assert hec("report", plan, "--html", out).exit_code == 0
    assert "<h1>half a ?</h1>" in out.read_text("utf-8")


def test_a_path_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    plan = tmp_path / "plan.hec"
    plan_of(linear_program()).save(plan)
    folder = hec("report", plan, "--html", tmp_path)
    assert folder.exit_code == 2
    assert folder.stderr == (
        f"the output is a folder\n  --> {tmp_path}\n  help: give the path of a file after --html\n"
    )
    missing = hec("report", plan, "--html", tmp_path / "no" / "report.html")
    assert missing.exit_code == 2
    assert missing.stderr.startswith("the folder of the output does not exist\n")
    itself = hec("report", plan, "--html", plan)
    assert itself.stderr == (
        f"the output would replace the input\n  --> {plan}\n"
        "  help: give another path after --html\n"
    )
    assert plan.read_bytes()[:2] == b"PK"


def test_two_plans_have_no_page(tmp_path: Path) -> None:
    plan = tmp_path / "plan.hec"
    plan_of(linear_program()).save(plan)
    run = hec("report", plan, plan, "--html", tmp_path / "x.html")
    assert (run.exit_code, run.stdout) == (2, "")
    assert run.stderr == (
        f"some options are about one plan, and there are two\n  --> --html {tmp_path}/x.html\n"
        "  help: leave out --html, or give one plan\n"
    )


def test_a_folder_that_takes_no_file_is_a_clear_error(tmp_path: Path) -> None:
    plan = tmp_path / "plan.hec"
    plan_of(linear_program()).save(plan)
    run = hec("report", plan, "--html", "/proc/report.html")  # not even root writes there
    assert run.exit_code == 2
    assert run.stderr.startswith("Cannot write the file: ")
    assert run.stderr.endswith("  help: check the folder, its permissions, and the disk\n")


def test_a_foreign_or_damaged_file_is_told(tmp_path: Path) -> None:
    foreign, damaged = tmp_path / "foreign.hec", tmp_path / "damaged.hec"
    foreign.write_text("PK but not a zip", encoding="utf-8")
    plan_of(linear_program()).save(damaged)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 255
    damaged.write_bytes(bytes(data))
    for path in (foreign, damaged):
        run = hec("report", path, "--html", tmp_path / "report.html")
        assert run.exit_code == 2
        assert f"  --> {path}" in run.stderr
        assert "help: " in run.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CompileError) as caught:
        html(report(plan_of(linear_program())))
    assert str(caught.value) == (
        f"the HTML report needs the package {package}\n"
        "  --> hec report --html\n"
        "  help: pip install matplotlib jinja2"
    )


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    found = report(plan_of(linear_program(), model=HOSTILE[1]))
    shown = found._repr_html_()
    assert shown == frame(found)
    head, _, rest = shown.partition(' srcdoc="')
    assert head.startswith('<iframe sandbox="" title="&quot;&gt;&lt;img')
    assert unescape(rest.removesuffix('"></iframe>')) == html(found)
    assert '"' not in rest.removesuffix('"></iframe>')


def test_a_report_introduces_itself_in_a_line() -> None:
    plan = plan_of(linear_program())
    assert re.fullmatch(
        rf"<Report of sample\.onnx, plan {plan.plan_id[:12]}, [\d.]+ ms>", repr(report(plan))
    )
    assert repr(report(plan.client)) == f"<Report of sample.onnx, plan {plan.plan_id[:12]}>"
