"""The metrics of a classification."""

from __future__ import annotations

from striate.tasks.metric import Metric

ACCURACY = Metric("accuracy", "accuracy", "share")
METRICS = (
    ACCURACY,
    Metric("top5", "top 5", "share", brief=False),
    Metric("macro_f1", "macro F1", brief=False),
)
