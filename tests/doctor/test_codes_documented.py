"""Each code has its line in docs/doctor.md, and its entry on the page of its group."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.doctor.checks.every import every_check

DOCS = Path(__file__).parents[2] / "docs"
CODES = sorted({code for check in every_check() for code in check.codes})


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_documented(code: str) -> None:
    assert f"[`{code}`](doctor/" in (DOCS / "doctor.md").read_text(encoding="utf-8")
    page = (DOCS / "doctor" / f"{code.partition('.')[0]}.md").read_text(encoding="utf-8")
    assert any(line.startswith("#") and code in line for line in page.splitlines())


def test_thresholds_say_numbers_not_names_of_them() -> None:
    assert [check.codes for check in every_check() if "{" in check.threshold] == []
