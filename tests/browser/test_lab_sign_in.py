"""Signing in and out in a browser: from the file that leads to the lab, to pages that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_from_the_private_file_to_the_end_of_the_session(
    visit: Callable[..., Any], lab_address: Callable[..., str], tmp_path: Path
) -> None:
    address = lab_address("/pixels?image=mnist5k%230")
    file = tmp_path / "open.html"
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>striate lab</title>')
    seen = visit(file)
    page = seen.page
    page.get_by_role("button", name="Sign out").wait_for()
    picture = page.locator("img").first
    picture.wait_for()
    assert "token" not in page.url
    page.reload()
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    tab = page.context.new_page()
    tab.goto(page.url)
    tab.locator("img").first.wait_for()
    assert (seen.errors, seen.strangers, seen.violations()) == ([], [], [])
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("does not know your browser").wait_for()
    tab.reload()
    tab.get_by_text("does not know your browser").wait_for()
