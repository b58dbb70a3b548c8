"""How much better a network is on what it learned from than on validation."""

from __future__ import annotations

import numpy as np

from striate.evaluation.assessment.record import Estimate, Gap
from striate.evaluation.assessment.resample import FEW, percentile_interval, resampled_means
from striate.evaluation.intervals import sum_interval, wilson
from striate.evaluation.record import Evaluation


def measure_gap(train: Evaluation, val: Evaluation) -> Gap:
    """The gap in accuracy (Newcombe's interval) or RMSE (bootstrap; none for fewer than 20 samples) of two splits."""
    return _gap_of_hits(train, val) if train.task == "classify" else _gap_of_errors(train, val)


def _gap_of_hits(train: Evaluation, val: Evaluation) -> Gap:
    shares = [_accuracy(train), _accuracy(val)]
    values = [share.value or 0.0 for share in shares]
    interval = sum_interval(values, [share.interval for share in shares if share.interval is not None], [1, -1])
    difference = Estimate(values[0] - values[1], interval)
    said = f"Training {100 * values[0]:.2f} %, validation {100 * values[1]:.2f} %: " + _judged(
        difference, 100, " points better"
    )
    return Gap("accuracy", shares[0], train.n, shares[1], val.n, difference, said)


def _accuracy(evaluation: Evaluation) -> Estimate:
    hits = int((evaluation.decoded.argmax(1) == evaluation.targets).sum())
    return Estimate(hits / evaluation.n, wilson(hits, evaluation.n))


def _gap_of_errors(train: Evaluation, val: Evaluation) -> Gap:
    draws, values, shares = [], [], []
    for seed, part in enumerate((train, val)):  # seeds of their own: the two splits are independent
        errors = np.asarray(part.decoded, np.float64).reshape(part.n, -1) - part.targets.reshape(part.n, -1)
        squares = (errors**2).mean(1)
        drawn = np.sqrt(resampled_means(squares[:, None], seed)[:, 0])
        values.append(float(np.sqrt(squares.mean())))
        shares.append(Estimate(values[-1], percentile_interval(drawn) if part.n >= FEW else None))
        draws.append(drawn)
    count = min(map(len, draws))
    known = min(train.n, val.n) >= FEW
    interval = percentile_interval(draws[1][:count] - draws[0][:count]) if known else None
    difference = Estimate(values[1] - values[0], interval)
    said = f"RMSE in training {values[0]:.4g}, in validation {values[1]:.4g}: " + _judged(difference, 1, " lower")
    return Gap("rmse", shares[0], train.n, shares[1], val.n, difference, said)


def _judged(difference: Estimate, scale: float, unit: str) -> str:
    digits = ".2f" if scale == 100 else ".4g"
    value = scale * (difference.value or 0.0)
    size = f"{abs(value):{digits}}{unit}"
    if difference.interval is None:
        where = "what it learned from" if value >= 0 else "validation"
        return f"{size} on {where}; too few samples for an interval."
    low, high = scale * difference.interval.low, scale * difference.interval.high
    span = f"(95 % interval {low:{digits}} to {high:{digits}})"
    if low > 0:
        return f"{size} on what it learned from {span}."
    if high < 0:
        return f"{size} on validation {span}."
    return f"no gap that so many samples could tell {span}."
