"""Addresses that a page does not know are told, with what there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/explore?split=nope", "the split nope, which is none of: train, val, test. This is test."),
        ("/labels?part=nope", "the part nope, which is none of: test, val, train. This is test."),
        ("/labels?split=nope", "has split, which this page does not know. It knows: part, which."),
        ("/play?input=0", "has input, which this page does not know. It knows: size,"),
        ("/play?border=nope", "the border nope"),
    ],
)
def test_what_an_address_asks_for_in_vain_is_told(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path, path: str, said: str
) -> None:
    seen = visit(lab_address(path, digits_run))
    seen.page.locator("p.warning", has_text=said).wait_for()
    assert seen.errors == []


@pytest.mark.slow
def test_a_page_that_is_not_there_leads_to_those_that_are(
    visit: Callable[..., Any], lab_address: Callable[..., str]
) -> None:
    page = visit(lab_address("/nope")).page
    assert page.get_by_role("heading", name="There is no page /nope").count() == 1
    page.locator(".cards").get_by_role("link", name="Build").click()
    page.get_by_role("button", name="conv1").wait_for()


@pytest.mark.slow
def test_a_file_that_is_too_large_is_told_before_it_is_sent(
    visit: Callable[..., Any], lab_address: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "large.png").write_bytes(bytes((16 << 20) + 1))
    seen = visit(lab_address("/pixels"))
    seen.page.get_by_role("button", name="Upload").click()
    seen.page.get_by_label("A picture of at most 16 MiB").set_input_files(tmp_path / "large.png")
    told = seen.page.get_by_role("alert").inner_text()
    assert "large.png" in told
    assert "a file of 16.0 MiB" in told
    assert seen.errors == []
