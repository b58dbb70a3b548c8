"""The assessment of the probabilities of labels for a split, and of the labels that reach their threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate, share_of
from striate.statistics.intervals import FEW, drawn_count, f1_interval, hits_interval, percentile_interval
from striate.statistics.ranking import mean_of_known
from striate.tasks.classify.decision import ClassChange, DecisionEffect
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import sample_groups, too_few
from striate.tasks.headline import Headline, Rows
from striate.tasks.multilabel.metrics import LabelMetrics, MultilabelMetrics, SampleLabels
from striate.tasks.multilabel.ranking import Ranking, drawn_weights, estimates_of, single_part_widths, widened
from striate.wording import several

WORST = 10
MATRIX = 50
"""Largest number of labels for which the record has their co-occurrence."""


def set_metrics(
    scores: NDArray[Any], truth: NDArray[Any], predicted: NDArray[np.bool_], ranking: Ranking | None = None
) -> dict[str, Any]:
    """`map`, `macro_f1` (both over the labels that occur), `micro_f1`, `exact_match`, and `ap` of each label, None
    where it does not occur; from (N, K) probabilities, labels and predicted labels. `ranking`: that of the same
    samples."""
    from sklearn.metrics import accuracy_score, f1_score

    y = np.asarray(truth) > 0
    there, ap = np.flatnonzero(y.any(0)), (ranking or Ranking(scores, y)).precisions()
    macro = f1_score(y[:, there], predicted[:, there], average="macro", zero_division=0) if len(there) else 0.0
    return {
        "map": mean_of_known(ap),
        "macro_f1": float(macro),
        "micro_f1": float(f1_score(y, predicted, average="micro", zero_division=0)),
        "exact_match": float(accuracy_score(y, predicted)),
        "ap": [None if np.isnan(value) else float(value) for value in ap],
    }


def set_estimates(
    scores: NDArray[Any], truth: NDArray[Any], predicted: NDArray[np.bool_], groups: Sequence[str] = ()
) -> tuple[dict[str, Estimate], tuple[Estimate, ...]]:
    """The metrics of `set_metrics` with 95 % intervals by bootstrap over samples, or over groups where there are any,
    of `exact_match` by `hits_interval`; and the average precision of each label with the interval of its positives.

    Each interval is at least as wide as the uncertainty of one label, or of this number of samples, allows: a bootstrap
    has no width where all predictions are right. Means over all labels have no interval for fewer than 20 samples or
    groups, and no value where no label occurs.
    """
    y = np.asarray(truth, np.float64)
    ranking = Ranking(scores, y)
    known = set_metrics(scores, truth, predicted, ranking)
    labels = estimates_of(np.array(known.pop("ap"), np.float64), y.sum(0))
    if not y.any():
        known |= {"map": None, "macro_f1": None} | ({} if predicted.any() else {"micro_f1": None})
    exact = Estimate(known.pop("exact_match"), hits_interval((y == predicted).all(1), groups))
    if drawn_count(groups, len(truth)) < FEW:
        return {name: Estimate(value) for name, value in known.items()} | {"exact_match": exact}, labels
    both = y * predicted
    drawn = []
    for weights in drawn_weights(tuple(groups), len(y), y.size):
        hits, true, named = (weights @ part for part in (both, y, predicted.astype(np.float64)))
        ap, there = ranking.precisions(weights), true > 0
        f1 = 2 * hits[there] / (true + named)[there]
        whole = (true + named).sum()
        micro = 2 * hits.sum() / whole if whole else 0.0
        drawn.append((mean_of_known(ap), f1.mean() if there.any() else 0.0, micro))
    hits, wrong = both.sum(0).astype(int), (y + predicted - 2 * both).sum(0).astype(int)
    there = y.any(0)
    f1s = [Estimate(2 * h / (2 * h + w), f1_interval(h, w)) for h, w in zip(hits[there], wrong[there], strict=True)]
    alone = {
        "map": single_part_widths(labels),
        "macro_f1": single_part_widths(f1s),
        "micro_f1": single_part_widths([Estimate(known["micro_f1"], f1_interval(int(hits.sum()), int(wrong.sum())))]),
    }
    figures = {
        name: widened(known[name], percentile_interval(column), alone[name])
        for name, column in zip(alone, np.array(drawn).T, strict=True)
    }
    return figures | {"exact_match": exact}, labels


def sample_f1(truth: NDArray[Any], predicted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) 2 hits / (labels + predicted labels) of each sample; 1 where a sample has neither."""
    y = np.asarray(truth) > 0
    whole = y.sum(1) + predicted.sum(1)
    return np.where(whole > 0, 2 * (y & predicted).sum(1) / np.maximum(whole, 1), 1.0)


