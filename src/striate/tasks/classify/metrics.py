"""The metrics of a classification: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import one_line
from striate.statistics.calibration import Calibration, Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import (
    Slice,
    SplitRecord,
    calibration_lines,
    cut_text,
    fit_text,
    slice_lines,
    span_text,
    with_paths,
)
from striate.tasks.classify.decision import DecisionEffect
from striate.tasks.metric import Metric
from striate.wording import filled, percent, several

ACCURACY = Metric("accuracy", "accuracy", "share")
METRICS = (
    ACCURACY,
    Metric("top5", "top 5", "share", brief=False, above_classes=5),
    Metric("macro_f1", "macro F1", "share", brief=False),
)


_MOST_SHOWN = 5
_AVERAGES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "weighted_precision": "weighted precision",
    "weighted_f1": "weighted F1",
    "top2": "top 2",
    "top3": "top 3",
}


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """(K, K) counts of class numbers (N,): rows are true classes, columns predictions."""
    places = np.asarray(truth, np.int64) * classes + predicted
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class ClassMetrics:
    """One class against all others."""

    name: str
    """Name of the class."""
    n: int
    """Number of samples that truly belong to it."""
    predicted: int
    """Number of samples that it is predicted for."""
    precision: Estimate
    """Share of the predicted samples that belong to it."""
    recall: Estimate
    """Share of its samples that it is predicted for."""
    f1: Estimate
    """Their harmonic mean."""
    auc: Estimate | None = None
    """Area under the ROC curve; None where it was not computed."""
    average_precision: Estimate | None = None
    """Area under the precision–recall curve; None where it was not computed."""


@dataclass(frozen=True)
class ConfusedPair:
    """A class that is predicted in place of the true one."""

    true: str
    """Name of the true class."""
    predicted: str
    """Name of the predicted class."""
    n: int
    """Number of such samples."""
    share: Estimate
    """Their share of the samples of the true class."""


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
class ClassPrediction:
    """The prediction for one sample."""

    id: int
    """Id of the sample."""
    path: str
    """Its path."""
    true: str
    """Its true class."""
    predicted: str
    """The predicted class."""
    probability: float
    """Probability of the predicted class."""
    runner_up: str
    """The second most probable class."""
    runner_up_probability: float
    """Its probability."""


@dataclass(frozen=True)
class ClassificationMetrics(SplitRecord):
    """Everything about one split of a classification."""

    n: int
    """Number of samples."""
    metrics: Mapping[str, Estimate]
    """`accuracy`, `balanced_accuracy`, `top2` … `top10`, and `precision`, `recall`, `f1` after `macro_` and
    `weighted_`."""
    classes: tuple[ClassMetrics, ...]
    """A row for each class."""
    confusion: tuple[tuple[int, ...], ...] | None
    """The confusion matrix, a row a true class; None for more than 200 classes."""
    confused: tuple[ConfusedPair, ...]
    """The most frequent mistakes."""
    curves: tuple[RankCurve, ...]
    """ROC and precision–recall curves."""
    calibration: Calibration
    """Calibration of the probabilities."""
    calibrated: Calibration | None
    """The same with the temperature that was fitted on validation; None without one."""
    mistakes: tuple[ClassPrediction, ...]
    """Wrong predictions, beginning with the most confident one."""
    unsure: tuple[ClassPrediction, ...]
    """Right predictions, beginning with the smallest lead over the second class."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""
    decision: DecisionEffect | None = None
    """What a rule of costs or thresholds changes; None without one."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """Averages over classes, calibration, slices, and notable predictions."""
        return _class_parts(self, temperature)


def _class_parts(figures: ClassificationMetrics, temperature: Temperature | None) -> list[list[str]]:
    averages = [
        f"  {label:<19}{percent(figure.value or 0, 2):>10}   {span_text(figure, 100, '.2f')}"
        for name, label in _AVERAGES.items()
        if (figure := figures.metrics.get(name)) is not None
    ]
    return [
        decision_lines(figures.decision),
        [f"  {'over all classes':<19}{'':>10}   95 % interval", *averages],
        calibration_lines(figures.calibration, figures.calibrated, temperature),
        # Classes have a table of their own.
        slice_lines([entry for entry in figures.slices if entry.by != "class"], ACCURACY),
        _prediction_lines("most confident mistakes", figures.mistakes),
        _prediction_lines("least confident correct predictions", figures.unsure),
    ]


def decision_lines(
    effect: DecisionEffect | None,
    than: str = "the most probable class",
    heads: tuple[str, str] = ("most probable class", "by this rule"),
    whole: str = "accuracy",
) -> list[str]:
    """The rule, how many predictions it changes, and the metrics with and without it."""
    if effect is None:
        return []
    differing = f"{effect.differing:,} of {several(effect.n, 'prediction')} differ from {than}"
    wrapped = filled(f"Predicted: {effect.rule}. {differing[:1].upper()}{differing[1:]}.", 78).split("\n")
    lines = [f"  {line}" for line in wrapped]
    lines.append(f"  {'':<34}{heads[0]:>21}{heads[1]:>21}")
    for name, before, n_before, after, n in effect.rows(whole):
        cells = (f"{percent(value.value)} of {count:,}" for value, count in ((before, n_before), (after, n)))
        lines.append(f"  {fit_text(cut_text(name, 34), 34)}" + "".join(f"{cell:>21}" for cell in cells))
    return lines


def _prediction_lines(title: str, predictions: Sequence[ClassPrediction]) -> list[str]:
    lines = []
    for prediction in predictions[:_MOST_SHOWN]:
        predicted, true = (one_line(name) for name in (prediction.predicted, prediction.true))
        if prediction.predicted != prediction.true:
            text = f"{cut_text(true, 16)} predicted as {cut_text(predicted, 16)}"
        else:
            next_one = f"{cut_text(one_line(prediction.runner_up), 18)} {percent(prediction.runner_up_probability)}"
            text = f"{cut_text(true, 18)}, then {next_one}"
        lines += with_paths(f"  {percent(prediction.probability):>8}  {fit_text(text, 47)}", prediction.path)
    return [f"  {title}", *lines] if lines else []


SHOWN = 24
"""Largest number of predictions of a list."""


def notable_predictions(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    ids: NDArray[np.int64],
    paths: Sequence[str],
) -> tuple[tuple[ClassPrediction, ...], tuple[ClassPrediction, ...]]:
    """The mistakes, the most confident first, and the correct predictions, the smallest lead over another class
    first."""
    confidence = probabilities[np.arange(len(truth)), predicted]
    lead = confidence - runner_up(probabilities, predicted)[1]
    wrong, right = np.flatnonzero(predicted != truth), np.flatnonzero(predicted == truth)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")[:SHOWN]]
    unsure = right[np.argsort(lead[right], kind="stable")[:SHOWN]]

    def described(chosen: NDArray[np.int64]) -> tuple[ClassPrediction, ...]:
        runners_up, next_probable = runner_up(probabilities[chosen], predicted[chosen])
        return tuple(
            ClassPrediction(
                int(ids[i]),
                paths[i],
                classes[truth[i]],
                classes[predicted[i]],
                float(confidence[i]),
                classes[runners_up[place]] if len(classes) > 1 else "",
                float(next_probable[place]),
            )
            for place, i in enumerate(chosen.tolist())
        )

    return described(mistakes), described(unsure)


def runner_up(
    probabilities: NDArray[np.float32], predicted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N,) the most probable class other than the `predicted` one, and its probability; 0 and 0 where there is one
    class."""
    rows = np.arange(len(probabilities))
    rest = probabilities.copy()
    rest[rows, predicted] = 0 if rest.shape[1] == 1 else -1
    second = rest.argmax(1)
    return second, rest[rows, second]
