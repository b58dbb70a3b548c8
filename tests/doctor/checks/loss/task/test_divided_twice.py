"""`loss.wrong-for-task`: a mean that is divided once more by the number by which sums become means."""

from __future__ import annotations

import pytest

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.loss.task.divided_twice import DIVIDED_TWICE

LOSS = """
def criterion(out, boxes, y):
    marked = y > 0
    n = COUNT
    found = FOUND
    places = 5.0 * F.l1_loss(out[marked], boxes[marked], reduction="sum") / n
    return found + places
for x, y in loader:
    criterion(x, x, y)
"""
BINARY = "F.binary_cross_entropy_with_logits(out, y"


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (f"{BINARY}) / n", True),
        (f"2 * {BINARY}, reduction='mean') / n", True),
        (f"{BINARY}, reduction='sum') / n", False),
        (f"{BINARY})", False),
        (f"y.numel() * {BINARY}) / n", False),
        (f"{BINARY}, reduction='none').sum() / n", False),
    ],
)
def test_a_mean_is_not_divided_by_the_count_of_sums(found: str, wrong: bool) -> None:
    text = LOSS.replace("FOUND", found).replace("COUNT", "marked.sum().clamp(min=1)")
    findings = read(text, DIVIDED_TWICE, perceptron(), digits())
    assert ["divides a mean by `n`" in one.measured for one in findings] == [True] * wrong


def test_steps_of_accumulation_are_no_count_of_what_is_averaged() -> None:
    text = LOSS.replace("FOUND", f"{BINARY}) / n").replace("COUNT", "accumulated")
    assert not read(text, DIVIDED_TWICE, perceptron(), digits())


def test_a_mean_that_has_a_name_before_it_is_divided() -> None:
    text = LOSS.replace("FOUND", f"{BINARY})\n    found = mean / n").replace("COUNT", "marked.sum()")
    text = text.replace("found = F", "mean = F")
    assert len(read(text, DIVIDED_TWICE, perceptron(), digits())) == 1
