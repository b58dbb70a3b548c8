"""A metric with its interval, and dataclasses as plain values of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.statistics.intervals import varying_interval, wilson


@dataclass(frozen=True)
class Estimate:
    """The value of a metric and its 95 % interval; each is None where it is unknown."""

    value: float | None
    interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"value", "interval": [low, high] or null, "method"}`."""
        if self.interval is None:
            return {"value": self.value, "interval": None, "method": None}
        ends = [self.interval.low, self.interval.high]
        return {"value": self.value, "interval": ends, "method": self.interval.method}


def share_of(hits: int, n: int) -> Estimate:
    """The proportion `hits / n` with Wilson's interval; unknown without samples."""
    return Estimate(hits / n, wilson(hits, n)) if n else Estimate(None)


def estimate_of(value: float, draws: NDArray[np.float64] | None) -> Estimate:
    """The value with the interval of its resamples `draws`, ignoring NaN among them; unknown where the value is
    NaN."""
    if np.isnan(value):
        return Estimate(None)
    known = np.empty(0) if draws is None else draws[~np.isnan(draws)]
    return Estimate(value, varying_interval(known) if len(known) else None)


def plain(value: Any) -> Any:
    """The value as plain values of JSON."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Interval):
        return [value.low, value.high]
    if is_dataclass(value) and not isinstance(value, type):
        return as_object(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def as_object(record: Any) -> dict[str, Any]:
    """A dataclass as one JSON object."""
    return {field.name: plain(getattr(record, field.name)) for field in fields(record)}
