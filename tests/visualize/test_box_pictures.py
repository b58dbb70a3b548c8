"""Boxes with texts, drawn into a picture."""

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


def test_small_images_are_enlarged_so_that_texts_do_not_cover_them() -> None:
    image, box = (
        np.full((3, 20, 40), 255, np.uint8),
        DrawnBox((10, 5, 30, 15), 0, "a name that is far too long for it" * 3),
    )
    drawn = drawn_picture(image, [box], ["disc"])
    assert drawn.shape == (140, 280, 3)
    assert (drawn[-30:] == 255).all()
    assert not (drawn[100:110, 70:75] == 255).all(), "the box is enlarged too"
