"""A figure as SVG for an HTML page: its colors are the page's, in light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from striate.errors import one_line
from striate.visualize.canvas import BLUE, FAINT, GREEN, INK, ORANGE, VERMILION, print_figure, save_figure
from striate.visualize.page_parts import Picture, PictureKind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GRID = "#dddddd"
_THEME = {
    **{BLUE: "blue", VERMILION: "vermilion", GREEN: "green", ORANGE: "orange"},
    **{INK: "ink", FAINT: "faint", _GRID: "grid", "#000000": "ink"},
}
_VARIABLES = {color.lower(): f"var(--{name})" for color, name in _THEME.items()}
_OF_WORDS = {color: _VARIABLES[color] for color in (INK, FAINT)}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_KEPT = {"d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "points", "cx", "cy", "r"}
_PIXELS_PER_POINT = 96 / 72
LARGE = 500
"""Pixels: wider charts have the class `large`, which scrolls on a phone, where they would be too small to read."""


def themed_svg(figure: Figure, label: str, photo_dpi: int | None = None) -> str:
    """The figure as an `<svg>` element for a page; `label` is for screen readers.

    Text stays text. The colors of `striate.visualize.canvas` and black become CSS variables, backgrounds are left out.
    Ids begin with a digest of the picture, so that they are unique on a page; the same figure gives the same text.
    `photo_dpi`: of a figure of photographs; they and what is drawn over them become pixels, which keep their colors.
    """
    import matplotlib

    for axes in figure.axes:
        axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    if photo_dpi is not None:
        _rasterize(figure)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        print_figure(figure, file, "svg", photo_dpi or 100)
    drawn = ElementTree.fromstring(file.getvalue())
    width, height = (float(drawn.attrib[side].removesuffix("pt")) * _PIXELS_PER_POINT for side in ("width", "height"))
    prefix = f"p{sha256(file.getvalue().encode()).hexdigest()[:10]}"
    svg = ElementTree.Element(
        "svg", {"class": "chart large" if width > LARGE else "chart", "role": "img", "aria-label": one_line(label)}
    )
    svg.set("viewBox", drawn.attrib["viewBox"])
    svg.set("width", f"{width:.0f}")
    svg.set("height", f"{height:.0f}")
    _take_over(drawn, svg, prefix, _VARIABLES if photo_dpi is None else _OF_WORDS)
    return ElementTree.tostring(svg, encoding="unicode")


def _rasterize(figure: Figure) -> None:
    """Make pixels of the photographs and of what lies over them, texts in boxes included."""
    for axes in figure.axes:
        boxed = (text for text in axes.texts if text.get_bbox_patch() is not None)
        for artist in (*axes.images, *axes.collections, *axes.lines, *axes.patches, *boxed):
            artist.set_rasterized(True)


def _take_over(
    drawn: ElementTree.Element, into: ElementTree.Element, prefix: str, variables: Mapping[str, str]
) -> None:
    """Copy the drawn elements without groups and definitions that have no effect; `variables`: of the page, by the
    color that they replace."""
    for part in drawn:
        tag = part.tag.rpartition("}")[2]
        if tag in ("metadata", "style"):
            continue
        attributes = _attributes(part, prefix, variables)
        if tag == "g" and not attributes:
            _take_over(part, into, prefix, variables)
            continue
        if tag == "defs" and not any(child.tag.rpartition("}")[2] != "style" for child in part):
            continue
        made = ElementTree.SubElement(into, tag, attributes)
        if part.text and part.text.strip():
            made.text = one_line(part.text)
        _take_over(part, made, prefix, variables)


def _attributes(part: ElementTree.Element, prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The style of a part as attributes, which a page's style sheet and security policy allow."""
    tag = part.tag.rpartition("}")[2]
    found: dict[str, str] = {}
    for key, value in part.attrib.items():
        name = key.rpartition("}")[2]
        if name == "style":
            found |= _style(value, tag, variables)
        elif name == "id":
            if tag != "g":
                found["id"] = prefix + value
        elif name == "href":
            found["href"] = f"#{prefix}{value[1:]}" if value.startswith("#") else value
        elif name == "clip-path":
            found[name] = value.replace("url(#", f"url(#{prefix}")
        elif name == "transform" and value.startswith("rotate(-0 "):
            continue
        else:
            found[name] = _LONG_NUMBER.sub(_shorter, value) if name in _KEPT or name == "transform" else value
            if name == "d":
                found[name] = " ".join(found[name].split())
    return found


def _style(text: str, tag: str, variables: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for declaration in text.split(";"):
        name, _, value = (piece.strip() for piece in declaration.partition(":"))
        if not value or name == "font-family":
            continue
        if name == "font":
            size = next((piece for piece in value.split() if piece.endswith("px")), "")
            found |= {"font-size": size} | ({"font-weight": "bold"} if "bold" in value or "700" in value else {})
        else:
            found[name] = variables.get(value.lower(), value)
    if tag == "text":
        found.setdefault("fill", "var(--ink)")
    return found


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def add_text(svg: ElementTree.Element, x: float, y: float, text: str, kind: str) -> None:
    """Write one line from (x, y) on, in the style of class `kind`. Control characters, which XML forbids, are shown."""
    element = ElementTree.SubElement(svg, "text", {"class": kind, "x": f"{x:g}", "y": f"{y:.1f}"})
    element.text = one_line(text)


def saved_picture(
    title: str, caption: str, figure: Figure, path: Path, kind: PictureKind = "curves", photo_dpi: int | None = None
) -> Picture:
    """The figure saved as a PNG at `path`, and as a picture of a page in the page's colors; `photo_dpi` as in
    `themed_svg`. Raises RunError."""
    save_figure(figure, path, photo_dpi or 144)
    return Picture(title, caption, path, kind, (themed_svg(figure, caption, photo_dpi),))
