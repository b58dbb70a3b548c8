"""Labels that are likely wrong: a classifier fitted to other samples confidently predicts another class.

Confident learning (C. Northcutt, L. Jiang and I. Chuang, "Confident learning: estimating uncertainty in dataset
labels", 2021). Every sample is classified by a model that was fitted without it and without its copies. A prediction is
confident where the probability of the class is at least the mean probability that samples of that class get for it. A
label is doubtful where another class is confidently predicted, and the label has next to no probability: without the
second condition, a model with an accuracy of 50 % would doubt a third of all labels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import GRAVE, SampleFinding, one_group_each, some
from striate.data.dataset import Preparation
from striate.data.decode import decode_samples
from striate.data.folds import deal_folds
from striate.data.progress import announce_tenths
from striate.data.scan import plan_inputs
from striate.data.threads import map_ordered
from striate.errors import ConfigError, DataError
from striate.records import Finding
from striate.statistics.intervals import wilson
from striate.tasks.baseline_features import HOG_SIDE, HOG_SMALLEST, edge_features
from striate.wording import percent, several

FOLDS = 5
_COMPONENTS, _FITTED = 256, 4096
_DOUBT = 0.01
"""Largest probability of a label that is doubted."""
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Values of C of the regression, of which the one with the highest likelihood is taken."""
_CHUNK = 512
_PLANTED, _PLANTED_SHARE, _MOST_TRIALS = 60, 0.03, 8
"""Labels that are changed as a test: their number in all trials, the share of labels that one trial changes, and the
largest number of trials."""


@dataclass(frozen=True)
class LabelDoubts:
    """The samples whose labels are doubtful, the most doubtful first."""

    positions: NDArray[np.int64]
    """(D,) positions of the samples."""
    others: NDArray[np.int64]
    """(D,) numbers of the classes that the classifier predicts instead."""
    probabilities: NDArray[np.float64]
    """(D, 2) the probabilities of that class and of the label."""
    accuracy: float
    """Accuracy of the classifier on samples that it was not fitted to."""


def find_label_errors(
    evidence: DataEvidence, seed: int = 0, announce: Callable[[str], None] | None = None
) -> SampleFinding | None:
    """`data.label-noise`: samples whose label is likely wrong. The features of images are histograms of oriented
    gradients and of color; those of tables and grids are their standardized numbers.

    Raises DataError where the labels are not classes, or a class has fewer than two different samples.
    """
    listing = evidence.listing
    if not listing.has_one_class_each or listing.targets is None:
        raise DataError(
            f"data {listing.source}",
            f"labels that are {annotation_kind(listing.annotation).word}",
            "classes",
            "leave out --labels",
        )
    ids = list(evidence.readable)
    labels = listing.targets[ids]
    if len(np.unique(labels)) < 2:
        got = f"readable samples of {several(len(np.unique(labels)), 'class', 'classes')}"
        raise DataError(f"data {listing.source}, --labels", got, "two classes or more", "leave out --labels")
    fold = _folds(evidence, ids, labels, seed)
    features = _features(evidence, ids, announce)
    count = len(listing.classes)
    probabilities, strength = out_of_fold(features, labels, fold, count)

    def doubted(planted: NDArray[np.int64]) -> NDArray[np.int64]:
        return doubt_labels(out_of_fold(features, planted, fold, count, (strength,))[0], planted).positions

    doubts = doubt_labels(probabilities, labels)
    return _marked(evidence, ids, doubts, estimate_wrong(doubts.positions, labels, count, doubted, seed))


@dataclass(frozen=True)
class WrongLabels:
    """An estimate of how many labels are wrong in total, from a test in which some labels are changed.

    The doubted labels are about the same share of the wrong labels as `found` is of `planted`. Hard examples among the
    doubted labels make the estimate too large. Mistakes between classes that look alike are harder to find than the
    planted ones, and make it too small.
    """

    planted: int
    """Number of labels that were changed as a test."""
    found: int
    """How many of those were doubted."""
    number: float | None
    """Estimated number of wrong labels; None where `found` is 0."""
    low: float
    """Lower end of its 95 % interval; 0 where `found` is 0."""
    high: float
    """Upper end of its 95 % interval; the number of all labels where `found` is 0."""


