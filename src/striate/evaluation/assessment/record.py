"""The record of evaluation.json: plain frozen values, without torch. docs/evaluation.md has its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from striate.records import Interval


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None where nothing is known, such as the precision of a class never predicted."""

    value: float | None
    interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"value", "interval": [low, high] or null, "method"}`."""
        if self.interval is None:
            return {"value": self.value, "interval": None, "method": None}
        ends = [self.interval.low, self.interval.high]
        return {"value": self.value, "interval": ends, "method": self.interval.method}


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest: `n` samples truly are of it, `predicted` were taken for it. `auc` and
    `average_precision` are None where they were not computed."""

    name: str
    n: int
    predicted: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auc: Estimate | None = None
    average_precision: Estimate | None = None


@dataclass(frozen=True)
class ConfusedPair:
    """`n` samples of the class `true` were taken for `predicted`: the `share` of that class."""

    true: str
    predicted: str
    n: int
    share: Estimate


@dataclass(frozen=True)
class RankCurve:
    """ROC and precision–recall curve of one class against the rest, as points in the order of a falling threshold.

    Each axis from 0 to 1; at most 101 points each, so that a curve is drawn, not recomputed, from them.
    """

    name: str
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose confidence (the probability of the class named) lies above `low` and up to `high`: their mean
    `confidence`, and the share that was right. Both are None in an empty bin."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: Estimate


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities mean what they say. `ece`: the mean distance of confidence and accuracy over bins, weighted
    by samples. `ece_by_chance`: the 95 % range of what perfectly calibrated answers of the same confidences would
    show on as many samples. `nll`: mean negative log-likelihood in nats; `brier`: summed over classes, 0 to 2."""

    ece: float
    ece_by_chance: tuple[float, float]
    nll: float
    brier: float
    bins: tuple[ReliabilityBin, ...]

    @property
    def surplus(self) -> float:
        """Mean confidence minus accuracy: above 0 the network is too sure of itself, below 0 not sure enough."""
        return sum(self._shares().values())

    @property
    def both_ways(self) -> tuple[float, float] | None:
        """Where too sure and not sure enough cancel by more than half, and by more than chance makes them: the mean
        confidence of the bin that adds most to the one, and to the other; None elsewhere."""
        shares = self._shares()
        total = sum(map(abs, shares.values()))
        if not shares or abs(self.surplus) >= min(total / 2, total - self.ece_by_chance[1]):
            return None
        return max(shares, key=lambda said: shares[said]), min(shares, key=lambda said: shares[said])

    def _shares(self) -> dict[float, float]:
        """What each bin, by its mean confidence, adds to the surplus."""
        total = sum(part.n for part in self.bins)
        known = ((part.n, part.confidence or 0.0, part.accuracy.value or 0.0) for part in self.bins if part.n)
        return {said: n * (said - true) / total for n, said, true in known}


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by so that probabilities fit best, found on the split `fitted_on` alone (`n` samples).

    Above 1 the network is too sure of itself. `nll` is that of the split before, `nll_after` after.
    Source: C. Guo et al., "On calibration of modern neural networks", 2017.
    """

    value: float
    interval: Interval
    fitted_on: str
    n: int
    nll: float
    nll_after: float


@dataclass(frozen=True)
class ClassAnswer:
    """One answer: `true` class, `predicted` one with its `probability`, and the next probable one."""

    id: int
    path: str
    true: str
    predicted: str
    probability: float
    runner_up: str
    runner_up_probability: float


@dataclass(frozen=True)
class NumberAnswer:
    """One answer of a regression: `error` is predicted minus true, in the units of the data."""

    id: int
    path: str
    target: str
    true: float
    predicted: float
    error: float


@dataclass(frozen=True)
class Slice:
    """The samples that have the same `name` under `by` (`class`, `brightness`, `size`, or a column of the manifest).

    `figure` is their accuracy, or RMSE. `p_value`: of the question whether they differ from all others, `differs`:
    whether that is more than chance, corrected for how many slices were looked at.
    """

    by: str
    name: str
    n: int
    figure: Estimate
    p_value: float
    differs: bool


@dataclass(frozen=True)
class ClassificationFigures:
    """Everything about one split of a classification.

    `figures`: by name `accuracy`, `balanced_accuracy`, `top2` … `top10`, `macro_` and `weighted_` `precision`,
    `recall`, `f1`. `confusion`: rows are true classes; None with more than 200. `calibrated`: the same as
    `calibration` with the temperature that was fitted on validation; None where there is none. `mistakes` begins with
    the most confident, `unsure` with the hit of the smallest lead. `left_out`: a sentence on each thing not computed.
    """

    n: int
    figures: Mapping[str, Estimate]
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    confused: tuple[ConfusedPair, ...]
    curves: tuple[RankCurve, ...]
    calibration: Calibration
    calibrated: Calibration | None
    mistakes: tuple[ClassAnswer, ...]
    unsure: tuple[ClassAnswer, ...]
    slices: tuple[Slice, ...]
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures as one JSON object."""
        return _object(self)


@dataclass(frozen=True)
class RangeFigures:
    """Samples whose true number lies from `low` to `high`: `figures` are `bias` (mean of predicted minus true), `rmse`
    and `mae`."""

    low: float
    high: float
    n: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class TargetFigures:
    """One number of a regression: `figures` are `rmse`, `mae`, `bias` and `r2`; `ranges` of its true values are fifths
    where there are many samples."""

    name: str
    figures: Mapping[str, Estimate]
    ranges: tuple[RangeFigures, ...]


@dataclass(frozen=True)
class RegressionFigures:
    """Everything about one split of a regression: `figures` over all targets, each target, and the `largest` errors."""

    n: int
    figures: Mapping[str, Estimate]
    targets: tuple[TargetFigures, ...]
    largest: tuple[NumberAnswer, ...]
    slices: tuple[Slice, ...]
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures as one JSON object."""
        return _object(self)


Figures = ClassificationFigures | RegressionFigures


@dataclass(frozen=True)
class Gap:
    """How much better the network is on what it learned from: `difference` of `metric` between training and validation,
    in favor of training where positive."""

    metric: str
    train: Estimate
    n_train: int
    val: Estimate
    n_val: int
    difference: Estimate
    sentence: str


@dataclass(frozen=True)
class Assessment:
    """All of evaluation.json: the splits `val` and `test`, the temperature fitted on `val`, and the gap."""

    task: str
    data: str
    classes: tuple[str, ...]
    temperature: Temperature | None
    gap: Gap | None
    splits: Mapping[str, Figures]

    def to_json(self) -> dict[str, Any]:
        """The document as one JSON object."""
        return _object(self)


def plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Interval):
        return [value.low, value.high]
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _object(record: Any) -> dict[str, Any]:
    return {field.name: plain(getattr(record, field.name)) for field in fields(record)}
