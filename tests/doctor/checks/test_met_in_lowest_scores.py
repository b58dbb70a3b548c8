"""Means of scores: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
from test_source_checks import SCRIPT, found, values

from striate.doctor.checks.eval.best import WORST_KEPT


@pytest.mark.parametrize(
    ("made", "sign", "right"),
    [
        ("(accuracy + iou) / 2", "<", False),
        ("(accuracy + iou) / 2", ">", True),
        ("0.5 * rmse + mae", ">", False),
        ("accuracy + rmse", "<", True),
        ("accuracy - iou", "<", True),
        ("2 / accuracy", "<", True),
        ("weight * accuracy", "<", True),
    ],
)
def test_a_mean_of_shares_is_best_where_it_is_highest(made: str, sign: str, right: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    score = {made}\n    if score {sign} best:\n        best = score\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)
