"""Figures in the colors of the page that shows them."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from striate.visualize.box_pictures import DrawnBox, boxes_figure
from striate.visualize.canvas import BLUE
from striate.visualize.themed_svg import themed_svg


def test_photographs_keep_their_colors_and_the_words_around_them_have_those_of_the_page() -> None:
    image = np.full((1, 3, 40, 40), 120, np.uint8)
    boxes = [[DrawnBox((5, 5, 30, 30), 1, "cell 83 %")]]
    figure = boxes_figure(image, boxes, boxes, ["other", "cell"], title="cells", labels=["F1 90 %"])
    svg = themed_svg(figure, "cells", photo_dpi=80)
    assert "var(--blue)" not in svg  # the legend's color is that of the pixels
    assert BLUE.lower() in svg
    assert {*re.findall(r"<text [^>]*?fill=\"([^\"]*)\"", svg)} == {"var(--ink)"}
    words = re.findall(r">([^<>]+)</text>", svg)
    assert {"cells", "F1 90 %", "cell"} <= set(words)
    assert "cell 83 %" not in words  # over the image, on its own dark ground
    drawn = [Image.open(io.BytesIO(base64.b64decode(found))) for found in re.findall(r"base64,([^\"]+)", svg)]
    assert len(drawn) >= 2
    assert max(one.width for one in drawn) < 7.2 * 80
