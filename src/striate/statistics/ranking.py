"""How well scores put samples of a class before the others: ROC, precision and recall, and the areas under them.

Agrees with scikit-learn, which takes a second to load: too much for the end of every training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class RankedScores:
    """Of each distinct score, highest first, how many samples of the class (`true`) and others (`false`) reach it."""

    true: Points
    false: Points

    @property
    def roc(self) -> tuple[Points, Points]:
        """False and true positive rates, from (0, 0) to (1, 1)."""
        false, true = (np.concatenate([[0.0], counts / counts[-1]]) for counts in (self.false, self.true))
        return false, true

    @property
    def auc(self) -> float:
        """The area under the ROC curve: how often a sample of the class comes before another; a tie is half."""
        false, true = self.roc
        return float(np.diff(false) @ (true[1:] + true[:-1]) / 2)

    @property
    def precision_recall(self) -> tuple[Points, Points]:
        """Recall and precision, from recall 0, where precision counts as 1, on."""
        recall, precision = self.true / self.true[-1], self.true / (self.true + self.false)
        return np.concatenate([[0.0], recall]), np.concatenate([[1.0], precision])

    @property
    def average_precision(self) -> float:
        """Σ (recall − recall before) × precision."""
        recall, precision = self.precision_recall
        return float(np.diff(recall) @ precision[1:])


def ranked_scores(positive: NDArray[np.bool_], scores: NDArray[Any]) -> RankedScores:
    """Samples (N,) by their scores (N,); there has to be one that is `positive`, and one that is not."""
    order = np.argsort(-scores, kind="stable")
    ranked, last = scores[order], np.ones(len(scores), np.bool_)
    last[:-1] = ranked[1:] != ranked[:-1]
    true = np.cumsum(positive[order], dtype=np.float64)[last]
    return RankedScores(true, np.flatnonzero(last) + 1 - true)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """The mean of those that are not NaN, as over the classes or labels that occur; 0 where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
