"""Scores that a loss adds instead of subtracting them, such as `bce + dice` for `bce + 1 - dice`."""

from __future__ import annotations

import pytest

from for_checks.scripts import source_of
from striate.doctor.checks.loss.sign.added_scores import score_added


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("return dice_coeff(p, y)", True),
        ("return 1 - dice_coeff(p, y)", False),
        ("dice = 2 * (p * y).sum() / (p + y).sum()\n    return dice.mean()", True),
        ("dice = 1 - 2 * (p * y).sum() / (p + y).sum()\n    return dice.mean()", False),
        ("dice = 2 * (p * y).sum() / (p + y).sum()\n    return -dice.log()", False),
    ],
)
def test_a_loss_that_returns_a_score(body: str, wrong: bool) -> None:
    text = f"def dice_loss(p, y):\n    {body}\nfor x, y in loader:\n    loss = bce\n    loss += dice_loss(p, y)\n"
    assert (score_added(source_of(text)) is not None) is wrong


@pytest.mark.parametrize(
    ("body", "value", "wrong"),
    [
        ("return 2 * (p * y).sum() / (p + y).sum()", "bce + dice(p, y)", True),
        ("return 2 * (p * y).sum() / (p + y).sum()", "bce - (-dice(p, y).mean())", False),
        ("return 2 * (p * y).sum() / (p + y).sum()", "bce + (1 - dice(p, y))", False),
        ("return 2 * (p * y).sum() / (p + y).sum()", "0.5 * dice(p, y).mean() + bce", True),
        ("return 1 - 2 * (p * y).sum() / (p + y).sum()", "bce + dice(p, y)", False),
    ],
)
def test_a_score_is_taken_from_one(body: str, value: str, wrong: bool) -> None:
    text = f"def dice(p, y):\n    {body}\n\ndef seg_loss(bce, p, y):\n    return {value}\n"
    assert (score_added(source_of(text)) is not None) is wrong


def test_a_mean_of_a_score_is_one() -> None:
    text = "def dice(p, y):\n    return (p * y).sum(1)\n\ndef dice_loss(p, y):\n    return {}dice(p, y).mean()\n"
    text += "loss += dice_loss(p, y)\n"
    assert score_added(source_of(text.format(""))) is not None
    assert score_added(source_of(text.format("1 - "))) is None


def test_sums_of_several_names_are_no_loss() -> None:
    text = "def accuracy(p, y):\n    return (p == y).sum()\n"
    text += "loss_sum, right, n = loss_sum + loss.item(), right + accuracy(p, y), n + len(y)\n"
    assert score_added(source_of(text)) is None
