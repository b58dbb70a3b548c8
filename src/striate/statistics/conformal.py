"""Split conformal prediction: sets of classes that hold the true one at a promised rate; and how well a score separates
known from unknown samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.records import Interval
from striate.statistics.intervals import auc_interval


@dataclass(frozen=True)
class Conformal:
    """The threshold of a set of classes that holds the true class with a probability of at least 1 − `rate`.

    A class is in the set of a sample where its probability is at least `least`. The promise holds for every network,
    for samples like those of the calibration. Source: M. Sadinle, J. Lei and L. Wasserman, "Least ambiguous set-valued
    classifiers with bounded error levels", JASA 2019.
    """

    rate: float
    """Promised error rate, 0 to 1."""
    least: float
    """Lowest probability of a class in the set, 0 to 1."""
    n: int
    """Number of samples of the calibration."""

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """(N, K) whether each class is in the set of each sample; a set may be empty."""
        return np.asarray(np.asarray(probabilities) >= self.least)


def fewest_for(rate: float) -> int:
    """The smallest number of calibration samples for an error `rate`; with fewer, only the set of all classes keeps the
    promise."""
    return math.ceil(1 / rate) - 1


def calibrate(probabilities: ArrayLike, targets: ArrayLike, rate: float) -> Conformal:
    """Calibrate on probabilities (N, K) and class numbers (N,) of samples that the network was not trained on.

    The threshold is the ⌊rate · (N + 1)⌋-th smallest of the probabilities of the true classes; 0, which takes every
    class, with fewer than `fewest_for(rate)` samples.
    """
    table, truth = np.asarray(probabilities), np.asarray(targets)
    true = np.sort(table[np.arange(len(truth)), truth])
    place = math.floor(rate * (len(true) + 1))
    return Conformal(rate, float(true[place - 1]) if place else 0.0, len(true))


@dataclass(frozen=True)
class UnknownDetection:
    """How well a score, higher for known samples, separates known from unknown samples."""

    auroc: float
    """Area under the ROC curve, 0 to 1."""
    auroc_interval: Interval
    """Its 95 % interval."""
    fpr95: float
    """Share of the unknown samples at or above the threshold that 95 % of the known samples reach."""
    known: int
    """Number of known samples."""
    unknown: int
    """Number of unknown samples."""


def measure_detection(known: ArrayLike, unknown: ArrayLike) -> UnknownDetection:
    """How well the scores (N,) of known samples and (M,) of unknown samples are separated."""
    from scipy.stats import rankdata

    inside, outside = np.asarray(known, np.float64), np.asarray(unknown, np.float64)
    n, m = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))[:n]
    area = float((ranks.sum() - n * (n + 1) / 2) / (n * m))
    least = np.sort(inside)[math.floor(0.05 * n)]  # at least 95 % reach it
    return UnknownDetection(area, auc_interval(area, n, m), float((outside >= least).mean()), n, m)
