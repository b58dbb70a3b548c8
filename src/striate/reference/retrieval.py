"""The metrics of embeddings: recall among neighbors, MAP@R, and the area under the ROC curve of pairs.

`vectors` (N, D) have a direction each, `labels` (N,) are their classes; lists are promoted.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import Array, array, one_each, whole
from striate.wording import several


def recall_at(vectors: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Of the samples whose class has another sample, the share with one of these among the `k` others with the highest
    cosine. Raises ShapeError, UsageError."""
    (unit, kinds), first = _read(vectors, labels), whole(k, "k")
    hits = []
    for place, label in enumerate(kinds):
        order = _neighbors(unit, place)
        if (kinds[order] == label).any():
            hits.append((kinds[order[:first]] == label).any())
    return float(np.mean(hits))


def map_at_r(vectors: ArrayLike, labels: ArrayLike) -> float:
    """The mean over samples of Σ P(i)·[neighbor i is of the class] / R over the first R neighbors, where R others are
    of the class and P(i) is the share of those up to i that are (Musgrave et al. 2020). Raises ShapeError, UsageError.
    """
    unit, kinds = _read(vectors, labels)
    found = []
    for place, label in enumerate(kinds):
        same = kinds[_neighbors(unit, place)] == label
        count = int(same.sum())
        if count:
            first = same[:count]
            found.append(float(sum(first[: i + 1].mean() for i in range(count) if first[i])) / count)
    return float(np.mean(found))


def pair_auc(vectors: ArrayLike, labels: ArrayLike) -> float:
    """The probability that a pair of the same class has a higher cosine than a pair of two classes; ties count half.
    Raises ShapeError, UsageError."""
    unit, kinds = _read(vectors, labels)
    if len(np.unique(kinds)) < 2:
        got = f"{several(len(kinds), 'sample')} of one class: no pair of two"
        raise UsageError("labels", got, "two classes or more", "take samples of several classes")
    pairs = list(combinations(range(len(kinds)), 2))
    same = [float(unit[a] @ unit[b]) for a, b in pairs if kinds[a] == kinds[b]]
    other = [float(unit[a] @ unit[b]) for a, b in pairs if kinds[a] != kinds[b]]
    wins = np.sign(np.subtract.outer(same, other))
    return float((wins.mean() + 1) / 2)


def _read(vectors: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[Any]]:
    """The vectors, scaled to length 1, and the labels, of which at least two must be equal."""
    x = array(vectors, "vectors")
    if x.ndim != 2:
        remedy = "vectors[None]" if x.ndim < 2 else "vectors.reshape(len(vectors), -1)"
        raise ShapeError("vectors", f"shape {x.shape}", "(N, D): a row a sample", remedy)
    kinds = one_each(labels, "labels", len(x), "vectors")
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    wrong = ~np.isfinite(lengths) | (lengths == 0)
    if wrong.any():
        place = int(np.argmax(wrong))
        got = f"vector {place} " + ("of length 0" if lengths[place, 0] == 0 else "with numbers that are not finite")
        remedy = "n = np.linalg.norm(vectors, axis=1); keep = (n > 0) & np.isfinite(n); vectors[keep], labels[keep]"
        raise UsageError("vectors", got, "vectors that have a direction", remedy)
    if len(np.unique(kinds)) == len(kinds):
        got = f"{several(len(kinds), 'sample')} of as many classes: no two of one"
        raise UsageError("labels", got, "a class with two samples or more", "take several samples of each class")
    return x / lengths, kinds


def _neighbors(unit: Array, place: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(-(unit @ unit[place]), kind="stable")
    found: NDArray[np.int64] = order[order != place]
    return found
