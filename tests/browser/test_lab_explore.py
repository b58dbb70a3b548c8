"""Explore in a browser: a cell of the matrix opens its images, a map is walked with the arrow keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_from_the_matrix_to_the_images_and_over_the_map(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path
) -> None:
    seen = visit(lab_address("/explore", digits_run))
    page = seen.page
    page.get_by_text("1 to 60 of ").first.wait_for()
    reached = page.locator(".gallery a:not([tabindex='-1'])")
    reached.first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert (
        page.evaluate("[...document.querySelectorAll('.gallery li')].indexOf(document.activeElement.closest('li'))")
        == 1
    )
    assert reached.count() == 2  # of the second image, rather than of sixty
    page.get_by_role("button", name="After").click()
    page.get_by_text("61 to 120 of ").first.wait_for()
    page.get_by_role("button", name="Confusion matrix").click()
    page.get_by_role("heading", name="Most confused").wait_for()
    violations = seen.violations()
    pair = page.get_by_role("listitem").filter(has_text="taken for").first
    count = pair.inner_text().split(": ")[1].split(" of")[0]
    pair.get_by_role("link").click()
    page.get_by_text(f"1 to {count} of {count}").first.wait_for()
    assert page.get_by_role("list", name="Images").get_by_text("✗ predicted").count() == int(count)
    page.keyboard.press("Tab")
    page.go_back()
    page.get_by_role("heading", name="Most confused").wait_for()
    page.get_by_role("button", name="Map").click()
    chart = page.get_by_role("application")
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator("[aria-live] .good, [aria-live] .error").first.wait_for()
    page.wait_for_url("**sample=run*")
    violations += seen.violations()
    page.get_by_role("link", name="Pixels").last.click()
    page.get_by_role("heading", name="Pixels").wait_for()
    assert "image=run" in page.url
    assert (seen.errors, seen.strangers, violations) == ([], [], [])


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("query", "width", "dark"),
    [("show=mistakes", 360, True), ("view=confusion", 360, False), ("view=map", 360, True), ("view=map", 2560, False)],
)
def test_it_fits_a_phone_and_a_large_screen(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path, query: str, width: int, dark: bool
) -> None:
    seen = visit(lab_address(f"/explore?{query}", digits_run), width=width, dark=dark)
    seen.page.locator(".gallery, .confusion, .color-key").first.wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)
