"""That several views are worse than one is said once it is known."""

from __future__ import annotations

import pytest

from striate.report.finish import views_lost
from striate.tasks.registry import metric_named


@pytest.mark.parametrize(
    ("metrics", "n", "said"),
    [
        ({"accuracy": 0.741, "accuracy_one_view": 0.851, "views": 2}, 1000, "test-time augmentation costs 11.0 points"),
        ({"accuracy": 0.851, "accuracy_one_view": 0.741, "views": 2}, 1000, ""),
        ({"accuracy": 0.850, "accuracy_one_view": 0.851, "views": 6}, 1000, ""),
        ({"accuracy": 0.76, "accuracy_one_view": 0.78, "views": 6}, 50, ""),
        ({"accuracy": 0.85}, 1000, ""),
        ({"rmse": 2.0}, 1000, ""),
    ],
)
def test_views_that_cost_accuracy_are_told_with_what_to_do(metrics, n, said) -> None:
    told = views_lost(metrics, n, metric_named(next(iter(metrics))))
    assert told.startswith(said)
    assert bool(told) == bool(said)
    assert not said or "--evaluation.views none" in told
