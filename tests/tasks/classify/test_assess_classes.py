"""Metrics of a classification agree with scikit-learn and torchmetrics."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics
from sklearn.calibration import calibration_curve

from answers_made import assessed, calibrated, evaluated, task_of
from striate.tasks.assessment import gap_lines
from striate.tasks.classify.assess import confused_pairs


@pytest.fixture(scope="module")
def made():
    truth, probabilities = calibrated(1500, 6, seed=3, sharpness=1.5)
    return truth, probabilities, assessed(truth, probabilities)


def test_averages_agree_with_scikit_learn(made):
    truth, probabilities, figures = made
    predicted = probabilities.argmax(1)
    expected = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
    }
    for k in (2, 3, 5):
        expected[f"top{k}"] = metrics.top_k_accuracy_score(truth, probabilities, k=k, labels=range(6))
    for kind in ("macro", "weighted"):
        expected[f"{kind}_precision"] = metrics.precision_score(truth, predicted, average=kind)
        expected[f"{kind}_recall"] = metrics.recall_score(truth, predicted, average=kind)
        expected[f"{kind}_f1"] = metrics.f1_score(truth, predicted, average=kind)
    assert figures.metrics.keys() == expected.keys()
    for name, estimate in figures.metrics.items():
        assert estimate.value == pytest.approx(expected[name]), name
        assert estimate.interval.low < estimate.value < estimate.interval.high, name


def test_classes_agree_with_scikit_learn(made):
    truth, probabilities, figures = made
    predicted = probabilities.argmax(1)
    for k, row in enumerate(figures.classes):
        one = truth == k
        said = predicted == k
        assert (row.n, row.predicted) == (one.sum(), said.sum())
        assert row.precision.value == pytest.approx(metrics.precision_score(one, said))
        assert row.recall.value == pytest.approx(metrics.recall_score(one, said))
        assert row.f1.value == pytest.approx(metrics.f1_score(one, said))
        assert row.auc.value == pytest.approx(metrics.roc_auc_score(one, probabilities[:, k]))
        assert row.average_precision.value == pytest.approx(metrics.average_precision_score(one, probabilities[:, k]))
        for estimate in (row.precision, row.recall, row.f1, row.auc, row.average_precision):
            assert estimate.interval.low < estimate.value < estimate.interval.high


def test_figures_agree_with_torchmetrics(made):
    truth, probabilities, figures = made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional import classification as peer

    said, labels = torch.from_numpy(probabilities), torch.from_numpy(truth)
    expected = {
        "macro_f1": peer.multiclass_f1_score(said, labels, 6, average="macro"),
        "weighted_precision": peer.multiclass_precision(said, labels, 6, average="weighted"),
        "balanced_accuracy": peer.multiclass_recall(said, labels, 6, average="macro"),
        "top3": peer.multiclass_accuracy(said, labels, 6, average="micro", top_k=3),
    }
    for name, value in expected.items():
        assert figures.metrics[name].value == pytest.approx(float(value), abs=1e-5), name
    areas = peer.multiclass_auroc(said, labels, 6, average=None)
    assert [row.auc.value for row in figures.classes] == pytest.approx(areas.tolist(), abs=1e-5)
    precisions = peer.multiclass_average_precision(said, labels, 6, average=None)
    assert [row.average_precision.value for row in figures.classes] == pytest.approx(precisions.tolist(), abs=1e-5)
    ece = peer.multiclass_calibration_error(said, labels, 6, n_bins=15, norm="l1")
    assert figures.calibration.ece == pytest.approx(float(ece), abs=1e-5)


def test_calibration_agrees_with_scikit_learn(made):
    truth, probabilities, figures = made
    right, confidence = probabilities.argmax(1) == truth, probabilities.max(1)
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15)
    bins = [part for part in figures.calibration.bins if part.n]
    assert [part.accuracy.value for part in bins] == pytest.approx(accuracies.tolist())
    assert [part.confidence for part in bins] == pytest.approx(confidences.tolist())
    assert sum(part.n for part in bins) == 1500
    exact = probabilities / probabilities.sum(1, keepdims=True, dtype=np.float64)
    assert figures.calibration.nll == pytest.approx(metrics.log_loss(truth, exact), rel=1e-4)
    one_hot = np.eye(6)[truth]
    assert figures.calibration.brier == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean(), rel=1e-5)


def test_curves_are_points_of_scikit_learns(made):
    truth, probabilities, figures = made
    for k, curve in enumerate(figures.curves):
        false, true, _ = metrics.roc_curve(truth == k, probabilities[:, k], drop_intermediate=False)
        points = set(zip(false.round(5).tolist(), true.round(5).tolist(), strict=True))
        shown = list(zip(curve.false_positive_rate, curve.true_positive_rate, strict=True))
        assert set(shown) <= points
        assert (shown[0], shown[-1]) == ((0, 0), (1, 1))
        precision, recall, _ = metrics.precision_recall_curve(truth == k, probabilities[:, k])
        points = set(zip(recall.round(5).tolist(), precision.round(5).tolist(), strict=True))
        assert set(zip(curve.recall, curve.precision, strict=True)) <= points
        assert max(len(curve.recall), len(shown)) <= 101
        # What was thinned is still the curve: its area is that of the class.
        assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(
            figures.classes[k].auc.value, abs=0.01
        )


def test_the_most_confident_mistakes_and_the_least_sure_hits(made):
    truth, probabilities, figures = made
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = sorted(confidence[predicted != truth], reverse=True)[:24]
    assert [answer.probability for answer in figures.mistakes] == pytest.approx(wrong)
    two = np.sort(probabilities, 1)[:, -2:]
    leads = sorted((two[:, 1] - two[:, 0])[predicted == truth])[:24]
    assert [a.probability - a.runner_up_probability for a in figures.unsure] == pytest.approx(leads, abs=1e-6)
    first = figures.mistakes[0]
    place = first.id - 100
    assert (first.path, first.true) == (f"test/{place}.png", f"class {truth[place]}")
    assert first.predicted == f"class {predicted[place]}" != first.true


def test_a_class_that_is_not_there_is_unknown_and_not_zero():
    truth, probabilities = calibrated(300, 3, seed=1)
    padded = np.concatenate([probabilities, np.zeros((300, 1), np.float32)], 1)
    row = assessed(truth, padded).classes[3]
    assert (row.n, row.predicted) == (0, 0)
    assert all(figure.value is None for figure in (row.precision, row.recall, row.f1))
    assert row.auc is None


def test_without_a_mistake_intervals_do_not_shrink_to_a_point():
    truth = np.arange(60) % 3
    figures = assessed(truth, np.eye(3, dtype=np.float32)[truth])
    for name, estimate in figures.metrics.items():
        assert estimate.value == 1, name
        assert estimate.interval.low < 0.97, name
    assert figures.mistakes == ()
    assert figures.confused == ()


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (5, 3), (25, 250)])
def test_small_splits_and_many_classes_give_strict_json(n, classes):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(classes), n).astype(np.float32)
    figures = assessed(rng.integers(0, classes, n), probabilities, brightness=rng.uniform(0, 255, n))
    document = figures.to_json()
    json.dumps(document, allow_nan=False)
    assert (document["confusion"] is None) == (classes > 200)
    assert document["left_out"]


def test_confused_pairs_begin_with_the_commonest():
    pairs = confused_pairs(np.array([[5, 4, 1], [0, 10, 0], [2, 0, 8]]), ("a", "b", "c"))
    assert [(pair.true, pair.predicted, pair.n) for pair in pairs] == [("a", "b", 4), ("c", "a", 2), ("a", "c", 1)]
    assert pairs[0].share.value == 0.4


def test_the_gap_of_hits():
    truth = np.arange(400) % 2
    parts = []
    for split, share in (("train", 0.95), ("val", 0.80)):
        said = np.where(np.arange(400) < 400 * share, truth, 1 - truth)
        parts.append(evaluated(truth, np.eye(2, dtype=np.float32)[said], split=split))
    gap = task_of(parts[0]).gap(*parts)
    assert gap.difference.value == pytest.approx(0.15)
    assert gap.difference.interval.low == pytest.approx(0.1055, abs=0.005)
    assert "15.00 points better on training (95 % interval 10." in gap.sentence
    truth, said = truth.copy(), np.eye(2, dtype=np.float32)[np.where(np.arange(400) < 378, truth, 1 - truth)]
    alike = task_of(parts[0]).gap(evaluated(truth, said, split="train"), parts[0]).sentence
    assert "94.50 %, validation 95.00 %: 0.50 points better on validation, within noise" in alike
    assert "(95 % interval −2.68 to 3.70)" in alike  # around the 0.50 points that the sentence names
    lines = gap_lines({"sentence": alike})
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith(").")
