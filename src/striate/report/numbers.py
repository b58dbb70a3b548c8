"""The report's tables of numbers, and how it writes numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from striate.tasks.evaluation import count_text
from striate.tasks.metric import Metric
from striate.tasks.registry import known_metrics, metric_named
from striate.visualize.page_parts import Table
from striate.wording import formatted, number, percent


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """The keys of metrics.json in these rows that a table shows, in its order."""
    order = ["n", "loss"]
    for known in known_metrics():
        order += [known.key, f"{known.key}_interval"]
    there = {key for row in rows for key, value in row.items() if value is not None or not key.endswith("_interval")}
    return [key for key in dict.fromkeys(order) if key in there]


def heading(key: str, keys: Sequence[str]) -> str:
    """The heading of a column of metrics.json, in a table with the columns `keys`."""
    if key == "n":
        return "samples"
    if key.endswith("_interval"):
        return f"95 % interval {metric_named(key.removesuffix('_interval'), keys).interval_of}".rstrip()
    return metric_named(key, keys).name


def metric(key: str, value: Any) -> str:
    """One entry of metrics.json for readers: shares in percent, intervals as a range, a dash where there is none."""
    if value is None and key.endswith("_interval"):
        return "–"
    if key.endswith("_interval"):
        known: Metric = metric_named(key.removesuffix("_interval"))
        return " to ".join(percent(end) if known.is_share else number(end) for end in value)
    if metric_named(key).is_share:
        return percent(value)
    return formatted(value, ".3f") if key == "r2" and value is not None else number(value)


def plain(value: object) -> str:
    """A value of env.json in words, without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return "none" if value is None else str(value)


def metric_table(metrics: Mapping[str, Mapping[str, Any]], classes: int = 0) -> Table:
    """A row for each split, a column for each metric that is meaningful for this number of classes."""
    columns = columns_of([dict(values) for values in metrics.values()])
    keys = [key for key in columns if metric_named(key.removesuffix("_interval")).tells(classes)]
    rows = tuple((split, *(_cell(key, values) for key in keys)) for split, values in metrics.items())
    return Table("How good it is on each split", ("split", *(heading(key, keys) for key in keys)), rows)


def _cell(key: str, values: Mapping[str, Any]) -> str:
    if key == "n" and "of" in values:
        return count_text(values)
    return metric(key, values[key]) if key in values else "–"


def history_table(history: Sequence[Mapping[str, float | None]]) -> Table:
    """A row for each epoch, with the columns of metrics.csv; final metrics are measured again after training, in
    fp32."""
    keys = tuple(dict.fromkeys(key for row in history for key in row))
    return Table(
        "Each epoch, in the precision of training", keys, tuple(tuple(row.get(key) for key in keys) for row in history)
    )
