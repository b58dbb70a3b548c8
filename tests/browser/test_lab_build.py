"""Build in a browser: a network draws itself while it is typed, a mistake shows its place and its fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_a_network_is_typed_mended_and_looked_into(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    seen = visit(lab_address("/build"))
    page = seen.page
    page.get_by_role("button", name="conv1").wait_for()
    assert "token" not in page.url
    text = page.get_by_label("Layer string, or the name of a network")
    text.fill("conv(4,3) relu fc(7)")
    page.get_by_text("18,975").first.wait_for()
    text.fill("conv(4,3) relo fc(7)")
    page.locator(".place mark").wait_for()
    assert page.locator(".place mark").inner_text() == "r"
    assert page.locator(".stale").count() == 1
    page.get_by_role("button", name="Write that").click()
    page.locator(".stale").wait_for(state="detached")
    assert text.input_value() == "conv(4,3) relu fc(7)"
    page.get_by_role("button", name="conv1").click()
    assert "(28−3)/1+1 = 26" in page.get_by_role("table").first.inner_text()
    page.keyboard.press("ArrowDown")
    page.get_by_role("heading", name="fc1").wait_for()
    assert page.url.endswith("/build?model=conv%284%2C3%29+relu+fc%287%29&input=1x28x28&layer=1")
    assert (seen.errors, seen.strangers, seen.violations()) == ([], [], [])


def test_numbers_of_another_network_are_faded_while_one_is_awaited(
    visit: Callable[..., Any], lab_address: Callable[..., str]
) -> None:
    page = visit(lab_address("/build")).page
    page.get_by_role("button", name="conv1").wait_for()
    held: list[Any] = []
    page.route("**/api/build/network*", lambda route: held.append(route))
    page.get_by_label("Layer string, or the name of a network").fill("conv(4,3) relu fc(7)")
    page.locator(".stale[aria-busy=true]").wait_for()
    held[-1].continue_()
    page.locator("[aria-busy=false]").wait_for()
    assert page.locator(".stale").count() == 0
    page.get_by_text("18,975").first.wait_for()


def test_all_numbers_of_a_layer_are_seen_on_a_phone(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    seen = visit(lab_address("/build?model=conv(64,3) relu fc(1000)&input=3x224x224"), width=360)
    box = seen.page.get_by_role("button", name="conv1")
    assert box.inner_text().split("\n") == [
        *(
            "conv1",
            "conv 3×3 · relu",
            "64×222×222",
            "1.79 k (<1 %) parameters",
            "85.2 M (3 %) MACs",
            "receptive field 3",
        )
    ]
    seen.page.evaluate("document.fonts.ready")
    cut = """all => all.filter((one) => {
        const text = document.createRange();
        text.selectNodeContents(one);
        const [inner, outer] = [text.getBoundingClientRect(), one.closest("button").getBoundingClientRect()];
        return inner.right > outer.right || inner.bottom > outer.bottom || inner.top < outer.top;
    }).map((one) => one.textContent)"""
    assert seen.page.locator(".network button > span").evaluate_all(cut) == []
    assert (seen.errors, seen.too_wide()) == ([], 0)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(360, True), pytest.param(2560, False, marks=pytest.mark.slow)])
def test_it_fits_a_phone_and_a_large_screen(
    visit: Callable[..., Any], lab_address: Callable[..., str], width: int, dark: bool
) -> None:
    seen = visit(lab_address("/build?model=resnet18&layer=3"), width=width, dark=dark)
    seen.page.get_by_role("heading", name="Remarks").wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_a_state_is_a_link(visit: Callable[..., Any], lab_address: Callable[..., str]) -> None:
    page = visit(lab_address("/build?model=resnet18&input=3x64x64&outputs=5&layer=2")).page
    page.get_by_role("heading", name="layer1.0.conv1").wait_for()
    assert page.get_by_label("Outputs").input_value() == "5"
    assert page.get_by_text("64×16×16").first.is_visible()
