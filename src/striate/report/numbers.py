"""The numbers behind each picture, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from striate.report.wording import columns_of, heading, metric
from striate.runs.environment import read_environment
from striate.visualize.page_parts import Table

ROWS = 200
"""So many rows at most in a table of mistakes or answers; the caption says how many there are in all."""


def metric_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a split, a column a metric."""
    keys = columns_of([dict(values) for values in metrics.values()])
    rows = tuple(
        (split, *(metric(key, values[key]) if key in values else "–" for key in keys))
        for split, values in metrics.items()
    )
    return Table("How good it is on each split", ("split", *(heading(key) for key in keys)), rows)


def history_table(history: Sequence[Mapping[str, float | None]]) -> Table:
    """A row an epoch, the columns of metrics.csv."""
    keys = tuple(dict.fromkeys(key for row in history for key in row))
    return Table("Each epoch", keys, tuple(tuple(row.get(key) for key in keys) for row in history))


def environment_table(path: Path) -> Table:
    """What env.json says of machine and versions."""
    rows = tuple((key, str(value)) for key, value in read_environment(path).items())
    return Table("Where it ran", ("what", "value"), rows)
