"""Turn a matplotlib figure into a small SVG that stands in a page: its colours, its fonts, a text.

Colours of figures are names of the page's palette, so that a page in the dark, or on paper, has its
own. Text stays text; ids that nothing refers to go, and so does what draws nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE: Final = (  # of the page's style sheet: each is a custom property there
    "ink", "soft", "line", "wash", "panel", "matrix", "polynomial", "bootstrap", "sum",
    "encryption", "approximation", "weights", "ciphertexts",
)  # fmt: skip
_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "{http://www.w3.org/1999/xlink}href"
_COLOUR: Final = re.compile(r"#0000([0-9a-f]{2})\b")
_FONT: Final = re.compile(r"font: ([0-9.]+)px [^;]*|font-family: [^;]*;? ?")
_LONG: Final = re.compile(r"(-?\d+\.\d{2})\d+")  # a hundredth of a pixel is fine enough


@contextmanager
def page_style() -> Iterator[None]:
    """Let matplotlib draw for a page: a point is a pixel, text stays text, and nothing is TeX."""
    import matplotlib as mpl

    settings = mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "hec",
            "text.parse_math": False,
            "font.size": 11.0,
            "axes.unicode_minus": False,
        }
    )
    with settings:
        yield


def colour(name: str) -> str:
    """Return the colour that stands in a figure for `name` of the page's palette."""
    return f"#0000{PALETTE.index(name):02x}"


def inline_svg(figure: Figure, title: str, description: str, key: str) -> str:
    """Return the figure as an SVG element; `key` makes its ids unique in the page.

    `title` and `description` are read aloud instead of the picture.
    """
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())
    _strip(root)
    _rename_ids(root, key)
    _tell(root, title, description, key)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _strip(root: ElementTree.Element) -> None:
    """Remove metadata and style sheets, round places, and take colours and fonts of the page."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata" or (
                child.tag == f"{{{_SVG}}}defs" and _is_style(child)
            ):
                parent.remove(child)
        for attribute in ("d", "x", "y", "transform", "width", "height"):
            if (places := parent.get(attribute)) is not None:
                parent.set(attribute, _LONG.sub(r"\1", places))
        if (style := parent.get("style")) is not None:
            parent.set("style", _restyled(style))


def _is_style(element: ElementTree.Element) -> bool:
    return [child.tag for child in element] == [f"{{{_SVG}}}style"]


def _restyled(style: str) -> str:
    style = _COLOUR.sub(lambda found: f"var(--{PALETTE[int(found[1], 16)]})", style)
    return _FONT.sub(lambda found: f"font-size: {found[1]}px" if found[1] else "", style)


def _rename_ids(root: ElementTree.Element, key: str) -> None:
    """Keep the ids that are referred to, and make them unique."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text))
    names = {name for pair in used for name in pair if name}
    for element in root.iter():
        identity = element.get("id")
        if identity in names:
            element.set("id", f"{key}-{identity}")
        elif identity is not None:
            del element.attrib["id"]
        if (link := element.attrib.pop(_XLINK, None)) is not None:
            element.set("href", link.replace("#", f"#{key}-"))  # HTML knows no other namespaces
        if (clip := element.get("clip-path")) is not None:
            element.set("clip-path", clip.replace("#", f"#{key}-"))


def _tell(root: ElementTree.Element, title: str, description: str, key: str) -> None:
    width, height = (float(part) for part in (root.get("viewBox") or "").split()[2:])
    root.attrib.clear()
    root.attrib.update(
        {
            "role": "img",
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "aria-labelledby": f"{key}-title {key}-text",
        }
    )
    for tag, text, place in (("desc", description, "text"), ("title", title, "title")):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{key}-{place}"})
        element.text = text
        root.insert(0, element)
