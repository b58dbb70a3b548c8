"""Calibration of probabilities, and the temperature that improves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.statistics.estimate import Estimate, share_of
from striate.statistics.intervals import LEVEL

BINS = 15
LEAST, MOST = 0.01, 100.0
"""Range of the fitted temperature."""
_LEAST, _MOST = math.log(LEAST), math.log(MOST)
_MOST_FITTED = 4_000_000
"""Largest number of probabilities that the temperature is fitted on; of more, evenly spaced samples are taken."""
_DRAWS = 2_000_000
_ROWS = 1024


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence, the probability of the predicted class, lies in one bin."""

    low: float
    """Lower edge of the confidence, exclusive."""
    high: float
    """Upper edge of the confidence, inclusive."""
    n: int
    """Number of predictions in the bin."""
    confidence: float | None
    """Their mean confidence; None in an empty bin."""
    accuracy: Estimate
    """Their accuracy; its value is None in an empty bin."""


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of a network agree with how often its predictions are right."""

    ece: float
    """Expected calibration error: the mean distance of confidence and accuracy over bins, weighted by samples."""
    ece_by_chance: tuple[float, float]
    """The 95 % range of the ECE that perfectly calibrated predictions of the same confidences would show on as many
    samples."""
    nll: float
    """Mean negative log-likelihood in nats."""
    brier: float
    """Brier score, summed over classes: 0 to 2."""
    bins: tuple[ReliabilityBin, ...]
    """The bins of the reliability diagram."""

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy: above 0 the network is overconfident, below 0 underconfident."""
        return sum(self._shares().values())

    @property
    def over_and_under(self) -> tuple[float, float] | None:
        """The mean confidence of the bin that is overconfident by most, and of the one that is underconfident by most.

        None unless the two cancel in `overconfidence` by more than half, and by more than chance explains.
        """
        shares = self._shares()
        total = sum(map(abs, shares.values()))
        if not shares or abs(self.overconfidence) >= min(total / 2, total - self.ece_by_chance[1]):
            return None
        return max(shares, key=lambda mean: shares[mean]), min(shares, key=lambda mean: shares[mean])

    def _shares(self) -> dict[float, float]:
        """By the mean confidence of each bin: what the bin adds to `overconfidence`."""
        total = sum(part.n for part in self.bins)
        known = ((part.n, part.confidence or 0.0, part.accuracy.value or 0.0) for part in self.bins if part.n)
        return {mean: n * (mean - accuracy) / total for n, mean, accuracy in known}


@dataclass(frozen=True)
class Temperature:
    """The divisor of the logits with which the probabilities fit best; above 1 the network is overconfident.

    Source: C. Guo et al., "On calibration of modern neural networks", ICML 2017.
    """

    value: float
    """The temperature, 0.01 to 100."""
    interval: Interval
    """Its 95 % interval, of the likelihood ratio."""
    fitted_on: str
    """The split that it was fitted on."""
    n: int
    """Number of samples of that split."""
    nll: float
    """Mean negative log-likelihood of that split without the temperature, in nats."""
    nll_after: float
    """The same with the temperature."""
    few: str = ""
    """Which class has fewer than ten samples, in words: its probabilities are mostly chance. Empty where none has."""


_FEWEST = 10


def rare_class_note(truth: NDArray[np.int64], classes: Sequence[str]) -> str:
    """A note on the rarest class among the `truth` (N,), where it has too few samples to judge its probabilities: `only
    3 of them are of ill`. Empty where each class has ten or more."""
    counts = np.bincount(truth, minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] >= _FEWEST:
        return ""
    more = int((counts < _FEWEST).sum()) - 1
    others = f", and of {more:,} more {'class' if more == 1 else 'classes'} fewer than {_FEWEST}" if more else ""
    return f"only {counts[rarest]:,} of them {'is' if counts[rarest] == 1 else 'are'} of {classes[rarest]}{others}"


