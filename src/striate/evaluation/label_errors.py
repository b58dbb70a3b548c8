"""Labels that are likely wrong: what was learned from the other samples says something else, and is sure of it.

Confident learning (C. Northcutt, L. Jiang and I. Chuang, "Confident learning: estimating uncertainty in dataset
labels", 2021). Every sample is classified by a model that was fitted without it and without its copies. A class is
given with confidence where its probability is at least the mean of what samples of that class get for it. A label is
doubtful where another class is given with confidence, and the label has next to no probability: without the second
condition, a model that is right in half of all cases would doubt a third of all labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import GRAVE, Marked, alone, some
from striate.data.dataset import Preparation
from striate.data.folds import deal_folds
from striate.data.progress import announce_tenths
from striate.data.scan import plan_inputs
from striate.data.threads import map_ordered
from striate.errors import ConfigError, DataError
from striate.records import Finding
from striate.tasks.baseline_features import HOG_SIDE, HOG_SMALLEST, color_histograms, hog_features
from striate.wording import several

FOLDS = 5
_COMPONENTS, _FITTED = 256, 4096
_DOUBT = 0.01
"""Largest probability of a label that is doubted."""
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Of these values of C of the regression the one with the highest likelihood is taken."""
_CHUNK = 512


@dataclass(frozen=True)
class LabelDoubts:
    """Samples (positions) with doubtful labels, the most doubtful first: `others` the class that they are taken for,
    `sure` its probability and that of the label; `accuracy` of the model on what it had not seen."""

    positions: NDArray[np.int64]
    others: NDArray[np.int64]
    sure: NDArray[np.float64]
    accuracy: float


def find_label_errors(
    evidence: Evidence, seed: int = 0, announce: Callable[[str], None] | None = None
) -> Marked | None:
    """`data.label-noise`: samples whose label is likely wrong. Images are seen as histograms of oriented gradients and
    of color, tables and grids as their numbers, standardized.

    Raises DataError where the labels are no classes, or a class has fewer than two different samples.
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
    doubts = doubt_labels(out_of_fold(features, labels, fold, len(listing.classes)), labels)
    if not len(doubts.positions):
        return None
    return _told(evidence, ids, doubts)


def out_of_fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], fold: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """(N, K) probabilities of each sample from a logistic regression on the samples of the other folds."""
    centered = features - features.mean(axis=0)
    centered /= max(float(np.sqrt((centered**2).sum(axis=1).mean())), 1e-12)
    best, chosen = -np.inf, np.zeros((len(labels), classes))
    for strength in _STRENGTHS:
        probabilities = np.zeros((len(labels), classes))
        for held in np.unique(fold):
            learned = fold != held
            model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # good enough for a doubt
                model.fit(centered[learned], labels[learned])
            probabilities[np.ix_(~learned, model.classes_)] = model.predict_proba(centered[~learned])
        likelihood = float(np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-6, None)).mean())
        if likelihood > best:
            best, chosen = likelihood, probabilities
    return chosen


def doubt_labels(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> LabelDoubts:
    """Which of the labels (N,) the probabilities (N, K) from out of fold make doubtful."""
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


def _folds(evidence: Evidence, ids: Sequence[int], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The fold of each sample; copies share one."""
    unit = {number: group[0] for group in evidence.alike for number in group}
    units = [unit.get(number, number) for number in ids]
    few = min(len({unit for unit, label in zip(units, labels, strict=True) if label == k}) for k in np.unique(labels))
    names = evidence.listing.classes
    try:
        return deal_folds(units, labels, max(2, min(FOLDS, few)), seed, names=names)
    except ConfigError as error:
        where = f"data {evidence.listing.source}, --labels"
        raise DataError(where, error.got, "two different samples of each class or more", "leave out --labels") from None


def _features(evidence: Evidence, ids: Sequence[int], announce: Callable[[str], None] | None) -> NDArray[np.float32]:
    """(N, F) numbers of each sample, 256 principal components at most; a chunk of images is in memory at a time."""
    listing = evidence.listing
    if not listing.medium.pictures:
        assert listing.inputs is not None
        rows = listing.inputs[list(ids)].reshape(len(ids), -1)
        deviation = rows.std(axis=0)
        return _reduced((rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1))
    preparation = plan_inputs(listing, evidence.scan, evidence.config)[0]
    channels, height, width = preparation.input_shape
    scale = min(1.0, HOG_SIDE / max(height, width))
    shape = (channels, *(max(HOG_SMALLEST, round(side * scale)) for side in (height, width)))
    read = _reader(
        evidence, Preparation(listing.kind, shape, evidence.config.fit, evidence.config.max_pixels, reduced=True)
    )
    progress = announce_tenths(f"Looking at the labels of {listing.name}", len(ids), listing.medium.many, announce)
    sample = np.random.default_rng(0).permutation(len(ids))[:_FITTED]
    few = np.concatenate([_describe(read([ids[i] for i in part])) for part in _chunks(sample.tolist())])
    basis = PCA(min(_COMPONENTS, *few.shape), random_state=0).fit(few)
    parts = []
    for part in _chunks(ids):
        parts.append(basis.transform(_describe(read(part))).astype(np.float32))
        progress(len(part))
    return np.concatenate(parts)


def _reduced(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    if rows.shape[1] <= _COMPONENTS:
        return rows
    few = np.random.default_rng(0).permutation(len(rows))[:_FITTED]
    basis = PCA(min(_COMPONENTS, len(few)), random_state=0).fit(rows[few])
    return np.asarray(basis.transform(rows), dtype=np.float32)


def _describe(x_NCHW: torch.Tensor) -> NDArray[np.float32]:
    hog = hog_features(x_NCHW)
    return hog if x_NCHW.shape[1] == 1 else np.concatenate([hog, color_histograms(x_NCHW)], axis=1)


def _reader(evidence: Evidence, preparation: Preparation) -> Callable[[Sequence[int]], torch.Tensor]:
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


def _told(evidence: Evidence, ids: Sequence[int], doubts: LabelDoubts) -> Marked:
    classes = evidence.listing.classes
    found = [ids[place] for place in doubts.positions]
    words = {
        number: f"{classes[other]}? {100 * sure:.0f} %"
        for number, other, (sure, _) in zip(found, doubts.others, doubts.sure, strict=True)
    }
    named = [f"{evidence.named(i)} ({evidence.listing.labels[i]}, rather {words[i].replace('?', '')})" for i in found]
    finding = Finding(
        "data.label-noise",
        "warning" if len(found) >= GRAVE * len(ids) else "note",
        evidence.listing.source,
        f"{len(found):,} of {len(ids):,} labels are likely wrong, the most doubtful first: {some(named)}",
        f"a probability of at most {_DOUBT:g} for the label; a warning from {GRAVE:.0%} of the labels",
        f"A simple model that had not seen them is sure of another class; it is right in {doubts.accuracy:.0%} of all.",
        "Look at them (--sheet draws them); many a hard example is among them.",
    )
    return Marked(finding, alone(found), words)
