"""Boxes drawn into a picture of its own size."""

from __future__ import annotations

import numpy as np
import pytest

from striate.visualize.box_pictures import DrawnBox, drawn_picture


def light(left: float, top: float) -> int:
    """The number of pixels of the text of a box at this place."""
    box = DrawnBox((left, top, left + 4, top + 4), 0, "wrong")
    return int((drawn_picture(np.zeros((3, 60, 120), np.uint8), [box], ["disc"])[..., 2] > 150).sum())


@pytest.mark.parametrize(("left", "top"), [(110.0, 30.0), (10.0, 2.0), (110.0, 2.0)], ids=["right", "top", "corner"])
def test_the_text_at_a_box_lies_inside_the_picture(left: float, top: float) -> None:
    assert light(left, top) == light(10.0, 30.0) > 20
