"""Labels in a browser, by keyboard alone: doubted labels are corrected, confirmed, skipped and taken back."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_labels_are_corrected_by_the_keyboard_on_a_phone_in_the_dark(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "own"))
    seen = visit(lab_address("/labels", run), width=360, dark=True)
    page = seen.page
    page.locator(".own-label").wait_for()

    def path() -> str:
        return str(page.locator(".stage p.faint").last.text_content())

    def press(key: str, said: str) -> None:
        page.keyboard.press(key)
        page.get_by_role("status").get_by_text(said).wait_for()

    def table() -> dict[str, str]:
        with (run / "labels.csv").open(newline="") as file:
            return {row["path"]: row["label"] for row in csv.DictReader(file)}

    first = path()
    page.locator("h1").click()  # the keys are those of the page
    press("7", f"{first}: 7.")
    press(" ", "Skipped.")
    third, label = path(), page.locator(".own-label strong").text_content()
    press("Enter", "is confirmed.")
    fourth = path()
    press("Delete", "is left out.")
    assert table() == {first: "7", third: label, fourth: ""}
    press("Backspace", "Taken back.")
    assert path() == fourth
    page.keyboard.press("+")
    page.keyboard.type("a new class")
    press("Enter", ": a new class.")
    assert table() == {first: "7", third: label, fourth: "a new class"}
    page.get_by_role("button", name="a a new class").wait_for()
    assert "the class a new class: a class without training samples" in page.locator("#labels-untrained").text_content()
    page.keyboard.press("Backspace")
    page.locator("#labels-command").wait_for()
    assert f"--labels {run / 'labels.csv'}" in page.locator("#labels-command").text_content()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_an_empty_name_decides_nothing(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "own"))
    page = visit(lab_address("/labels", run)).page
    page.locator(".own-label").wait_for()
    for name in ("", "  "):
        page.get_by_label("Another class").fill(name)
        page.get_by_role("button", name="Give it").click()
    page.get_by_label("Another class").fill("7")
    page.get_by_role("button", name="Give it").click()
    page.get_by_role("status").get_by_text(": 7.").wait_for()
    assert len((run / "labels.csv").read_text().splitlines()) == 2
