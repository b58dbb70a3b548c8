"""Findings in the words that all outputs show."""

from __future__ import annotations

import pytest
from torch import nn

from striate.doctor.finding_words import in_python_names
from striate.records import Finding

NESTED = nn.Sequential(nn.Sequential(*(nn.Linear(2, 2) for _ in range(6))))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lower the share of 0.5: `nn.Dropout(0.1)`", "Lower the share of model[0][5]: `nn.Dropout(0.1)`."),
        ("initialize `0.5.weight` and 0.1", "Initialize `model[0][5].weight` and model[0][1]."),
        ("drop 0.1 % of the values", "Drop 0.1 % of the values."),
    ],
)
def test_numbers_in_code_are_not_taken_for_modules(text: str, shown: str) -> None:
    finding = Finding("model.dead-units", "note", "0.5", "", "", "", text)
    found = in_python_names(finding, NESTED)
    assert found.where == "model[0][5]"
    assert found.remedy == shown