def assess_labels(
    evaluation: Evaluation,
    facts: SampleFacts,
    headline: Headline,
    rows: Rows,
    predicted: NDArray[np.bool_],
    thresholds: Sequence[float],
    decision: DecisionEffect | None = None,
) -> MultilabelMetrics:
    """The assessment of the probabilities of a split; `predicted` (N, K) are the labels that reach their `thresholds`;
    `decision`: what thresholds of the user change."""
    n, names, y = evaluation.n, evaluation.classes, evaluation.targets > 0
    figures, precisions = set_estimates(evaluation.decoded, y, predicted, facts.columns.get("group", ()))
    labels = []
    for k, name in enumerate(names):
        hits, own, named = int((y[:, k] & predicted[:, k]).sum()), int(y[:, k].sum()), int(predicted[:, k].sum())
        wrong = own + named - 2 * hits
        f1 = Estimate(2 * hits / (own + named), f1_interval(hits, wrong)) if own + named else Estimate(None)
        shares = (share_of(hits, named), share_of(hits, own))
        labels.append(LabelMetrics(name, own, named, float(thresholds[k]), precisions[k], *shares, f1))
    each = sample_f1(y, predicted)
    order = np.argsort(each, kind="stable")[:WORST]
    worst = tuple(
        SampleLabels(int(evaluation.ids[k]), facts.paths[k], names_of(y[k], names), names_of(predicted[k], names),
                     float(each[k]))
        for k in order
    )  # fmt: skip
    many = f"No co-occurrence of labels in the record: {several(len(names), 'label')}, more than {MATRIX}."
    left_out = too_few(n) + ((many,) if len(names) > MATRIX else ())
    groups = sample_groups(facts, n, brightness=evaluation.brightness)
    slices = headline.over(facts.columns.get("group", ())).slices(groups, rows)
    return MultilabelMetrics(
        n, figures, tuple(labels), _together(y), _together(predicted), worst, slices, left_out, decision
    )


def threshold_effect(
    rule: str, named: Sequence[int], names: Sequence[str], truth: NDArray[np.bool_], was: NDArray[np.bool_],
    now: NDArray[np.bool_],
) -> DecisionEffect:  # fmt: skip
    """What the user's thresholds, `rule` in words, change for the labels with the numbers `named` and for the exact
    match. (N, K) each: the true labels, and those predicted without (`was`) and with the rule (`now`)."""
    rows = []
    for k in named:
        own, before, after = truth[:, k], was[:, k], now[:, k]
        n, counts = int(own.sum()), (int(before.sum()), int(after.sum()))
        hits = int((own & before).sum()), int((own & after).sum())
        recalls, precisions = (
            [share_of(hit, n) for hit in hits],
            [share_of(*pair) for pair in zip(hits, counts, strict=True)],
        )
        rows.append(ClassChange(names[k], n, *counts, *recalls, *precisions))
    exact = [share_of(int((predicted == truth).all(1).sum()), len(truth)) for predicted in (was, now)]
    return DecisionEffect(rule, len(truth), int((was != now).any(1).sum()), exact[0], exact[1], tuple(rows))


def names_of(own: NDArray[Any], names: Sequence[str]) -> tuple[str, ...]:
    """The names of the labels that a sample has, (K,)."""
    return tuple(name for name, there in zip(names, np.asarray(own).tolist(), strict=True) if there)


def _together(sets: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...] | None:
    if sets.shape[1] > MATRIX:
        return None
    counts = sets.astype(np.int64)
    return tuple(map(tuple, (counts.T @ counts).tolist()))
