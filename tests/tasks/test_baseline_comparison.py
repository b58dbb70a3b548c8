"""Whether a difference is more than noise, and that the sentence says it."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick import few_quick
from striate.statistics import paired
from striate.statistics.paired import mcnemar
from striate.tasks.baseline import Baseline
from striate.tasks.classify.task import Classify
from striate.tasks.evaluation import Evaluation
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import Segment

COUNT = st.integers(0, 40)
TASKS = (Classify(("a", "b")), Regress(("y",), (0.0,), (1.0,)), Segment(("a", "b")))


def network(task, decoded, targets, classes=("a", "b")):
    n = len(targets)
    return Evaluation("made", "test", task, classes, n, {"n": n}, decoded, targets, np.arange(n))


def compare_with(network, baseline):
    """The comparison by the task that made the network's predictions."""
    return next(task for task in TASKS if task.name == network.task).compare_baseline(network, baseline)


def baseline(decoded):
    return Baseline("HOG + SVM", "", "", {}, 1, 0.0, {}, "", decoded)


def answers(right):
    """(N, 2) whose answer is 0, the truth, where `right`."""
    right = np.asarray(right, bool)
    return np.stack([right, ~right], 1).astype(np.float32)


def of_counts(both, ours, theirs, neither):
    """Comparison of a network with a baseline that are right on so many samples together and alone."""
    rights = [(1, 1)] * both + [(1, 0)] * ours + [(0, 1)] * theirs + [(0, 0)] * neither
    targets = np.zeros(len(rights), np.int64)
    one, other = (answers(column) for column in zip(*rights, strict=True))
    return compare_with(network("classify", one, targets), baseline(other))


@given(COUNT, COUNT)
def test_mcnemar_is_the_binomial_tail_doubled(first, second):
    n, least = first + second, min(first, second)
    expected = min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


@given(st.integers(0, 30), COUNT, COUNT, st.integers(1, 30))
def test_it_beats_only_what_it_leads_beyond_noise(both, ours, theirs, neither):
    found = of_counts(both, ours, theirs, neither)
    assert found.difference == ours - theirs
    assert found.beats == (ours > theirs and mcnemar(ours, theirs) < 0.05)
    assert ("does not beat" in found.sentence) == (not found.beats)


def test_sentences_of_classes():
    assert of_counts(10, 25, 2, 13).sentence == (
        "The network is right on 23 more of 50 test samples than HOG + SVM: more than noise"
        " (McNemar's exact test, p < 0.0001)."
    )
    assert of_counts(40, 4, 2, 4).sentence == (
        "The network does not beat HOG + SVM: it is right on 2 more of 50 test samples, within noise"
        " (McNemar's exact test, p = 0.688)."
    )
    assert of_counts(40, 1, 9, 0).sentence == (
        "The network does not beat HOG + SVM: it is right on 8 fewer of 50 test samples, more than noise"
        " (McNemar's exact test, p = 0.021)."
    )
    assert of_counts(4, 0, 0, 0).sentence == (
        "The network does not beat HOG + SVM: both are right on equally many of 4 test samples."
    )


def test_numbers():
    rng = np.random.default_rng(0)
    targets = rng.normal(20, 5, (200, 1)).astype(np.float32)
    good, bad = (targets + rng.normal(0, scale, targets.shape).astype(np.float32) for scale in (1, 3))
    better = compare_with(network("regress", good, targets), baseline(bad))
    rmse = [float(np.sqrt(np.mean((np.float64(x) - targets) ** 2))) for x in (bad, good)]
    assert better.difference == pytest.approx(rmse[0] - rmse[1])
    assert better.beats
    assert better.interval[0] < better.difference < better.interval[1]
    assert better.sentence.startswith(f"The network's RMSE is {better.difference:.3g} lower than that of HOG + SVM:")
    worse = compare_with(network("regress", bad, targets), baseline(good))
    assert worse.difference == pytest.approx(-better.difference)
    assert not worse.beats
    assert "higher, more than noise" in worse.sentence
    same = compare_with(network("regress", good, targets), baseline(good))
    assert same.sentence == "The network does not beat HOG + SVM: the RMSE is the same."


