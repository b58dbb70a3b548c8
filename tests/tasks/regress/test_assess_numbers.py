"""Metrics of a regression agree with scikit-learn; what was planted is seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from answers_made import data_of, evaluated, task_of
from striate.evaluation.assessment import assess_split


def answered(n=300, targets=2, seed=0, noise=1.0, split="test"):
    rng = np.random.default_rng(seed)
    truth = rng.normal(50, 10, (n, targets)).astype(np.float32)
    return evaluated(truth, (truth + rng.normal(0, noise, truth.shape)).astype(np.float32), task="regress", split=split)


def figures_of(evaluation, names=("width", "height")):
    return assess_split(task_of(evaluation), evaluation, data_of(evaluation.n, names=names))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("targets", [1, 2])
def test_figures_agree_with_scikit_learn(targets):
    evaluation = answered(targets=targets)
    truth, answers = (np.asarray(a, np.float64) for a in (evaluation.targets, evaluation.decoded))
    figures = figures_of(evaluation, ("width", "height")[:targets])
    assert figures.metrics["rmse"].value == pytest.approx(metrics.mean_squared_error(truth, answers) ** 0.5)
    assert figures.metrics["mae"].value == pytest.approx(metrics.mean_absolute_error(truth, answers))
    assert figures.metrics["r2"].value == pytest.approx(metrics.r2_score(truth, answers))
    for estimate in figures.metrics.values():
        assert estimate.interval.low < estimate.value < estimate.interval.high
    own = figures.targets[-1]
    assert own.metrics["r2"].value == pytest.approx(metrics.r2_score(truth[:, -1], answers[:, -1]))
    assert own.metrics["rmse"].interval.low < 1.0 < own.metrics["rmse"].interval.high
    assert sum(part.n for part in own.ranges) == 300
    assert [part.low for part in own.ranges] == sorted(part.low for part in own.ranges)
    json.dumps(figures.to_json(), allow_nan=False)


def test_a_network_that_shrinks_large_numbers_is_seen_to():
    evaluation = answered(targets=1, noise=0.5)
    shrunk = (50 + 0.7 * (evaluation.decoded - 50)).astype(np.float32)
    ranges = figures_of(evaluated(evaluation.targets, shrunk, task="regress"), ("width",)).targets[0].ranges
    assert ranges[0].metrics["bias"].interval.low > 0
    assert ranges[-1].metrics["bias"].interval.high < 0


@pytest.mark.slow
def test_the_largest_errors_are_measured_by_the_spread_of_their_target():
    evaluation = answered()
    moved = evaluation.decoded.copy()
    moved[7, 1] += 30
    first = figures_of(evaluated(evaluation.targets, moved, task="regress")).largest[0]
    assert (first.id, first.path, first.target) == (107, "test/7.png", "height")
    assert first.error == pytest.approx(first.predicted - first.true)


@pytest.mark.parametrize("n", [1, 5])
def test_a_few_samples_have_figures_without_intervals(n):
    figures = figures_of(answered(n, targets=1), ("width",))
    assert figures.metrics["rmse"].interval is None
    assert figures.left_out
    json.dumps(figures.to_json(), allow_nan=False)


def test_equal_true_values_have_no_r2():
    evaluation = answered(40, targets=1)
    level = evaluated(np.full_like(evaluation.targets, 3.0), evaluation.decoded, task="regress")
    assert figures_of(level, ("width",)).metrics["r2"].value is None


def gap_between(train, val):
    return task_of(train).gap(train, val)


def test_the_gap_of_errors():
    gap = gap_between(answered(noise=1, split="train"), answered(noise=2, seed=1, split="val"))
    assert gap.difference.interval.low < 1.0 < gap.difference.interval.high
    assert gap.difference.interval.low > 0
    assert "lower on training" in gap.sentence
    same = gap_between(answered(split="train"), answered(seed=1, split="val"))
    assert same.difference.interval.low < 0 < same.difference.interval.high
