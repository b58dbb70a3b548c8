"""The page of an explanation in a browser: narrow and wide, light and dark, with names that try to break out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import striate
from striate.report.explanation import explanation_page
from striate.visualize.attribution.nearest import Nearest, Neighbor

NASTY = ("<script>alert(1)</script>", '"><img src=http://evil.example/x.png>', "$\\alpha$ & " + "long" * 30)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
        explained = striate.explain(module, torch.randn(3, 12, 12))
    top = [[NASTY[k], p] for k, (_, p) in enumerate(explained.fields["top"])]
    image = np.zeros((3, 12, 12), np.uint8)
    near = Nearest(tuple(Neighbor(f"{name}.png", name, 0.9, image) for name in NASTY), 3, 3, "inputs of fc")
    nasty = replace(
        explained, subject=NASTY[0], network=NASTY[1], classes=NASTY, nearest=near, notes=(NASTY[1],),
        fields={"label": NASTY[0], "probability": top[0][1], "top": top},
    )  # fmt: skip
    place = tmp_path_factory.mktemp("explained") / "page.html"
    place.write_text(explanation_page(nasty))
    return place


def test_the_axes_of_deletion_curves_have_names_and_numbers(page: Path) -> None:
    for curve in re.findall('<svg class="curve".*?</svg>', page.read_text()):
        high, low, *texts = re.findall("<text[^>]*>([^<]*)</text>", curve)
        assert float(high) > float(low)
        assert texts == ["prediction", "0 %", "50 %", "of the input taken out"]
        across = [float(point.split(",")[0]) for point in re.findall('<polyline points="([^"]*)"', curve)[0].split()]
        assert (min(across), max(across)) == (46, 254)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(360, True), pytest.param(1280, False, marks=pytest.mark.slow)])
def test_the_page_is_whole(visit: Callable[..., Any], page: Path, width: int, dark: bool) -> None:
    seen = visit(page, width=width, dark=dark)
    assert (seen.errors, seen.strangers, seen.too_wide()) == ([], [], 0)
    assert seen.violations() == []
    assert NASTY[0] in seen.page.inner_text("h1")
    for picture in seen.page.query_selector_all("img"):
        assert picture.get_attribute("alt")
