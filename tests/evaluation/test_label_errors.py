"""Doubtful labels: the rule on made-up probabilities, and planted wrong labels in real digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from striate.data.audit.evidence import gather_evidence
from striate.data.config import DataConfig
from striate.data.sources.list_source import list_source
from striate.evaluation.label_errors import doubt_labels, estimate_wrong, find_label_errors, out_of_fold


def test_a_label_without_probability_is_doubted_where_another_is_given_with_confidence() -> None:
    probabilities = np.array([[0.995, 0.005], [0.9, 0.1], [0.005, 0.995], [0.2, 0.8], [0.995, 0.005], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 1, 1, 0])
    doubts = doubt_labels(probabilities, labels)
    # The last is likely wrong, but not surely so.
    assert doubts.positions.tolist() == [4]
    assert doubts.others.tolist() == [0]
    assert doubts.probabilities.tolist() == [[0.995, 0.005]]
    assert doubts.accuracy == 4 / 6


def test_no_label_is_doubted_where_the_model_knows_nothing() -> None:
    assert not len(doubt_labels(np.full((50, 5), 0.2), np.arange(50) % 5).positions)


def test_how_many_labels_are_wrong_in_all_follows_from_how_many_planted_ones_are_found() -> None:
    """Of 2,000 labels 200 are wrong; a rule that finds a third of wrong labels doubts about 67."""
    truth = np.arange(2000) % 10
    rng, labels = np.random.default_rng(0), truth.copy()
    labels[:200] = (labels[:200] + 1) % 10
    sees = rng.random(2000) < 1 / 3

    def doubted(given: np.ndarray) -> np.ndarray:
        return np.flatnonzero((given != truth) & sees)

    wrong = estimate_wrong(doubted(labels), labels, 10, doubted)
    assert wrong.low < 200 < wrong.high
    assert wrong.number is not None
    assert 120 < wrong.number < 320
    blind = estimate_wrong(doubted(labels), labels, 10, lambda given: given[:0])
    assert (blind.found, blind.number) == (0, None)
    none = estimate_wrong(np.zeros(0, np.int64), truth, 10, doubted)
    assert none.number == 0
    assert 0 < none.high < 30


def test_labels_planted_in_a_class_of_two_samples_may_leave_the_other_class_alone() -> None:
    labels = np.array([0, 1] + [0] * 10 + [1] + [0] * 7)
    fold, features = np.arange(20) % 2, np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    labels[1] = 0  # the only one of its class in its fold
    probabilities, _ = out_of_fold(features, labels, fold, 2)
    assert (probabilities[fold == 0] == [1, 0]).all()
    assert np.allclose(probabilities.sum(1), 1)


@pytest.mark.slow
def test_planted_wrong_labels_of_digits_are_found_and_few_others() -> None:
    config = DataConfig("digits")
    listing = list_source(config)
    assert listing.targets is not None
    rng = np.random.default_rng(0)
    wrong = set(rng.permutation(len(listing))[:40].tolist())
    targets = listing.targets.copy()
    for number in wrong:
        targets[number] = (targets[number] + 1 + rng.integers(9)) % 10
    labels = tuple(listing.classes[target] for target in targets)
    marked = find_label_errors(gather_evidence(replace(listing, targets=targets, labels=labels), config))
    assert marked is not None
    found = {number for (number,) in marked.groups}
    assert len(found & wrong) >= 28
    assert len(found - wrong) <= 0.1 * len(found)
    assert "are wrong in total" in marked.finding.measured
