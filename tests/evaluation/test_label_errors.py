"""Doubtful labels: the rule on made-up probabilities, and planted wrong labels in real digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from striate.data.audit.evidence import gather
from striate.data.config import DataConfig
from striate.data.sources.list_source import list_source
from striate.evaluation.label_errors import doubt_labels, find_label_errors


def test_a_label_without_probability_is_doubted_where_another_is_given_with_confidence() -> None:
    probabilities = np.array([[0.995, 0.005], [0.9, 0.1], [0.005, 0.995], [0.2, 0.8], [0.995, 0.005], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 1, 1, 0])
    doubts = doubt_labels(probabilities, labels)
    # The last is likely wrong, but not surely so.
    assert doubts.positions.tolist() == [4]
    assert doubts.others.tolist() == [0]
    assert doubts.sure.tolist() == [[0.995, 0.005]]
    assert doubts.accuracy == 4 / 6


def test_no_label_is_doubted_where_the_model_knows_nothing() -> None:
    assert not len(doubt_labels(np.full((50, 5), 0.2), np.arange(50) % 5).positions)


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
    marked = find_label_errors(gather(replace(listing, targets=targets, labels=labels), config))
    assert marked is not None
    found = {number for (number,) in marked.groups}
    assert len(found & wrong) >= 28
    assert len(found - wrong) <= 0.1 * len(found)
