"""The page of the report in a real browser: nothing fails, nothing is fetched, nothing overflows.

`make test-browser` installs Chromium where it can, and runs these.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pypdf import PdfReader

from hec.compiler.report import Report, report
from hec.compiler.report_html import frame, html
from report_plans import HOSTILE, residual_plan, with_results
from sample_plans import deep_program, plan_of

pytestmark = pytest.mark.browser
PHONE, DESK = 360, 1280  # pixels
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Of every figure: what a screen reader says, and the numbers that can be read beside it.
TEXTS = """() => [...document.querySelectorAll("figure")].map(figure => {
  const image = figure.querySelector("[role=img]");
  const ids = image ? (image.getAttribute("aria-labelledby") || "").split(" ") : [];
  return ids.map(id => document.getElementById(id)?.textContent || "");
})"""
WIDTHS = "() => [document.documentElement.scrollWidth, window.innerWidth]"
OUTSIDE = """() => [...document.querySelectorAll("main *, header *, nav *")].filter(element =>
  !element.closest(".scroll, svg, .meter, .split")
  && element.getBoundingClientRect().right > window.innerWidth + 1
).map(element => element.outerHTML.slice(0, 80))"""


@dataclass
class Opened:
    """A page, and what it did."""

    page: Page
    said: list[str] = field(default_factory=list)  # on the console, errors included
    asked: list[str] = field(default_factory=list)  # addresses of requests


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.fail("there is no Chromium: make test-browser installs it, or says how")
    sandboxed = [] if os.geteuid() else ["--no-sandbox"]  # which root cannot have
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=sandboxed)
        yield found
        found.close()


class Tabs:
    """Opens pages, and closes them when a test ends."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.contexts: list[BrowserContext] = []

    def open(self, path: Path, width: int = DESK, scheme: str = "light") -> Opened:
        """Return a page that has no network."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            offline=True,
        )
        self.contexts.append(context)
        result = Opened(context.new_page())
        result.page.on("console", lambda message: result.said.append(message.text))
        result.page.on("pageerror", lambda error: result.said.append(str(error)))
        result.page.on("dialog", lambda dialog: result.said.append(dialog.message))
        result.page.on("request", lambda request: result.asked.append(request.url))
        result.page.goto(path.as_uri())
        return result


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    found = Tabs(browser)
    yield found
    for context in found.contexts:
        context.close()


def written(folder: Path, name: str, found: Report) -> Path:
    path = folder / f"{name}.html"
    path.write_text(html(found), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A shallow network, a deep one with fits that are folded away, a client's part, bad names."""
    folder = tmp_path_factory.mktemp("pages")
    labels = ("", "", *["/features/0/Conv"] * 4, *["/features/1/Mul"] * 3, "/act/Tanh", "", "")
    shallow = with_results(plan_of(deep_program()), labels)
    hostile = with_results(plan_of(deep_program(), model=HOSTILE[1]), HOSTILE * 3)
    return {
        "shallow": written(folder, "shallow", report(shallow)),
        "deep": written(folder, "deep", report(residual_plan(8))),
        "client": written(folder, "client", report(shallow.client)),
        "hostile": written(folder, "hostile", report(hostile)),
    }


NAMES = ("shallow", "deep", "client", "hostile")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_offline_without_errors_or_requests(
    tabs: Tabs, pages: dict[str, Path], name: str, scheme: str
) -> None:
    shown = tabs.open(pages[name], scheme=scheme)
    assert shown.said == []
    assert shown.asked == [pages[name].as_uri()]
    assert shown.page.locator("h1").count() == 1


def test_bad_names_make_no_elements(tabs: Tabs, pages: dict[str, Path]) -> None:
    shown = tabs.open(pages["hostile"])
    assert shown.page.locator("script, img, iframe, object, embed").count() == 0
    assert shown.page.locator("h1").inner_text() == HOSTILE[1]
    assert shown.page.title().startswith(HOSTILE[1])
    told = shown.page.locator("body").inner_text()
    assert all(name in told for name in HOSTILE[:2])


