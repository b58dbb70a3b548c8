"""Intervals of averages over classes hold their value always, and the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from striate.statistics.intervals import f1_average_interval, shares_interval, wilson
from striate.tasks.classify.assess import average_metrics


def figures_of(confusion):
    """All figures of answers that this confusion matrix counts."""
    true, predicted = (np.repeat(places, confusion.ravel()) for places in np.indices(confusion.shape).reshape(2, -1))
    return average_metrics(true, np.eye(len(confusion), dtype=np.float32)[predicted], confusion)


def counted(truth, predicted, classes):
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return confusion


@pytest.mark.slow
@given(
    st.integers(2, 6)
    .flatmap(lambda k: arrays(np.int64, (k, k), elements=st.sampled_from([0, 0, 1, 2, 7, 60])))
    .filter(lambda confusion: confusion.sum() > 0)
)
def test_every_interval_holds_its_value(confusion):
    for name, estimate in figures_of(confusion).items():
        assert 0 <= estimate.interval.low <= estimate.value + 1e-12, name
        assert estimate.value - 1e-12 <= estimate.interval.high <= 1, name
        assert estimate.interval.high - estimate.interval.low > 0.001, name


@pytest.mark.parametrize("each", [1, 2, 5])
def test_many_classes_of_few_samples(each):
    truth = np.repeat(np.arange(100), each)
    predicted = np.where(np.arange(len(truth)) % 50, truth, (truth + 1) % 100)
    for name, estimate in figures_of(counted(truth, predicted, 100)).items():
        assert estimate.interval.low < estimate.value < estimate.interval.high, name
        assert estimate.interval.high - estimate.interval.low < 0.12, name


@given(st.integers(0, 40))
def test_of_equal_classes_it_is_about_the_interval_of_the_accuracy(missed):
    hits, counts = np.full(5, 40 - missed), np.full(5, 40)
    interval, expected = shares_interval(hits, counts, np.full(5, 0.2)), wilson(5 * (40 - missed), 200)
    assert interval.low == pytest.approx(expected.low, abs=0.001)
    assert interval.high == pytest.approx(expected.high, abs=0.001)


def test_one_class_of_few_samples_is_not_thought_sure_because_another_is():
    interval = shares_interval(np.array([1990, 50]), np.array([2000, 50]), np.array([0.5, 0.5]))
    assert interval.low < 0.9975 - (1 - wilson(50, 50).low) / 2 + 1e-9


@pytest.mark.each_nth(6)
@pytest.mark.parametrize(
    ("classes", "each", "share"), [(10, 100, 0.98), (100, 10, 0.98), (100, 10, 0.95), (100, 10, 0.8), (10, 20, 0.95)]
)
@pytest.mark.parametrize("balanced", [True, False])
def test_they_hold_the_truth_as_often_as_they_say(classes, each, share, balanced):
    """Balanced: classes of equally many samples. Otherwise as many as chance gives. Wrong answers go anywhere."""
    draw = np.random.default_rng(3)
    held = []
    for _ in range(400):
        truth = np.arange(classes * each) % classes
        truth = truth if balanced else draw.integers(0, classes, len(truth))
        shift = np.where(draw.random(len(truth)) < share, 0, draw.integers(1, classes, len(truth)))
        confusion = np.bincount(truth * classes + (truth + shift) % classes, minlength=classes**2).reshape(classes, -1)
        there = np.flatnonzero(confusion.any(0) & confusion.any(1))
        confusion, equal = confusion[np.ix_(there, there)], np.full(len(there), 1 / len(there))
        hits, truly, named = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        intervals = (
            shares_interval(hits, truly, equal),
            shares_interval(hits, named, equal, named=True),
            f1_average_interval(confusion, equal),
        )
        held.append([one.low <= share <= one.high for one in intervals])
    shares = np.mean(held, 0)
    assert shares[0] == pytest.approx(0.95, abs=0.022)
    assert (shares[1:] > 0.93).all()
    assert (shares[1:] < 0.99).all()
