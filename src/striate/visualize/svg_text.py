"""Text in an SVG picture."""

from __future__ import annotations

from xml.etree import ElementTree

from striate.errors import one_line


def add_text(svg: ElementTree.Element, x: float, y: float, text: str, kind: str) -> None:
    """Write one line from (x, y) on, in the style of class `kind`. XML knows no control characters: they are shown."""
    element = ElementTree.SubElement(svg, "text", {"class": kind, "x": f"{x:g}", "y": f"{y:.1f}"})
    element.text = one_line(text)
