"""Pixels and Play in a browser: numbers by keyboard, a drawing, windows one by one, kernels on a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_pixels_by_keyboard_and_a_drawing(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    seen = visit(lab_address("/pixels?image=mnist5k%230&x=10&y=12"))
    page = seen.page
    numbers = page.get_by_role("region", name="Values of pixels")
    numbers.locator("td.chosen").wait_for()
    assert "column 10, row 12: gray" in page.locator(".readout").inner_text()
    numbers.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.get_by_text("column 11, row 20").wait_for()
    page.wait_for_url("**x=11&y=20")
    page.get_by_role("button", name="Draw").click()
    page.get_by_role("img", name="Drawing board").focus()
    for key in [" ", *["ArrowDown"] * 9, " "]:
        page.keyboard.press(key)
    page.get_by_text("drawing, 28 × 28 pixels").wait_for()
    page.get_by_text("column 14, row 14: gray 2").wait_for()
    page.get_by_role("button", name="Webcam").click()
    page.get_by_role("button", name="Start the webcam").click()
    page.locator("button:enabled", has_text="Take the picture").click()
    page.get_by_text("webcam, ").wait_for()
    page.get_by_role("button", name="blue").wait_for()
    assert (seen.errors, seen.strangers, seen.violations()) == ([], [], [])


@pytest.mark.slow
def test_windows_one_by_one_and_what_does_not_fit(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    seen = visit(lab_address("/play?stride=3&at=1&image=mnist5k%230"))
    page = seen.page
    page.get_by_text("Position 6 is in no window").wait_for()
    assert "(7−3)/3+1 = 2.33, so 2 × 2 outputs" in page.locator(".result-line").inner_text()
    assert page.locator(".sum").inner_text().startswith("row 0, column 1: ")
    page.get_by_role("button", name="Next", exact=True).click()
    assert page.locator(".sum").inner_text().startswith("row 1, column 0: ")
    page.get_by_label("dilation").fill("4")
    page.get_by_text("No window fits").wait_for()
    page.get_by_label("padding", exact=True).fill("1")
    page.get_by_text("so 1 × 1 outputs").wait_for()
    views = page.get_by_role("group", name="Pictures")
    views.wait_for()
    page.get_by_label("A name, or rows of numbers").fill("0 1; 1 0; 2")
    page.get_by_text("rows of the same length").first.wait_for()
    page.get_by_label("A name, or rows of numbers").fill("1 1 1 /3")
    page.get_by_text("divided by 3").first.wait_for()
    views.focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("The pixel in column 13, row 14").wait_for()
    page.evaluate("location.search = '?at=1.5&x=nope'")
    page.locator(".sum", has_text="row 0, column 0").wait_for()
    assert (seen.errors, seen.strangers, seen.violations()) == ([], [], [])


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("path", ["/pixels?image=mnist5k%230", "/play?size=16&padding=3&kernel=5", "/"])
@pytest.mark.parametrize(("width", "dark"), [(360, True), pytest.param(2560, False, marks=pytest.mark.slow)])
def test_they_fit_a_phone_and_a_large_screen(
    visit: Callable[..., Any], lab_address: Callable[..., str], path: str, width: int, dark: bool
) -> None:
    seen = visit(lab_address(path), width=width, dark=dark)
    seen.page.locator(".chosen, .pictures, .cards").first.wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_the_image_that_was_chosen_last_is_shown(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    page = visit(lab_address("/pixels?image=mnist5k%230")).page
    page.locator("td.chosen").wait_for()
    held: list[Any] = []
    page.route("**/api/images/about*", lambda route: route.continue_() if held else held.append(route))
    samples = page.locator(".samples button")
    names = [samples.nth(place).get_attribute("data-image") for place in (2, 3)]
    samples.nth(2).click()
    samples.nth(3).click()
    page.wait_for_url(f"**image={str(names[1]).replace('#', '%23')}*")
    with page.expect_response("**/api/images/about*"):
        held[0].continue_()
    page.wait_for_timeout(100)
    assert page.locator(".samples [aria-pressed=true]").get_attribute("data-image") == names[1]


@pytest.mark.slow
def test_a_file_can_be_sent_again_after_it_has_changed_and_a_folder_is_refused(
    visit: Callable[..., Any], lab_address: Callable[..., str], tmp_path: Path
) -> None:
    page = visit(lab_address("/pixels?image=mnist5k%230")).page
    page.get_by_role("button", name="Upload").click()
    field = page.get_by_label("A picture of at most 16 MiB")
    (tmp_path / "drawing.png").write_bytes(b"not yet")
    field.set_input_files(tmp_path / "drawing.png")
    page.get_by_role("alert").get_by_text("drawing.png").wait_for()
    with page.expect_file_chooser():
        field.click()
    assert field.input_value() == ""  # browsers report no change where the same file is chosen
    devtools = page.context.new_cdp_session(page)
    root = devtools.send("DOM.getDocument")["root"]["nodeId"]
    node = devtools.send("DOM.querySelector", {"nodeId": root, "selector": "input[type=file]"})
    devtools.send("DOM.setFileInputFiles", {"files": [str(tmp_path)], **node})
    page.get_by_role("alert").get_by_text("a folder, or a file that the browser cannot read").wait_for()


@pytest.mark.slow
def test_a_picture_is_dropped_anywhere_on_the_page(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    page = visit(lab_address("/pixels?image=mnist5k%230")).page
    page.locator("td.chosen").wait_for()
    page.evaluate("""async () => {
      const canvas = document.createElement("canvas");
      const blob = await new Promise((done) => canvas.toBlob(done));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([blob], "dropped.png"));
      document.querySelector("h1").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
    }""")
    page.get_by_text("dropped.png, 300 × 150 pixels").wait_for()
