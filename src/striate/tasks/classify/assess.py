"""The assessment of a classifier's predictions, and the comparison of two classifiers on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import SampleFacts
from striate.statistics.calibration import Temperature, measure_calibration, with_temperature
from striate.statistics.estimate import Estimate, share_of
from striate.statistics.intervals import (
    auc_interval,
    average_precision_interval,
    f1_average_interval,
    f1_interval,
    hits_interval,
    shares_interval,
    sum_interval,
    wilson,
)
from striate.statistics.paired import LEVEL, Difference, mcnemar, p_text
from striate.statistics.ranking import ranked_scores
from striate.tasks.assessment import Gap
from striate.tasks.baseline import BaselineComparison, in_sentence, samples_word
from striate.tasks.classify.decision import DecisionRule, effect_of
from striate.tasks.classify.metrics import (
    ClassificationMetrics,
    ClassMetrics,
    ConfusedPair,
    RankCurve,
    confusion_matrix,
    notable_predictions,
)
from striate.tasks.classify.over_groups import GroupResamples, over_groups
from striate.tasks.evaluation import ClassRow, Evaluation
from striate.tasks.groups import FEWEST, sample_groups, slices_of_hits
from striate.tasks.headline import judged_gap
from striate.wording import percent, several

TOPS = (2, 3, 5, 10)


def average_metrics(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    confusion: NDArray[np.int64],
    groups: Sequence[str] = (),
) -> dict[str, Estimate]:
    """The metrics of a split by name, each from 0 to 1.

    `truth` (N,), `probabilities` (N, K), `confusion` (K, K) with true classes as rows. Averages are over the classes
    that occur in truth or in prediction; an undefined precision or recall counts as 0, as in metrics.json. Balanced
    accuracy is the mean recall of the classes that occur in truth. Intervals: Wilson's where samples are counted, with
    the effective number of samples for averages over classes. `groups` (N,): those of the samples, which the intervals
    of `top…` draw together; `over_groups` does so for the others.
    """
    n = len(truth)
    figures = {"accuracy": share_of(int(confusion.trace()), n)}
    if len(confusion) > 2:
        ranks = _ranks(truth, probabilities)
        tops = {f"top{k}": ranks < k for k in TOPS if k < len(confusion)}
        figures |= {key: Estimate(float(hits.mean()), hits_interval(hits, groups)) for key, hits in tops.items()}
    truly, named, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    there = np.flatnonzero(truly)
    equal = np.full(len(there), 1 / len(there))
    interval = shares_interval(right[there], truly[there], equal)
    figures["balanced_accuracy"] = Estimate(float(np.mean(right[there] / truly[there])), interval)

    counted = np.flatnonzero(truly + named)
    hits, of_counted = right[counted], confusion[np.ix_(counted, counted)]
    precision, recall = (hits / np.maximum(counts[counted], 1) for counts in (named, truly))
    f1 = 2 * hits / (truly + named)[counted]
    for kind, weights in (("macro", np.full(len(counted), 1 / len(counted))), ("weighted", truly[counted] / n)):
        intervals = {
            "precision": shares_interval(hits, named[counted], weights, named=True),
            "recall": shares_interval(hits, truly[counted], weights),
            "f1": f1_average_interval(of_counted, weights),
        }
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            figures[f"{kind}_{name}"] = Estimate(float(values @ weights), intervals[name])
    figures["weighted_recall"] = figures["accuracy"]  # the same by definition
    return figures


def _ranks(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) how many classes rank above the true one; of equally probable classes, the first ranks higher.

    scikit-learn's top_k_accuracy_score would sort all classes of all samples once for each k.
    """
    own = probabilities[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(probabilities.shape[1]) < truth[:, None]
    ranks: NDArray[np.int64] = ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)
    return ranks


PAIRS = 20
"""Largest number of confused pairs that are listed."""
DRAWN = 20
"""Largest number of classes with curves; of more, those with the lowest average precision."""
MOST_RANKED = 1_000_000
"""Areas and curves are left out for more probabilities (samples × classes): sorting them would take seconds."""
_POINTS = 101


def class_metrics(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], confusion: NDArray[np.int64], classes: Sequence[str]
) -> tuple[ClassMetrics, ...]:
    """A row for each class, in the order of class numbers. Areas are None for more than `MOST_RANKED` probabilities,
    and where a class has no samples or all of them."""
    truly, named, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    ranked = probabilities.size <= MOST_RANKED
    rows = []
    for k, name in enumerate(classes):
        n, predicted, hits = int(truly[k]), int(named[k]), int(right[k])
        either = n + predicted - hits
        f1 = Estimate(2 * hits / (n + predicted), f1_interval(hits, either - hits)) if either else Estimate(None)
        auc = average_precision = None
        if ranked and 0 < n < len(truth):
            auc, average_precision = _areas(truth == k, probabilities[:, k])
        row = ClassMetrics(name, n, predicted, share_of(hits, predicted), share_of(hits, n), f1, auc, average_precision)
        rows.append(row)
    return tuple(rows)


