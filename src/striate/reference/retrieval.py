"""What the figures of embeddings mean: recall among neighbors, MAP@R, and the area under the ROC curve of pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def recall_at(vectors: NDArray[np.floating], labels: NDArray[np.int64], k: int) -> float:
    """Of the samples with another of their class, how many have one among the `k` others with the highest cosine."""
    hits = []
    for place, label in enumerate(labels):
        order = _neighbors(vectors, place)
        if (labels[order] == label).any():
            hits.append((labels[order[:k]] == label).any())
    return float(np.mean(hits))


def map_at_r(vectors: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The mean over samples of Σ P(i)·[neighbor i is of the class] / R over the first R neighbors, where R others are
    of the class and P(i) is the share of those up to i that are (Musgrave et al. 2020)."""
    found = []
    for place, label in enumerate(labels):
        same = labels[_neighbors(vectors, place)] == label
        count = int(same.sum())
        if count:
            first = same[:count]
            found.append(float(sum(first[: i + 1].mean() for i in range(count) if first[i])) / count)
    return float(np.mean(found))


def pair_auc(vectors: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """How probable it is that a pair of one class has a higher cosine than a pair of two; equal ones count half."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = list(combinations(range(len(labels)), 2))
    same = [float(unit[a] @ unit[b]) for a, b in pairs if labels[a] == labels[b]]
    other = [float(unit[a] @ unit[b]) for a, b in pairs if labels[a] != labels[b]]
    wins = np.sign(np.subtract.outer(same, other))
    return float((wins.mean() + 1) / 2)


def _neighbors(vectors: NDArray[np.floating], place: int) -> NDArray[np.int64]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order: NDArray[np.int64] = np.argsort(-(unit @ unit[place]), kind="stable")
    found: NDArray[np.int64] = order[order != place]
    return found