def test_the_bootstrap_covers_what_theory_says():
    """The interval of a difference of two RMSEs is about as wide as the delta method has it."""
    rng = np.random.default_rng(1)
    n = 400
    errors = rng.normal(0, [[2.0, 2.2]], (n, 2))
    found = compare_with(network("regress", errors[:, :1], np.zeros((n, 1))), baseline(errors[:, 1:]))
    ours, theirs = (errors[:, k] ** 2 for k in (0, 1))
    influence = theirs / (2 * np.sqrt(theirs.mean())) - ours / (2 * np.sqrt(ours.mean()))
    width = 2 * 1.96 * influence.std() / np.sqrt(n)
    assert found.interval[1] - found.interval[0] == pytest.approx(width, rel=0.1)


def test_one_sample_is_never_more_than_noise():
    found = compare_with(network("regress", np.ones((1, 1)), np.ones((1, 1))), baseline(np.zeros((1, 1))))
    assert not found.beats
    assert "within noise" in found.sentence


@pytest.mark.parametrize("n", few_quick([3, 5, 12, 30], [5]))
def test_without_a_difference_hardly_one_in_twenty_is_more_than_noise(n, monkeypatch):
    """Two methods whose errors come from one distribution: 400 comparisons, each with fresh samples."""
    monkeypatch.setattr(paired, "_RESAMPLES", 199)  # the level is kept for any number of them, only the power is not
    rng = np.random.default_rng(n)
    wrong = 0
    for _ in range(400):
        errors = rng.standard_t(4, (n, 2))
        found = compare_with(network("regress", errors[:, :1], np.zeros((n, 1))), baseline(errors[:, 1:]))
        wrong += found.p_value < 0.05
    assert wrong <= (0 if n < 6 else 30)  # of 400, more than 30 by chance once in 80 where the level is 5 %


def test_of_few_samples_no_interval_is_given_but_what_is_plain_is_seen():
    ours, theirs = np.full((8, 1), 0.1), np.linspace(1, 2, 8)[:, None]
    found = compare_with(network("regress", ours, np.zeros((8, 1))), baseline(theirs))
    assert found.interval is None
    assert found.p_value == 2 / 256  # all eight the same way, or all the other
    assert found.beats
    assert "interval" not in found.sentence


def test_masks():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (24, 8, 8)).astype(np.uint8)
    ours, theirs = (np.where(rng.random(targets.shape) < wrong, 1 - targets, targets) for wrong in (0.05, 0.3))
    targets[:, 0] = 255
    import torch

    task = Segment(("a", "b"))
    iou = [task.measure(torch.from_numpy(x), torch.from_numpy(targets))["iou"] for x in (ours, theirs)]
    found = compare_with(network("segment", ours, targets), baseline(theirs))
    assert found.difference == pytest.approx(iou[0] - iou[1])
    assert found.beats
    low, high = (100 * end for end in found.interval)
    assert found.sentence == (
        f"The network's mean IoU is {100 * found.difference:.3g} points higher than that of HOG + SVM: more than noise"
        " (paired permutation test over 24 test samples, p = 0.0005;"
        f" 95 % interval of its lead {low:.3g} to {high:.3g} points, paired bootstrap)."
    )
    assert not compare_with(network("segment", theirs, targets), baseline(ours)).beats


def test_it_is_plain_json_and_the_same_each_time():
    first, second = (of_counts(3, 2, 1, 4).to_json() for _ in range(2))
    assert json.loads(json.dumps(first)) == second
    assert set(first) == {"difference", "p_value", "interval", "beats", "sentence"}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_samples_in_groups_are_permuted_as_wholes(task):
    """Six patients of ten samples each: no more than six coins tell the two apart."""
    good = np.repeat([1, 1, 1, 1, 1, 0], 10) > 0
    made = {
        "classify": (np.zeros(60, np.int64), answers(good), answers(~good)),
        "regress": (np.zeros((60, 1)), np.where(good, 0.1, 2.0)[:, None], np.where(good, 2.0, 0.1)[:, None]),
        "segment": (
            np.zeros((60, 2, 2), np.uint8),
            *(np.tile(x[:, None, None], (1, 2, 2)).astype(np.uint8) for x in (~good, good)),
        ),
    }[task.name]
    targets, ours, theirs = made
    found = [
        task.compare_baseline(network(task, ours, targets), baseline(theirs), groups=groups)
        for groups in ((), [f"patient {number // 10}" for number in range(60)])
    ]
    assert found[0].beats
    assert found[1].p_value >= 2 / 2**6
    assert not found[1].beats
    assert "6 groups" in found[1].sentence
