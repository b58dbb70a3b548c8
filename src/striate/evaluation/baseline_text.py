"""Baselines as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from striate.tasks.metric_names import split_line


def baseline_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each of `Baseline.to_json()`: its name and its metrics on the test split."""
    width = max((len(entry["name"]) for entry in entries), default=0)
    return [f"  {entry['name']:<{width}}  {split_line(entry).rpartition(', n =')[0]}" for entry in entries]


def comparison_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What follows the test line of a training: `entries` as in metrics.json under `baselines`; nothing without any."""
    if not entries:
        return []
    head = f"beside it, on the same {entries[0]['n']:,} test samples:"
    return [head, *baseline_lines(entries), *(entry["comparison"]["sentence"] for entry in entries)]
