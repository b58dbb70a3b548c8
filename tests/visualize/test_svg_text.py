"""Text in an SVG picture: whatever it is, the picture stays readable."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from striate.visualize.themed_svg import add_text


@given(st.text())
def test_any_text_leaves_a_picture_that_can_be_read(text: str) -> None:
    svg = ElementTree.Element("svg")
    add_text(svg, 1, 2, text, "name")
    (element,) = ElementTree.fromstring(ElementTree.tostring(svg, encoding="utf-8"))
    assert (element.text or "").isprintable()
    assert not text.isprintable() or (element.text or "") == text