def _areas(positive: NDArray[np.bool_], scores: NDArray[np.float32]) -> tuple[Estimate, Estimate]:
    n, ranked = int(positive.sum()), ranked_scores(positive, scores)
    auc, precision = ranked.auc, ranked.average_precision
    return (
        Estimate(auc, auc_interval(auc, n, len(positive) - n)),
        Estimate(precision, average_precision_interval(precision, n)),
    )


def rank_curves(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], rows: Sequence[ClassMetrics]
) -> tuple[RankCurve, ...]:
    """The curves of the classes that have areas, at most `DRAWN` of them, in the order of class numbers."""
    known = [(row.average_precision.value or 0.0, k) for k, row in enumerate(rows) if row.average_precision is not None]
    chosen = sorted(k for _, k in sorted(known)[:DRAWN])
    return tuple(_curve(rows[k].name, truth == k, probabilities[:, k]) for k in chosen)


def _curve(name: str, positive: NDArray[np.bool_], scores: NDArray[np.float32]) -> RankCurve:
    ranked = ranked_scores(positive, scores)
    return RankCurve(name, *_thinned(*ranked.roc), *_thinned(*ranked.precision_recall))


def _thinned(x: NDArray[Any], y: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """At most `_POINTS` of the points of a curve, evenly spaced along it; both ends are among them."""
    lengths = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    places = np.unique(np.searchsorted(lengths, np.linspace(0, lengths[-1], _POINTS)).clip(max=len(lengths) - 1))
    places[-1] = len(lengths) - 1
    return tuple(np.round(x[places], 5).tolist()), tuple(np.round(y[places], 5).tolist())


def confused_pairs(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ConfusedPair, ...]:
    """The most frequent mistakes, the most frequent first; equally frequent ones in the order of class numbers."""
    wrong, truly = confusion.copy(), confusion.sum(1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[true, predicted]):
            share = share_of(count, int(truly[true]))
            pairs.append(ConfusedPair(classes[true], classes[predicted], count, share))
    return tuple(pairs)


MATRIX = 200
"""Largest number of classes for which the confusion matrix is part of the record."""


def assess_classes(
    evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, rule: DecisionRule
) -> ClassificationMetrics:
    """The assessment of the class probabilities for a split, and of the classes that `rule` chooses."""
    truth, probabilities, classes = evaluation.targets, evaluation.decoded, evaluation.classes
    confusion, predicted = evaluation.confusion, evaluation.predicted
    assert confusion is not None and predicted is not None
    rows = class_metrics(truth, probabilities, confusion, classes)
    groups = sample_groups(facts, evaluation.n, truth=truth, classes=classes, brightness=evaluation.brightness)
    own_groups = facts.columns.get("group", ())
    figures = average_metrics(truth, probabilities, confusion, own_groups)
    confused = confused_pairs(confusion, classes)
    if any(own_groups):
        interval = hits_interval(predicted == truth, own_groups)
        figures |= {key: Estimate(figures[key].value, interval) for key in ("accuracy", "weighted_recall")}
        figures, rows = over_groups(figures, rows, truth, predicted, own_groups)
        confused = tuple(_over_groups(pair, truth, predicted, classes, own_groups) for pair in confused)
    calibrated = None
    if temperature is not None:
        calibrated = measure_calibration(truth, with_temperature(probabilities, temperature.value))
    mistakes, unsure = notable_predictions(truth, probabilities, predicted, classes, evaluation.ids, facts.paths)
    return ClassificationMetrics(
        n=evaluation.n,
        metrics=figures,
        classes=rows,
        confusion=tuple(map(tuple, confusion.tolist())) if len(classes) <= MATRIX else None,
        confused=confused,
        curves=rank_curves(truth, probabilities, rows),
        calibration=measure_calibration(truth, probabilities),
        calibrated=calibrated,
        mistakes=mistakes,
        unsure=unsure,
        slices=slices_of_hits(groups, predicted == truth, own_groups),
        left_out=_left_out(evaluation, temperature, any(own_groups)),
        decision=effect_of(rule, classes, probabilities, truth),
    )


def _over_groups(
    pair: ConfusedPair,
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    groups: Sequence[str],
) -> ConfusedPair:
    there = np.flatnonzero(truth == classes.index(pair.true))
    taken = predicted[there] == classes.index(pair.predicted)
    return replace(pair, share=replace(pair.share, interval=hits_interval(taken, [groups[k] for k in there.tolist()])))


def _left_out(evaluation: Evaluation, temperature: Temperature | None, in_groups: bool) -> tuple[str, ...]:
    sentences = []
    n, count = evaluation.n, len(evaluation.classes)
    if evaluation.decoded.size > MOST_RANKED:
        sentences.append(f"No areas under curves: {n:,} × {count:,} probabilities exceed the limit of {MOST_RANKED:,}.")
    if count > MATRIX:
        sentences.append(
            f"No confusion matrix in the record: {several(count, 'class', 'classes')}, more than {MATRIX}."
        )
    if n < FEWEST:
        sentences.append(f"No slices: {several(n, 'sample')}, fewer than {FEWEST}.")
    if in_groups:
        sentences.append(
            "No intervals of areas under curves: samples of a group are right or wrong together, which the formulas do "
            "not know."
        )
    if temperature is None:
        sentences.append("No calibrated metrics: no temperature was fitted on the validation split.")
    return tuple(sentences)


def table_of_classes(
    predicted: NDArray[np.int64], targets: NDArray[Any], classes: tuple[str, ...], groups: Sequence[str] = ()
) -> tuple[NDArray[np.int64], tuple[ClassRow, ...]]:
    """The confusion matrix (true, predicted), and a row for each class, from class numbers (N,); `groups`: that of each
    sample, where samples have any."""
    confusion = confusion_matrix(targets, predicted, len(classes))
    hits, counts, named = confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist()
    intervals = [wilson(hit, n) for hit, n in zip(hits, counts, strict=True)]
    if any(groups):
        drawn = GroupResamples(targets, predicted, groups, len(classes))
        intervals = [
            drawn.recall(k, hit / n) if n else interval
            for k, (hit, n, interval) in enumerate(zip(hits, counts, intervals, strict=True))
        ]
    rows = [
        ClassRow(name, n, _known(hit, predicted), _known(hit, n), _known(2 * hit, n + predicted), interval)
        for name, hit, n, predicted, interval in zip(classes, hits, counts, named, intervals, strict=True)
    ]
    return confusion, tuple(rows)


def _known(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def compare_hits(
    baseline: str, theirs: NDArray[np.bool_], ours: NDArray[np.bool_], grouped: Difference | None = None
) -> BaselineComparison:
    """How a network compares with the baseline of this name, from (N,) whether each is right: McNemar's exact test, or
    the test of samples in groups."""
    n = len(ours)
    ahead, behind = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p, lead = mcnemar(ahead, behind), ahead - behind
    test = f"McNemar's exact test, p {p_text(p)}"
    if grouped is not None:
        p, test = grouped.p_value, f"{grouped.test}, p {p_text(grouped.p_value)}"
    samples = f"{n:,} test {samples_word(n)}"
    if lead == 0:
        sentence = f"The network does not beat {in_sentence(baseline)}: both are right on equally many of {samples}."
    elif lead > 0 and p < LEVEL:
        than = in_sentence(baseline)
        sentence = f"The network is right on {lead:,} more of {samples} than {than}: more than noise ({test})."
    else:
        how = f"{abs(lead):,} {'more' if lead > 0 else 'fewer'} of {samples}"
        noise = "more than noise" if p < LEVEL else "within noise"
        sentence = f"The network does not beat {in_sentence(baseline)}: it is right on {how}, {noise} ({test})."
    return BaselineComparison(baseline, lead, p, None, lead > 0 and p < LEVEL, sentence)


def gap_of_hits(
    train: NDArray[np.bool_], val: NDArray[np.bool_], groups: tuple[Sequence[str], Sequence[str]] = ((), ())
) -> Gap:
    """The gap in accuracy between the splits, from (N,) whether each sample is right, with Newcombe's interval; where
    the samples of a split have `groups`, its accuracy has an interval over these."""
    shares = [
        Estimate(float(hits.mean()), hits_interval(hits, own)) if len(hits) else Estimate(None)
        for hits, own in zip((train, val), groups, strict=True)
    ]
    values = [share.value or 0.0 for share in shares]
    interval = sum_interval(values, [share.interval for share in shares if share.interval is not None], [1, -1])
    difference = Estimate(values[0] - values[1], interval)
    sentence = f"Training {percent(values[0], 2)}, validation {percent(values[1], 2)}: " + judged_gap(
        difference, 100, " points better"
    )
    return Gap("accuracy", shares[0], len(train), shares[1], len(val), difference, sentence)
