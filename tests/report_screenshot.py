"""Take a picture of the page of a plan, for the README: the summary and the network.

python tests/report_screenshot.py plan.hec docs/images/report.png
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from PIL import Image
from playwright.sync_api import sync_playwright

from hec.compiler.plan import Plan
from hec.compiler.report import report
from hec.compiler.report_html import html

WIDTH, SCALE = 1240, 1.5  # pixels of the window, and of the picture for each of them
COLOURS: Final = 128  # of the picture: it has few


def main(plan: str, picture: str) -> None:
    """Write the picture."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_path = Path(folder) / "report.html"
        page_path.write_text(html(report(Plan.load(plan))), encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=[] if os.geteuid() else ["--no-sandbox"],
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        page.goto(page_path.as_uri())
        end = page.locator("#network figcaption").bounding_box()
        height = (end["y"] + end["height"] if end else 900) + 18
        clip = {"x": 0.0, "y": 0.0, "width": float(WIDTH), "height": height}
        taken = Path(folder) / "page.png"
        page.screenshot(path=taken, clip=clip, full_page=True)
        few = Image.open(taken).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
