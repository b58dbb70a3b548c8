"""The metrics of a regression: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import one_line
from striate.statistics.calibration import Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import Slice, SplitRecord, cut_text, fit_text, slice_lines, span_text, with_paths
from striate.tasks.metric import Metric
from striate.wording import number

RMSE = Metric("rmse", "RMSE", higher_is_better=False)
METRICS = (RMSE, Metric("mae", "MAE", higher_is_better=False), Metric("r2", "R²"))


_MOST_SHOWN = 5


def r_squared(truth: NDArray[np.float64], predictions: NDArray[np.float64]) -> float | None:
    """1 − Σ (error²) / Σ (difference from the mean²) of (N,) or (N, T) numbers, the mean over the targets that vary;
    None where no target varies. Agrees with scikit-learn, which takes a second to load."""
    about_mean = ((truth - truth.mean(0)) ** 2).sum(0)
    varied = truth.min(0) < truth.max(0)
    shares = ((predictions - truth) ** 2).sum(0)[varied] / about_mean[varied]
    return float(1 - shares.mean()) if varied.any() else None


@dataclass(frozen=True)
class NumberPrediction:
    """The prediction of one number of one sample, in the units of the data."""

    id: int
    """Id of the sample."""
    path: str
    """Its path."""
    target: str
    """Name of the number."""
    true: float
    """Its true value."""
    predicted: float
    """Its prediction."""
    error: float
    """Predicted minus true."""


@dataclass(frozen=True)
class RangeMetrics:
    """The samples whose true number lies in one range."""

    low: float
    """Lower end of the range."""
    high: float
    """Upper end of the range."""
    n: int
    """Number of samples."""
    metrics: Mapping[str, Estimate]
    """`bias` (mean of predicted minus true), `rmse` and `mae`."""


@dataclass(frozen=True)
class TargetMetrics:
    """The metrics of one number of a regression."""

    name: str
    """Name of the number."""
    metrics: Mapping[str, Estimate]
    """`rmse`, `mae`, `bias` and `r2`."""
    ranges: tuple[RangeMetrics, ...]
    """Metrics by ranges of its true values, fifths where there are many samples."""


@dataclass(frozen=True)
class RegressionMetrics(SplitRecord):
    """Everything about one split of a regression."""

    n: int
    """Number of samples."""
    metrics: Mapping[str, Estimate]
    """Metrics over all targets."""
    targets: tuple[TargetMetrics, ...]
    """A row for each number."""
    largest: tuple[NumberPrediction, ...]
    """The predictions with the largest errors."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """Each number, slices, and the largest errors."""
        del temperature
        return [*_number_parts(self), slice_lines(self.slices, RMSE), _largest_lines(self)]


def _number_parts(figures: RegressionMetrics) -> list[list[str]]:
    parts = []
    for target in figures.targets:
        name = cut_text(one_line(target.name), 24)
        rows = [(label, target.metrics[key]) for key, label in _NUMBERS.items()]
        lines = [f"  {name:<24}{'':>10}   95 % interval (bootstrap)"]
        lines += [f"  {label:<24}{_number(figure):>10}   {span_text(figure, 1)}" for label, figure in rows]
        parts.append(lines)
        if len(target.ranges) > 1:
            head = f"  {'by true value':<24}{'n':>7} {'bias':>9}   {'95 % interval':<19} {'RMSE':>9}"
            parts.append([head, *(_range_line(part) for part in target.ranges)])
    return parts


_NUMBERS = {"rmse": "RMSE", "mae": "MAE", "bias": "bias", "r2": "R²"}


def _range_line(part: Any) -> str:
    name = f"{number(part.low)} to {number(part.high)}"
    bias, rmse = part.metrics["bias"], part.metrics["rmse"]
    return f"  {name:<24}{part.n:>7,} {_number(bias):>9}   {span_text(bias, 1, 3):<19} {_number(rmse):>9}"


def _largest_lines(figures: RegressionMetrics) -> list[str]:
    several = len(figures.targets) > 1
    lines = []
    for prediction in figures.largest[:_MOST_SHOWN]:
        of = f" ({cut_text(one_line(prediction.target), 14)})" if several else ""
        text = f"{number(prediction.predicted)} instead of {number(prediction.true)}{of}"
        error = f"{'+' if prediction.error >= 0 else ''}{number(prediction.error)}"
        lines += with_paths(f"  {error:>10}  {fit_text(text, 45)}", prediction.path)
    return ["  largest errors", *lines] if lines else []


def _number(figure: Estimate) -> str:
    return number(figure.value)
