"""The metrics of all tasks by their keys, for whoever has only a metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from striate.tasks.evaluation import summary_line
from striate.tasks.metric import LOSS, SILENT_UNITS, Metric, metric_of, one_view
from striate.tasks.registry import known_tasks


def known_metrics() -> tuple[Metric, ...]:
    """Every metric that a table may show, in its order."""
    found: dict[str, Metric] = {}
    for task in known_tasks():
        first, *others = task.metrics
        for metric in (first, one_view(first), *others):
            if metric.key not in (LOSS.key, one_view(LOSS).key):
                found.setdefault(metric.key, metric)
    return (*found.values(), LOSS, SILENT_UNITS)


def metric_named(key: str) -> Metric:
    """The metric of this key; of one that no task lists, what the key says."""
    return metric_of(known_metrics(), key)


def is_known(key: str) -> bool:
    """Whether a task lists a metric of this key."""
    return any(metric.key == key for metric in known_metrics())


def metric_text(key: str, mean: float | None, std: float | None = None) -> str:
    """A value of the metric as text, with its deviation where there is one."""
    return metric_named(key).text(mean, std)


def split_line(metrics: Mapping[str, Any]) -> str:
    """The metrics of one split of metrics.json on one line."""
    first = next((task for task in known_tasks() if task.metrics[0].key in metrics), None)
    return summary_line(metrics, () if first is None else first.metrics)
