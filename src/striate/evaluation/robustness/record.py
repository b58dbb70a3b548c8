"""How predictions hold against changes of the image: a plain record, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from striate.records import Interval
from striate.tasks.metric import Metric


@dataclass(frozen=True)
class Level:
    """One strength: the headline metric, and the share of predictions that stayed what they were for the unchanged
    image (None where that has no meaning), each with its 95 % interval (None of few samples)."""

    strength: float
    value: float
    interval: Interval | None
    unchanged: float | None = None
    unchanged_interval: Interval | None = None

    def to_json(self, key: str) -> dict[str, Any]:
        """Plain values, the metric under `key`, intervals as `[low, high]`."""
        return {
            "strength": self.strength,
            key: self.value,
            "interval": _ends(self.interval),
            "unchanged": self.unchanged,
            "unchanged_interval": _ends(self.unchanged_interval),
        }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


@dataclass(frozen=True)
class Curve:
    """The metric against the strength of one kind of change; `identity` is the strength that changes nothing."""

    name: str
    unit: str
    what: str
    identity: float | None
    levels: tuple[Level, ...]
    higher_is_better: bool = True

    @property
    def mean(self) -> float:
        """Mean of the metric over the strengths."""
        return sum(level.value for level in self.levels) / len(self.levels)

    @property
    def worst(self) -> Level:
        """The strength at which the metric is worst."""
        sign = 1 if self.higher_is_better else -1
        return min(self.levels, key=lambda level: sign * level.value)

    def to_json(self, key: str) -> dict[str, Any]:
        """Plain values, the metric under `key`."""
        levels = [level.to_json(key) for level in self.levels]
        return {
            "name": self.name, "unit": self.unit, "what": self.what, "identity": self.identity,
            f"mean_{key}": self.mean, "levels": levels,
        }  # fmt: skip


@dataclass(frozen=True)
class Robustness:
    """How a network's predictions hold on `n` images of one split that has `of`.

    `value` of `metric` with its `interval` is that of the images as they are; `curves` has one for each kind of change;
    `left_out` says which kinds were not tried, and why. What is random follows from `seed`, the kind and the sample's
    id. `classes` is their number.
    """

    data: str
    split: str
    n: int
    of: int
    seed: int
    classes: int
    value: float
    interval: Interval | None
    curves: tuple[Curve, ...]
    metric: Metric
    left_out: str = ""

    @property
    def of_hits(self) -> bool:
        """Whether the metric is the share of predictions that are right."""
        return self.metric.key == "accuracy"

    @property
    def worst(self) -> Curve:
        """The kind that costs the most on average over its strengths."""
        return max(self.curves, key=self.cost)

    def cost(self, curve: Curve) -> float:
        """How much worse the metric is than that of the images as they are, on average over the strengths."""
        lost = self.value - curve.mean
        return lost if self.metric.higher_is_better else -lost

    @property
    def summary(self) -> str:
        """Sentences: what costs most and least, and how far predictions stay when an image is shifted."""
        from striate.evaluation.robustness.text import summarize

        return summarize(self)

    def to_json(self) -> dict[str, Any]:
        """The content of robustness.json."""
        key = "accuracy" if self.of_hits else "value"
        return {
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "of": self.of,
            "seed": self.seed,
            "classes": self.classes,
            **({} if self.of_hits else {"metric": self.metric.key, "left_out": self.left_out}),
            key: self.value,
            "interval": _ends(self.interval),
            "worst": self.worst.name,
            "summary": self.summary,
            "curves": [curve.to_json(key) for curve in self.curves],
        }

    def __str__(self) -> str:
        from striate.evaluation.robustness.text import render

        return render(self)
