"""The report in a browser: of each task, on a phone and on a wall, in the light, in the dark, and in print."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import striate
from quick import few_quick
from striate.report.summary import summary_page

pytestmark = pytest.mark.draws

LIMIT = 3_000_000
WIDTHS = (360, 1280, 2560)
PLAIN = {"execution.plan": "plain", "execution.threads": 1}


def _discs(root: Path) -> Path:
    """Pictures of bright discs, and masks that know where they are."""
    made, (y, x) = np.random.default_rng(0), np.mgrid[:16, :16]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(20):
        row, column = made.integers(4, 12, 2)
        inside = np.hypot(y - row, x - column) < 4
        image = np.where(inside, 200, made.integers(0, 120, (16, 16)))
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(inside.astype(np.uint8)).save(root / "masks" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, digits_run: Path) -> Callable[[str], Path]:
    """Gives the report of a task or of a cross-validation, trained in a moment when it is asked for first."""
    folder = tmp_path_factory.mktemp("reports")

    @cache
    def made(task: str) -> Path:
        if task == "classify":
            return digits_run / "report.html"
        data, network = {
            "regress": ("boston", "fc(4) relu fc(1)"),
            "segment": (folder / "discs", "conv(4,3,pad=1) relu conv(2,1)"),
            "folds": ("iris", "fc(3)"),
        }[task]
        if task == "segment":
            _discs(folder / "discs")
        fields = PLAIN | ({"cv": "2x1"} if task == "folds" else {})
        return striate.train(data, network, epochs=2, out=folder / task, set=fields).report

    return made


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["light", "dark"])
@pytest.mark.parametrize("task", few_quick(["classify", "regress", "segment", "folds"], ["classify"]))
def test_nothing_is_wrong_with_it(
    report: Callable[[str], Path], visit: Callable[..., Any], task: str, dark: bool
) -> None:
    assert report(task).stat().st_size < LIMIT
    seen = visit(report(task), width=WIDTHS[0], dark=dark)
    seen.page.evaluate(_LARGE_TILES)
    for width in WIDTHS:
        seen.page.set_viewport_size({"width": width, "height": 900})
        assert seen.too_wide() == 0, width
    seen.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert seen.violations() == []
    assert (seen.errors, seen.strangers) == ([], [])
    if task == "classify":
        assert seen.page.evaluate(_LONG_HEADS) == 0


_LARGE_TILES = "for (const image of document.querySelectorAll('.tiles img')) image.width = image.height = 320"
"""Samples as large as pictures of instruments come."""


_LONG_HEADS = """
    document.querySelector('.matrix').classList.add('upright');
    const heads = [...document.querySelectorAll('.matrix thead th:not(:first-child) span')];
    for (const head of heads) head.textContent = 'W'.repeat(24);
    heads.filter(head => head.scrollHeight > head.clientHeight + 1).length
"""
"""How many names of columns, as long as they come, leave their cells."""


def test_it_is_walked_through_by_keyboard(report: Callable[[str], Path], visit: Callable[..., Any]) -> None:
    page = visit(report("classify")).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url.endswith("#main"))  # the address changes a moment later
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    link = page.locator("nav a", has_text="How to repeat it")
    link.click()
    heading = page.locator("h2", has_text="How to repeat it")
    assert heading.get_attribute("id") == link.get_attribute("href").removeprefix("#")
    assert heading.evaluate("part => part.getBoundingClientRect().top < window.innerHeight")


@pytest.mark.slow
def test_charts_follow_the_color_scheme(report: Callable[[str], Path], visit: Callable[..., Any]) -> None:
    colors = "[...document.querySelectorAll('svg.chart text')].map(text => getComputedStyle(text).fill)"
    light, dark = (set(visit(report("classify"), dark=dark).page.evaluate(colors)) for dark in (False, True))
    assert light == {"rgb(27, 31, 36)"}
    assert dark == {"rgb(230, 232, 235)"}


@pytest.mark.slow
def test_it_is_printed_whole(report: Callable[[str], Path], visit: Callable[..., Any]) -> None:
    page = visit(report("classify"), dark=True).page
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 within its margins
    cut = "[...document.querySelectorAll('.wide table')].filter(table => table.getBoundingClientRect().right > 700)"
    assert page.evaluate(f"{cut}.map(table => table.caption.textContent)") == []
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "[...document.querySelectorAll('details table')].filter(table => !table.checkVisibility()).length"
    assert page.evaluate(hidden) == 0


@pytest.mark.slow
def test_all_columns_of_a_summary_are_printed(visit: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "summary.html"
    path.write_text(summary_page(striate.summarize("resnet18", (3, 224, 224))))
    page = visit(path).page
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 1040, "height": 700})  # A4 across, within its margins
    table = page.locator(".account table")
    assert table.evaluate("table => table.getBoundingClientRect().right") <= 1040
    number = table.locator("td", has_text="1,814,073,344")
    assert number.evaluate("cell => cell.getBoundingClientRect().height") < 20  # on one line
    assert b"/MediaBox [0 0 842.88 595.91998]" in page.pdf(format="A4")