def estimate_wrong(
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int,
    doubted: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    seed: int = 0,
) -> WrongLabels:
    """How many of the `labels` (N,) are wrong, where those at `positions` are doubted. `doubted` returns the doubted
    positions of any labels: it is tested on labels of which a few are changed at random."""
    rng, total = np.random.default_rng(seed), len(labels)
    others = np.setdiff1d(np.arange(total), positions)
    each = max(1, min(len(others), round(_PLANTED_SHARE * total)))
    planted = found = 0
    while planted < _PLANTED and planted < _MOST_TRIALS * each:
        chosen = rng.choice(others, each, replace=False)
        wrong = labels.copy()
        wrong[chosen] = (wrong[chosen] + rng.integers(1, classes, each)) % classes
        planted, found = planted + each, found + len(np.intersect1d(doubted(wrong), chosen))
    count = len(positions)
    if not found:
        return WrongLabels(planted, found, None, 0, total)
    if not count:  # the rule of three: of three expected ones, all are missed in 5 % of cases
        return WrongLabels(planted, found, 0.0, 0, min(3 / wilson(found, planted).low, total))
    number = count * planted / found
    # Both counts are binomial with about this share; the ends are those of the logarithm of their ratio.
    factor = math.exp(1.96 * math.sqrt((1 - found / planted) * (1 / count + 1 / found)))
    return WrongLabels(planted, found, number, max(count, number / factor), min(number * factor, total))


def out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    classes: int,
    strengths: Sequence[float] = _STRENGTHS,
) -> tuple[NDArray[np.float64], float]:
    """(N, K) probabilities of each sample from a logistic regression on the samples of the other folds, and the best of
    the `strengths`, which the regression was fitted with."""
    centered = features - features.mean(axis=0)
    centered /= max(float(np.sqrt((centered**2).sum(axis=1).mean())), 1e-12)
    best, chosen, taken = -np.inf, np.zeros((len(labels), classes)), strengths[0]
    for strength in strengths:
        probabilities = np.zeros((len(labels), classes))
        for held in np.unique(fold):
            learned = fold != held
            known = np.unique(labels[learned])
            if len(known) == 1:  # changed labels may leave a single class
                probabilities[~learned, known[0]] = 1
                continue
            model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # good enough for a doubt
                model.fit(centered[learned], labels[learned])
            probabilities[np.ix_(~learned, model.classes_)] = model.predict_proba(centered[~learned])
        likelihood = float(np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-6, None)).mean())
        if likelihood > best:
            best, chosen, taken = likelihood, probabilities, strength
    return chosen, taken


