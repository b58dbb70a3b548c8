"""How the report writes numbers."""

from __future__ import annotations

from typing import Any

from striate.tasks.metric import Metric
from striate.tasks.metric_names import known_metrics, metric_named
from striate.wording import number, percent


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """The keys of metrics.json that a table of these rows shows, in its order."""
    order = ["n", "loss"]
    for known in known_metrics():
        order += [known.key, f"{known.key}_interval"]
    return [key for key in dict.fromkeys(order) if any(key in row for row in rows)]


def heading(key: str) -> str:
    """What stands above a column of metrics.json."""
    if key == "n":
        return "samples"
    return "95 % interval" if key.endswith("_interval") else metric_named(key).name


def metric(key: str, value: Any) -> str:
    """One entry of metrics.json for reading: shares in percent, intervals as a range."""
    if key.endswith("_interval"):
        known: Metric = metric_named(key.removesuffix("_interval"))
        return " to ".join(percent(end) if known.is_share else number(end) for end in value)
    if metric_named(key).is_share:
        return percent(value)
    return f"{value:.3f}" if key in ("macro_f1", "r2") and value is not None else number(value)


def plain(value: object) -> str:
    """A value of env.json in words: its parts one after the other, without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return "none" if value is None else str(value)
