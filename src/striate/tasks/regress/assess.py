"""The assessment of predicted numbers for a split: over all numbers, per target, and by ranges of its true value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import SampleFacts
from striate.records import Interval
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import FEW, drawn_count, percentile_interval, resampled_means
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import sample_groups, too_few
from striate.tasks.headline import Headline
from striate.tasks.regress.metrics import NumberPrediction, RangeMetrics, RegressionMetrics, TargetMetrics, r_squared

RANGES, _RANGE = 5, 25
"""Largest number of ranges of true values, and the smallest number of samples of each, about."""


def overall_metrics(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], groups: Sequence[str] = ()
) -> dict[str, Estimate]:
    """`rmse`, `mae` and `r2` of (N, T) numbers, over samples and targets together as in metrics.json; for a single
    target also `bias`."""
    if truth.shape[1] == 1:
        return number_metrics(truth[:, 0], predictions[:, 0], groups)
    errors, varied = predictions - truth, truth.min(0) < truth.max(0)
    columns = np.stack([(errors**2).mean(1), np.abs(errors).mean(1)], 1)
    rmse, mae = root_mean(columns[:, 0], groups), _mean(columns[:, 1], np.abs(errors).mean(), groups)
    r2 = r_squared(truth, predictions)
    draws = [_r2_draws(truth[:, t], predictions[:, t], groups) for t in np.flatnonzero(varied)]
    many = drawn_count(groups, len(truth)) >= FEW
    interval = percentile_interval(np.mean(draws, 0)) if r2 is not None and many else None
    return {"rmse": rmse, "mae": mae, "r2": Estimate(r2, interval)}


def number_metrics(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], groups: Sequence[str] = ()
) -> dict[str, Estimate]:
    """`rmse`, `mae`, `bias` (mean of predicted minus true) and `r2` of (N,) numbers; `r2` is None where all true values
    are equal. Intervals by bootstrap over samples, or groups; none for fewer than 20."""
    errors = predictions - truth
    r2 = r_squared(truth, predictions)
    many = drawn_count(groups, len(truth)) >= FEW
    interval = percentile_interval(_r2_draws(truth, predictions, groups)) if r2 is not None and many else None
    return {
        "rmse": root_mean(errors**2, groups),
        "mae": _mean(np.abs(errors), float(np.abs(errors).mean()), groups),
        "bias": _mean(errors, float(errors.mean()), groups),
        "r2": Estimate(r2, interval),
    }


def target_metrics(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], names: Sequence[str], groups: Sequence[str] = ()
) -> tuple[TargetMetrics, ...]:
    """The metrics of each column of (N, T) numbers under its name, over all samples and by ranges of true values."""
    return tuple(
        TargetMetrics(name, number_metrics(true, predicted, groups), _ranges(true, predicted, groups))
        for name, true, predicted in zip(names, truth.T, predictions.T, strict=True)
    )


def _ranges(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], groups: Sequence[str]
) -> tuple[RangeMetrics, ...]:
    """Ranges of true values with about as many samples each, in rising order; equal values are in one range."""
    count = max(1, min(RANGES, len(truth) // _RANGE))
    edges = np.unique(np.quantile(truth, np.linspace(0, 1, count + 1)))
    places = np.searchsorted(edges[1:-1], truth)
    found = []
    for place in np.unique(places):
        own = places == place
        of_own = [groups[k] for k in np.flatnonzero(own).tolist()] if groups else ()
        figures = number_metrics(truth[own], predictions[own], of_own)
        kept = {name: figures[name] for name in ("bias", "rmse", "mae")}
        found.append(RangeMetrics(float(truth[own].min()), float(truth[own].max()), int(own.sum()), kept))
    return tuple(found)


def _mean(values: NDArray[np.float64], mean: float, groups: Sequence[str]) -> Estimate:
    many = drawn_count(groups, len(values)) >= FEW
    interval = percentile_interval(resampled_means(values[:, None], groups=groups)[:, 0]) if many else None
    return Estimate(float(mean), interval)


def root_mean(squares: NDArray[np.float64], groups: Sequence[str] = ()) -> Estimate:
    """The root of the mean, with its interval by bootstrap for at least 20 samples, or 20 groups."""
    mean = _mean(squares, float(squares.mean()), groups)
    interval = mean.interval
    if interval is not None:
        low, high = np.sqrt([interval.low, interval.high]).tolist()
        interval = Interval(low, high, interval.level, interval.method)
    return Estimate(float(np.sqrt(squares.mean())), interval)


def _r2_draws(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], groups: Sequence[str]
) -> NDArray[np.float64]:
    """(B,) R² of resamples; the mean is subtracted from true values first, so that their squares lose no digits."""
    from_mean = truth - truth.mean()
    means = resampled_means(np.stack([(predictions - truth) ** 2, from_mean, from_mean**2], 1), groups=groups)
    variance = means[:, 2] - means[:, 1] ** 2
    return np.asarray(1 - means[:, 0] / np.where(variance > 0, variance, np.inf))


SHOWN = 24
"""Number of errors that are listed."""


def largest_errors(
    truth: NDArray[np.float64],
    predictions: NDArray[np.float64],
    names: Sequence[str],
    ids: NDArray[np.int64],
    paths: Sequence[str],
) -> tuple[NumberPrediction, ...]:
    """The largest errors, compared in standard deviations of their targets; `truth` and `predictions` (N, T)."""
    errors = predictions - truth
    deviation = truth.std(0)
    distance = np.abs(errors) / np.where(deviation > 0, deviation, 1)
    order = np.argsort(-distance, axis=None, kind="stable")[:SHOWN]
    found = []
    for i, t in zip(*np.unravel_index(order, errors.shape), strict=True):
        values = (float(truth[i, t]), float(predictions[i, t]), float(errors[i, t]))
        found.append(NumberPrediction(int(ids[i]), paths[i], names[t], *values))
    return tuple(found)


def assess_numbers(
    evaluation: Evaluation, facts: SampleFacts, headline: Headline, names: Sequence[str]
) -> RegressionMetrics:
    """The assessment of predicted numbers for a split; `names` are those of the numbers."""
    truth, predictions = (
        np.asarray(values, np.float64).reshape(evaluation.n, -1) for values in (evaluation.targets, evaluation.decoded)
    )
    named = tuple(names) or tuple(f"value {t + 1}" for t in range(truth.shape[1]))
    groups = sample_groups(facts, evaluation.n, brightness=evaluation.brightness)
    own_groups = facts.columns.get("group", ())
    return RegressionMetrics(
        n=evaluation.n,
        metrics=overall_metrics(truth, predictions, own_groups),
        targets=target_metrics(truth, predictions, named, own_groups),
        largest=largest_errors(truth, predictions, named, evaluation.ids, facts.paths),
        slices=headline.over(own_groups).slices(groups, ((predictions - truth) ** 2).mean(1)),
        left_out=too_few(evaluation.n),
    )