def test_its_own_policy_stops_what_others_put_into_it(
    tabs: Tabs, pages: dict[str, Path], tmp_path: Path
) -> None:
    """Even if escaping failed, nothing would run, and nothing would be sent."""
    text = pages["shallow"].read_text("utf-8")
    attack = '<script>document.title = "taken"</script><img src="http://127.0.0.1:9/x">'
    path = tmp_path / "attacked.html"
    path.write_text(text.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    shown = tabs.open(path)
    assert shown.page.title() != "taken"
    assert any("Content Security Policy" in line for line in shown.said)


@pytest.mark.parametrize("name", ["shallow", "deep"])
def test_every_figure_says_what_it_shows(tabs: Tabs, pages: dict[str, Path], name: str) -> None:
    figures = tabs.open(pages[name]).page.evaluate(TEXTS)
    assert len(figures) >= 6
    for title, description in figures:
        assert title.strip()
        assert re.search(r"\d", description)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [320, PHONE, 768, 1024, DESK, 1920])
def test_nothing_is_wider_than_the_window(
    tabs: Tabs, pages: dict[str, Path], name: str, width: int
) -> None:
    """What is wide scrolls in a box of its own."""
    page = tabs.open(pages[name], width).page
    inner, window = page.evaluate(WIDTHS)
    assert inner <= window == width
    assert page.evaluate(OUTSIDE) == []


def test_a_wide_table_scrolls_in_its_box(tabs: Tabs, pages: dict[str, Path]) -> None:
    page = tabs.open(pages["deep"], PHONE).page
    box = page.locator("#layers .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert box.get_attribute("tabindex") == "0"  # a keyboard can scroll it


def test_text_in_pictures_can_be_read_on_a_phone(tabs: Tabs, pages: dict[str, Path]) -> None:
    page = tabs.open(pages["shallow"], PHONE).page
    heights = page.locator(".scroll svg text, .activation svg text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert len(heights) > 30
    assert min(heights) >= 9  # pixels


def test_the_contents_lead_to_every_section(tabs: Tabs, pages: dict[str, Path]) -> None:
    page = tabs.open(pages["shallow"]).page
    for link in page.locator("nav a").all():
        link.click()
        target = page.locator(link.get_attribute("href") or "")
        assert target.locator("h2").first.inner_text() == link.inner_text()


def test_dark_and_light_are_different(tabs: Tabs, pages: dict[str, Path]) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    shades = [tabs.open(pages["shallow"], scheme=s).page.evaluate(colour)
              for s in ("light", "dark")]  # fmt: skip
    assert shades[0] == "rgb(255, 255, 255)" != shades[1]
    fill = "getComputedStyle(document.querySelector('#time svg text')).fill"
    inks = [tabs.open(pages["shallow"], scheme=s).page.evaluate(fill)
            for s in ("light", "dark")]  # fmt: skip
    assert inks[0] != inks[1]


@pytest.mark.parametrize("name", ["shallow", "deep"])
def test_on_paper_are_all_sections_and_what_is_folded_away(
    tabs: Tabs, pages: dict[str, Path], name: str
) -> None:
    page = tabs.open(pages[name]).page
    headings = page.locator("h2").all_inner_texts()
    fits = page.locator(".activation").count()
    pdf = PdfReader(BytesIO(page.pdf(format="A4", prefer_css_page_size=True)))
    text = " ".join("\n".join(sheet.extract_text() for sheet in pdf.pages).split())
    assert len(pdf.pages) >= 4
    assert all(heading in text for heading in headings)
    assert text.count("error of the fit, rms") == fits


def test_the_page_of_a_deep_network_is_quick(tabs: Tabs, pages: dict[str, Path]) -> None:
    page = tabs.open(pages["deep"]).page
    milliseconds = page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    assert milliseconds < 3000


def test_a_screenshot_is_not_blank(tabs: Tabs, pages: dict[str, Path]) -> None:
    taken = tabs.open(pages["shallow"]).page.screenshot()
    assert len(taken) > 30_000


def test_a_notebook_frame_shows_the_page(tabs: Tabs, tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    found = replace(report(plan_of(deep_program())), model="framed.onnx")
    path.write_text(f"<!DOCTYPE html><h1>notebook</h1>{frame(found)}", encoding="utf-8")
    shown = tabs.open(path)
    assert shown.said == []
    inner = shown.page.frame_locator("iframe")
    assert inner.locator("h1").inner_text() == "framed.onnx"
    assert shown.page.locator("h1").evaluate("x => getComputedStyle(x).letterSpacing") == "normal"
