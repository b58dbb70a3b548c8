"""How well scores rank samples of a class above the others: ROC, precision–recall, and the areas under these curves.

Agrees with scikit-learn, which would take a second to load at the end of every training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class RankedScores:
    """For each distinct score, highest first, how many samples of the class (`true`) and others (`false`) reach it."""

    true: Points
    false: Points

    @property
    def roc(self) -> tuple[Points, Points]:
        """False and true positive rates, from (0, 0) to (1, 1)."""
        false, true = (np.concatenate([[0.0], counts / counts[-1]]) for counts in (self.false, self.true))
        return false, true

    @property
    def auc(self) -> float:
        """The area under the ROC curve: how often a sample of the class ranks above another one; a tie counts half."""
        false, true = self.roc
        return float(np.diff(false) @ (true[1:] + true[:-1]) / 2)

    @property
    def precision_recall(self) -> tuple[Points, Points]:
        """Recall and precision; at recall 0, precision counts as 1."""
        recall, precision = self.true / self.true[-1], self.true / (self.true + self.false)
        return np.concatenate([[0.0], recall]), np.concatenate([[1.0], precision])

    @property
    def average_precision(self) -> float:
        """Σ (recall − recall before) × precision."""
        recall, precision = self.precision_recall
        return float(np.diff(recall) @ precision[1:])


def ranked_scores(positive: NDArray[np.bool_], scores: NDArray[Any]) -> RankedScores:
    """Samples (N,) ranked by their scores (N,); at least one must be `positive`, and one must not."""
    order = np.argsort(-scores, kind="stable")
    ranked, last = scores[order], np.ones(len(scores), np.bool_)
    last[:-1] = ranked[1:] != ranked[:-1]
    true = np.cumsum(positive[order], dtype=np.float64)[last]
    return RankedScores(true, np.flatnonzero(last) + 1 - true)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """The mean without NaN, as over the classes or labels that occur; 0 where all values are NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
