"""What the sizes in a diagram mean: as its legend says, and as its input is shaped."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.testing import assert_allclose

from striate import summarize
from striate.account.field.effective import EffectiveField
from striate.visualize.network_diagram import network_diagram

SVG = "{http://www.w3.org/2000/svg}"


def test_the_width_of_a_box_is_the_square_root_of_its_side() -> None:
    text = network_diagram(summarize("conv(4,1) conv(4,1,stride=4) gap fc(2)", (1, 32, 32)))
    assert "square root of the side" in text
    boxes = [box for box in ElementTree.fromstring(text).iter(f"{SVG}rect") if box.get("class") == "map"]
    wide, narrow = (float(box.get("width", "")) for box in boxes)
    assert wide / narrow == pytest.approx((32 / 8) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("rows", "columns"), [(12, 30), (30, 12)])
def test_the_field_has_the_sides_of_its_input(rows: int, columns: int) -> None:
    ledger = summarize("conv(4,5) gap fc(2)", (1, rows, columns))
    shares = np.zeros((rows, columns))
    shares[4:9, 3:8] = 1 / 25
    svg = ElementTree.fromstring(network_diagram(ledger, EffectiveField("conv1", shares, (4, 3), (5.0, 5.0), 1)))
    (image,) = svg.iter(f"{SVG}image")
    (frame,) = (box for box in svg.iter(f"{SVG}rect") if box.get("class") == "field")
    x, y, wide, high = (float(image.get(key, "")) for key in ("x", "y", "width", "height"))
    assert high / wide == pytest.approx(rows / columns, rel=0.01)
    found = [float(frame.get(key, "")) for key in ("x", "y", "width", "height")]
    pixel = wide / columns
    assert_allclose(found, [x + 3 * pixel, y + 4 * pixel, 5 * pixel, 5 * pixel], atol=0.2)
