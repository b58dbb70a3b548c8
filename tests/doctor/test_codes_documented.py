"""Each code has its line in docs/doctor.md, its entry on the page of its group, and a module of its name."""

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


OF_SEVERAL_MODULES = {"reward.never-seen", "reward.off-by-one", "reward.scale"}
"""Looked for in batches, in records and in the code that made them: each module looks for all of these."""


@pytest.mark.parametrize("code", [code for code in CODES if code not in OF_SEVERAL_MODULES])
def test_a_code_is_looked_for_in_a_module_of_its_name(code: str) -> None:
    checks = [check for check in every_check() if code in check.codes]
    named = {other.partition(".")[2].replace("-", "_") for check in checks for other in check.codes}
    assert named & {check.run.__module__.rpartition(".")[2] for check in checks}


def test_thresholds_say_numbers_not_names_of_them() -> None:
    assert [check.codes for check in every_check() if "{" in check.threshold] == []
