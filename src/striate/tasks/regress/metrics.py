"""The metrics of a regression."""

from __future__ import annotations

from striate.tasks.metric import Metric

RMSE = Metric("rmse", "RMSE", higher_is_better=False)
METRICS = (RMSE, Metric("mae", "MAE", higher_is_better=False), Metric("r2", "R²"))
