"""Watch in a browser: from layer to layer, from map to number, and the number's arithmetic, by pointer and keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

STRING = "conv%284%2C3%2Cpad%3D1%29+relu+pool%282%29+res%5Bconv%284%2C3%2Cpad%3Dsame%29%5D+gap+fc%285%29"
ADDRESS = f"/watch?model={STRING}&input=1x12x12&image=mnist5k%2317"


@pytest.mark.slow
def test_from_the_layers_to_the_arithmetic_of_a_number(
    visit: Callable[..., Any], lab_address: Callable[..., str]
) -> None:
    seen = visit(lab_address(f"{ADDRESS}&layer=0&map=2&row=0&column=5"))
    page = seen.page
    page.get_by_role("heading", name="conv1: map 2, row 0, column 5").wait_for()
    words = page.locator(".arithmetic").inner_text()
    assert "where padding is 0" in words
    assert page.locator(".arithmetic td.outside").count() == 3
    page.keyboard.press("m")
    page.keyboard.press("ArrowDown")
    page.get_by_role("heading", name="conv1: map 2, row 1, column 5").wait_for()
    assert page.locator(".arithmetic td.outside").count() == 0
    assert "3 × 3 pixels: rows 0 to 2, columns 4 to 6" in page.locator("figcaption").first.inner_text()
    assert page.url.endswith("&map=2&row=1&column=5&order=activity")
    page.keyboard.press("j")
    page.get_by_text("max(0, ").wait_for()
    page.get_by_role("button", name="pool1").click()
    page.locator("td.winner").wait_for()
    page.get_by_role("button", name="res1.add").first.click()
    page.get_by_role("heading", name="res1.add: map").wait_for()
    assert "pool1" in page.locator(".arithmetic table").inner_text()
    page.get_by_role("button", name="softmax").click()
    page.get_by_text("5 exponentials").wait_for()
    page.go_back()
    page.get_by_role("heading", name="res1.add: map").wait_for()
    assert (seen.errors, seen.strangers, seen.violations()) == ([], [], [])


@pytest.mark.slow
def test_another_network_is_typed_and_a_digit_drawn(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    seen = visit(lab_address(ADDRESS), width=2560)
    page = seen.page
    page.locator(".arithmetic").wait_for()
    text = page.get_by_label("Network: a name, or a layer string")
    text.fill("conv(3,3) relo")
    text.press("Enter")
    page.get_by_role("button", name="Write that").click()
    page.get_by_role("button", name="relu1").wait_for()
    assert text.input_value() == "conv(3,3) relu"
    text.fill("lenet5")
    text.press("Enter")
    page.get_by_role("button", name="softmax").wait_for()
    assert page.get_by_label("With a name").input_value() == "lenet5"
    page.get_by_role("button", name="Draw", exact=True).click()
    board = page.locator("canvas.draw-digit").bounding_box()
    assert board is not None
    page.mouse.move(board["x"] + 60, board["y"] + 40)
    page.mouse.down()
    page.mouse.move(board["x"] + 60, board["y"] + 180, steps=5)
    page.mouse.up()
    page.wait_for_url("**image=upload*")
    page.locator(".work:not(.busy)").wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_it_fits_a_phone(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    seen = visit(lab_address(f"{ADDRESS}&layer=3"), width=360, dark=True)
    seen.page.locator(".arithmetic").wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_back_leads_to_the_image_of_before(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    page = visit(lab_address(f"{ADDRESS}&layer=0")).page
    page.locator(".arithmetic").wait_for()
    page.get_by_role("button", name="relu1").click()
    page.get_by_text("max(0, ").wait_for()
    with page.expect_response("**/api/watch/unit*"):
        page.locator(".samples button").nth(3).click()
    assert "image=mnist5k%2317&" not in page.url
    with page.expect_request(lambda request: "/watch/steps" in request.url and "image=mnist5k%2317&" in request.url):
        page.go_back()