def doubt_labels(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> LabelDoubts:
    """The doubtful ones of the labels (N,), by out-of-fold probabilities (N, K)."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    usual = np.bincount(labels, own, minlength=len(counts)) / np.maximum(counts, 1)
    usual[counts == 0] = np.inf
    confident = np.where(probabilities >= usual, probabilities, -1)
    other = confident.argmax(axis=1)
    doubtful = np.flatnonzero((confident[rows, other] >= 0) & (other != labels) & (own <= _DOUBT))
    order = doubtful[np.argsort(own[doubtful] - probabilities[doubtful, other[doubtful]], kind="stable")]
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return LabelDoubts(
        order, other[order], np.stack([probabilities[order, other[order]], own[order]], axis=1), accuracy
    )


def _folds(evidence: DataEvidence, ids: Sequence[int], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The fold of each sample; copies share one."""
    unit = {number: group[0] for group in evidence.related for number in group}
    units = [unit.get(number, number) for number in ids]
    few = min(len({unit for unit, label in zip(units, labels, strict=True) if label == k}) for k in np.unique(labels))
    names = evidence.listing.classes
    try:
        return deal_folds(units, labels, max(2, min(FOLDS, few)), seed, names=names)
    except ConfigError as error:
        where = f"data {evidence.listing.source}, --labels"
        raise DataError(
            where, error.got, "at least two different samples of each class", "leave out --labels"
        ) from None


def _features(
    evidence: DataEvidence, ids: Sequence[int], announce: Callable[[str], None] | None
) -> NDArray[np.float32]:
    """(N, F) features of each sample, 256 principal components at most; one chunk of images is in memory at a time."""
    listing = evidence.listing
    if not listing.medium.pictures:
        inputs = listing.inputs[list(ids)] if listing.inputs is not None else _decoded(evidence, ids)
        if listing.medium.lasting:  # statistics over time
            inputs = np.concatenate([inputs.mean(-1), inputs.std(-1)], axis=-1)
        elif listing.medium.folders:  # statistics over frames
            inputs = np.concatenate([inputs.mean(2, np.float32), inputs.std(2, np.float32)], axis=1)
        rows = inputs.reshape(len(ids), -1)
        deviation = rows.std(axis=0)
        return reduced((rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1))
    preparation = plan_inputs(listing, evidence.scan, evidence.config)[0]
    channels, height, width = preparation.input_shape
    scale = min(1.0, HOG_SIDE / max(height, width))
    shape = (channels, *(max(HOG_SMALLEST, round(side * scale)) for side in (height, width)))
    read = _reader(
        evidence,
        Preparation(listing.kind, shape, evidence.config.fit or "crop", evidence.config.max_pixels, reduced=True),
    )
    progress = announce_tenths(f"Checking the labels of {listing.name}", len(ids), listing.medium.many, announce)
    sample = np.random.default_rng(0).permutation(len(ids))[:_FITTED]
    few = np.concatenate([edge_features(read([ids[i] for i in part])) for part in _chunks(sample.tolist())])
    basis = PCA(min(_COMPONENTS, *few.shape), random_state=0).fit(few)
    parts = []
    for part in _chunks(ids):
        parts.append(basis.transform(edge_features(read(part))).astype(np.float32))
        progress(len(part))
    return np.concatenate(parts)


def _decoded(evidence: DataEvidence, ids: Sequence[int]) -> NDArray[Any]:
    preparation = plan_inputs(evidence.listing, evidence.scan, evidence.config)[0]
    found = decode_samples(evidence.listing, ids, preparation)
    assert isinstance(found.inputs, np.ndarray)
    assert not found.unreadable, "they were read before"
    return found.inputs


def reduced(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, F) features as 256 principal components at most."""
    if rows.shape[1] <= _COMPONENTS:
        return rows
    few = np.random.default_rng(0).permutation(len(rows))[:_FITTED]
    basis = PCA(min(_COMPONENTS, len(few)), random_state=0).fit(rows[few])
    return np.asarray(basis.transform(rows), dtype=np.float32)


def _reader(evidence: DataEvidence, preparation: Preparation) -> Callable[[Sequence[int]], torch.Tensor]:
    listing = evidence.listing

    def read(ids: Sequence[int]) -> torch.Tensor:
        if listing.inputs is not None:
            images = listing.medium.refit(listing.inputs[list(ids)], preparation)
        else:
            source = listing.read
            assert source is not None
            decoded = map_ordered(lambda i: listing.medium.decode(source(i), listing.paths[i], preparation), ids)
            images = np.stack(list(decoded))
        return torch.from_numpy(np.ascontiguousarray(images))

    return read


def _chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]


def _marked(evidence: DataEvidence, ids: Sequence[int], doubts: LabelDoubts, wrong: WrongLabels) -> SampleFinding:
    classes = evidence.listing.classes
    found = [ids[place] for place in doubts.positions]
    words = {
        number: f"{classes[other]}? {percent(sure, 0)}"
        for number, other, (sure, _) in zip(found, doubts.others, doubts.probabilities, strict=True)
    }
    named = [f"{evidence.named(i)} ({evidence.listing.labels[i]}, rather {words[i].replace('?', '')})" for i in found]
    first = f", the most doubtful first: {some(named)}" if found else ""
    finding = Finding(
        "data.label-noise",
        "warning" if max(len(found), wrong.low) >= GRAVE * len(ids) else "note",
        evidence.listing.source,
        f"{len(found):,} of {several(len(ids), 'label')} are likely wrong{first}. {_in_all(wrong, len(ids))}",
        f"a probability of at most {_DOUBT:g} for the label; a warning from {percent(GRAVE, 0)} of the labels",
        f"A classifier fitted to other samples predicts another class; its accuracy is {percent(doubts.accuracy, 0)} "
        "overall.",
        "Look at them (--sheet draws them); some may be hard examples with a right label."
        if found
        else "Look at samples of each class: striate data show draws them.",
    )
    return SampleFinding(finding, one_group_each(found), words)


def _in_all(wrong: WrongLabels, total: int) -> str:
    trial = f"Of {several(wrong.planted, 'label')} changed as a test, {wrong.found:,} were found"
    if wrong.number is None:
        return f"{trial}: too few for an estimate of all wrong labels"
    if not wrong.number:
        return f"{trial}: up to {wrong.high:,.0f} ({percent(wrong.high / total)}) may still be wrong"
    share = f"{percent(wrong.number / total)}; {wrong.low:,.0f} to {wrong.high:,.0f}"
    return f"{trial}, so about {min(wrong.number, total):,.0f} ({share}) are wrong in total"
