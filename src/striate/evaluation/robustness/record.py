"""How answers hold against changes of the image: a plain record, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from striate.records import Interval


@dataclass(frozen=True)
class Level:
    """One strength: the share of right answers, and of answers that stayed what they were for the unchanged image,
    each with its interval (95 %, Wilson)."""

    strength: float
    accuracy: float
    interval: Interval
    unchanged: float
    unchanged_interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain values, intervals as `[low, high]`."""
        return {
            "strength": self.strength,
            "accuracy": self.accuracy,
            "interval": [self.interval.low, self.interval.high],
            "unchanged": self.unchanged,
            "unchanged_interval": [self.unchanged_interval.low, self.unchanged_interval.high],
        }


@dataclass(frozen=True)
class Curve:
    """Accuracy against the strength of one kind of change; `identity` is the strength that changes nothing."""

    name: str
    unit: str
    what: str
    identity: float | None
    levels: tuple[Level, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy over the strengths."""
        return sum(level.accuracy for level in self.levels) / len(self.levels)

    @property
    def lowest(self) -> Level:
        """Where least is right."""
        return min(self.levels, key=lambda level: level.accuracy)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        levels = [level.to_json() for level in self.levels]
        return {
            "name": self.name, "unit": self.unit, "what": self.what, "identity": self.identity,
            "mean_accuracy": self.mean, "levels": levels,
        }  # fmt: skip


@dataclass(frozen=True)
class Robustness:
    """How a network's answers hold on `n` images of one split that has `of`.

    `accuracy` with its `interval` is that of the images as they are; `curves` has one for each kind of change. What is
    random follows from `seed`, the kind and the sample's id. `classes` is their number.
    """

    data: str
    split: str
    n: int
    of: int
    seed: int
    classes: int
    accuracy: float
    interval: Interval
    curves: tuple[Curve, ...]

    @property
    def worst(self) -> Curve:
        """The kind with the lowest mean accuracy over its strengths."""
        return min(self.curves, key=lambda curve: curve.mean)

    @property
    def summary(self) -> str:
        """Sentences: what costs most and least, and how far answers stay when an image is shifted."""
        from striate.evaluation.robustness.text import summarize

        return summarize(self)

    def to_json(self) -> dict[str, Any]:
        """The content of robustness.json."""
        return {
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "of": self.of,
            "seed": self.seed,
            "classes": self.classes,
            "accuracy": self.accuracy,
            "interval": [self.interval.low, self.interval.high],
            "worst": self.worst.name,
            "summary": self.summary,
            "curves": [curve.to_json() for curve in self.curves],
        }

    def __str__(self) -> str:
        from striate.evaluation.robustness.text import render

        return render(self)