def measure_calibration(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Calibration:
    """The calibration over bins of equal width of the confidence, and over all samples.

    `truth` (N,), `probabilities` (N, K). ECE: M. P. Naeini et al., "Obtaining well calibrated probabilities using
    Bayesian binning", AAAI 2015, with 15 bins as in Guo et al., 2017.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    edges = np.linspace(0, 1, BINS + 1)
    places = np.searchsorted(edges[1:-1], confidence)
    counts, hits = (np.bincount(places, weights, BINS) for weights in (None, right))
    sums = np.bincount(places, confidence, BINS)
    bins = tuple(
        ReliabilityBin(
            round(float(edges[k]), 6),
            round(float(edges[k + 1]), 6),
            int(counts[k]),
            float(sums[k] / counts[k]) if counts[k] else None,
            share_of(int(hits[k]), int(counts[k])),
        )
        for k in range(BINS)
    )
    own = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return Calibration(
        ece=float(np.abs(hits - sums).sum() / len(truth)),
        ece_by_chance=_ece_by_chance(confidence, places),
        nll=float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        brier=float((np.einsum("nk,nk->n", probabilities, probabilities) - 2 * own + 1).mean()),
        bins=bins,
    )


def _ece_by_chance(confidence: NDArray[np.float64], places: NDArray[np.int64]) -> tuple[float, float]:
    """The middle 95 % of the ECE of perfectly calibrated predictions."""
    order = np.argsort(places, kind="stable")
    ordered = confidence[order]
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    draw = np.random.default_rng(0)
    drawn = [
        np.abs(np.add.reduceat((draw.random(len(ordered)) < ordered) - ordered, starts)).sum() / len(ordered)
        for _ in range(max(50, min(200, _DRAWS // len(ordered))))
    ]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def fit_temperature(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], fitted_on: str = "val"
) -> Temperature | None:
    """The temperature with the highest likelihood of the labels, between 0.01 and 100, and its likelihood-ratio
    interval.

    None where the labels do not determine it: all predictions are right, or all are wrong, or the best temperature is
    out of range.
    Source: C. Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    from scipy.optimize import brentq, minimize_scalar  # takes half a second to load
    from scipy.special import gammaincinv, log_softmax

    hits = int((probabilities.argmax(1) == truth).sum())
    if hits in (0, len(truth)):
        return None
    rows = max(1, min(len(truth), _MOST_FITTED // probabilities.shape[1]))
    evenly = np.arange(rows) * len(truth) // rows
    logits, labels = _logits(probabilities[evenly]), truth[evenly]

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(rows), labels].mean())

    best = minimize_scalar(loss, bounds=(_LEAST, _MOST), method="bounded", options={"xatol": 1e-4})
    at, least = float(best.x), float(best.fun)
    if min(at - _LEAST, _MOST - at) < 1e-2:
        return None
    allowed = 2 * gammaincinv(0.5, LEVEL) / (2 * rows)  # the quantile of χ² with one degree of freedom

    def beyond(log_temperature: float) -> float:
        return float(loss(log_temperature) - least - allowed)

    low = brentq(beyond, _LEAST, at, xtol=1e-3) if beyond(_LEAST) > 0 else _LEAST
    high = brentq(beyond, at, _MOST, xtol=1e-3) if beyond(_MOST) > 0 else _MOST
    interval = Interval(math.exp(low), math.exp(high), LEVEL, "likelihood ratio")
    return Temperature(math.exp(at), interval, fitted_on, rows, loss(0.0), least)


def with_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(N, K) probabilities after their logits are divided by `temperature`."""
    from scipy.special import log_softmax

    scaled = np.empty(probabilities.shape, np.float32)
    for first in range(0, len(probabilities), _ROWS):  # a few rows at a time: intermediate results stay small
        rows = slice(first, first + _ROWS)
        scaled[rows] = np.exp(log_softmax(_logits(probabilities[rows]) / temperature, axis=1))
    return scaled


def _logits(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits up to a constant per row, which does not change a softmax."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float64)
