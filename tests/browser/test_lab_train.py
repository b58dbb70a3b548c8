"""Train in a browser: a training is refused, started, watched, paused and gone on with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.lab.training_stand_in import PROGRAM, a_config

from striate.lab.training import training_process


@pytest.mark.slow
def test_a_training_is_refused_started_watched_paused_and_gone_on_with(
    visit: Callable[..., Any], lab_address: Callable[..., str], own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_process, "COMMAND", (sys.executable, str(PROGRAM)))
    monkeypatch.setenv("STEP_SECONDS", "0.05")  # it must not end before a busy browser has pressed the button
    (own_folder / "config.yaml").write_text(a_config())
    seen = visit(lab_address("/train?data=digits&epochs=16"))
    page = seen.page
    text = page.get_by_label("Network: a layer string or a name")
    assert page.get_by_label("Epochs").input_value() == "16"
    text.fill("net.py:make")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("a page opens no files").wait_for()
    text.fill("fc(3)")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("The training could not be carried out.").wait_for()
    assert "fc(10)" in page.get_by_role("alert").inner_text()
    text.fill("conv(4,3) relu pool(2) fc(10)")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="digits-1").wait_for()
    page.wait_for_url("**run=digits-1")
    page.get_by_role("img", name="Loss over step").wait_for()
    page.get_by_role("img", name="4 filters of conv1, 3×3").wait_for()
    page.get_by_role("img", name="Histogram of the gradients of conv1").wait_for()
    page.get_by_text("Loss as a table").click()
    page.get_by_role("row", name="10 1 1.1").wait_for()
    page.get_by_role("slider").wait_for()  # from the second snapshot on
    violations = seen.violations()
    page.get_by_role("button", name="Pause or stop").click()
    page.get_by_text("Paused: everything is saved").wait_for()
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.wait_for_url("**look=*")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("status").get_by_text("Training.").wait_for()
    assert (seen.errors, seen.strangers, violations, seen.violations()) == ([], [], [], [])


@pytest.mark.slow
def test_figures_of_an_earlier_step_say_so(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path
) -> None:
    page = visit(lab_address("/train", digits_run)).page

    def at_work(route: Any) -> None:
        known = route.fetch().json()
        row = {"epoch": 1, "step": 1265, "lr": 7.64e-5, "train_loss": 1.0, "val_loss": 1.0}
        look = {"step": 1177, "filters_step": 1170, "loss": 0.1395, "lr": 0.0002366, "left": 9, "losses": []}
        look |= {"filters": None, "layers": None, "layers_step": None}
        route.fulfill(json=known | {"state": "elsewhere", "steps": 1375, "rows": [row], "epochs_done": 1, "look": look})

    page.route("**/api/train/follow*", at_work)
    page.get_by_label("Runs in the folder").select_option("digits (opened)")
    page.get_by_text("1,265 of 1,375").wait_for()
    shown = dict(one.inner_text().split("\n") for one in page.locator(".figures > div").all())
    assert (shown["learning rate"], shown["loss of a batch, step 1,177"]) == ("0.0000764", "0.1395")
    assert shown["time left, step 1,177"] == "about 9 s"


@pytest.mark.slow
def test_the_network_is_seen_in_build_with_the_shape_of_its_data(
    visit: Callable[..., Any], lab_address: Callable[..., str]
) -> None:
    page = visit(lab_address("/train?data=digits&model=conv(8,3) fc(10)")).page
    page.get_by_role("link", name="See the network in Build").click()
    page.get_by_role("button", name="conv1").wait_for()
    assert (page.get_by_label("Input: channels").input_value(), page.get_by_label("Outputs").input_value()) == (
        "1x8x8",
        "10",
    )


@pytest.mark.slow
def test_a_real_training_is_watched_and_paused(
    visit: Callable[..., Any], lab_address: Callable[..., str], own_folder: Path
) -> None:
    seen = visit(lab_address("/train?data=digits&epochs=2000&model=conv(4,3) relu pool(2) fc(10)"))
    page = seen.page
    page.set_default_timeout(600_000)  # a busy machine takes minutes until the first step
    page.get_by_role("button", name="Start").click()
    # A long run first measures how to compute, compiled too, and what it will reach.
    page.get_by_role("img", name="4 filters of conv1, 3×3").wait_for()
    page.get_by_role("img", name="Histogram of the gradients of conv1").wait_for()
    page.get_by_role("button", name="Pause or stop").click()
    page.get_by_text("Paused: everything is saved").wait_for()
    assert (own_folder / "runs" / "digits-1" / "checkpoints" / "last.pt").exists()
    assert not (own_folder / "runs" / "digits-1" / "metrics.json").exists()
    assert (seen.errors, seen.strangers) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(360, True), pytest.param(2560, False, marks=pytest.mark.slow)])
def test_a_finished_run_fits_a_phone_and_a_large_screen(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path, width: int, dark: bool
) -> None:
    seen = visit(lab_address("/train?run=digits (opened)", digits_run), width=width, dark=dark)
    seen.page.get_by_text("Finished.").wait_for()
    seen.page.get_by_text("test accuracy").wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)
