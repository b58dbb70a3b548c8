"""Is a network better than a baseline, or is the difference noise? Both answered for the same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from striate.evaluation.baseline import Baseline
from striate.evaluation.record import Evaluation

LEVEL = 0.05
"""A difference that noise would make more rarely than this is more than noise."""
_IGNORED = 255
_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """How a network stands against one baseline on the same test samples.

    `difference` is in the network's favor where positive: samples that it alone has right minus those that the
    baseline alone has right (classes), how much lower its RMSE is (numbers), how much higher its mean IoU (masks).
    `p_value` of McNemar's exact test for classes, else None; `interval` (95 %) of the difference by a paired
    bootstrap for numbers and masks, else None. `beats`: the difference is positive and more than noise.
    """

    baseline: str
    difference: float
    p_value: float | None
    interval: tuple[float, float] | None
    beats: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values, without the baseline's name."""
        return {
            "difference": self.difference,
            "p_value": self.p_value,
            "interval": None if self.interval is None else list(self.interval),
            "beats": self.beats,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class _Words:
    """How a metric and a difference of it are spoken of; `scale` turns it into `unit`."""

    figure: str
    better: str
    worse: str
    scale: float = 1
    unit: str = ""


def compare_with(network: Evaluation, baseline: Baseline, seed: int = 0) -> Comparison:
    """The comparison of answers that were given for the same samples of one split, in one order."""
    if network.task == "classify":
        return _compare_classes(network, baseline)
    if network.task == "regress":
        return _compare_numbers(network, baseline, seed)
    return _compare_masks(network, baseline, seed)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: `only_first` samples are right by the first method alone.

    Without samples on which the two differ there is nothing to tell them apart: 1. Source: Q. McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", 1947.
    """
    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def _compare_classes(network: Evaluation, baseline: Baseline) -> Comparison:
    ours = network.decoded.argmax(1) == network.targets
    theirs = baseline.decoded.argmax(1) == network.targets
    ahead, behind = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p, lead = mcnemar(ahead, behind), ahead - behind
    test = f"McNemar's exact test, p {_p_text(p)}"
    samples = f"{network.n:,} test {'sample' if network.n == 1 else 'samples'}"
    if lead == 0:
        sentence = f"The network does not beat {_called(baseline)}: both are right on as many of {samples}."
    elif lead > 0 and p < LEVEL:
        sentence = (
            f"The network is right on {lead:,} more of {samples} than {_called(baseline)}: more than noise ({test})."
        )
    else:
        how = f"{abs(lead):,} {'more' if lead > 0 else 'fewer'} of {samples}"
        noise = "more than noise" if p < LEVEL else "which noise alone may do"
        sentence = f"The network does not beat {_called(baseline)}: it is right on {how}, {noise} ({test})."
    return Comparison(baseline.name, lead, p, None, lead > 0 and p < LEVEL, sentence)


def _compare_numbers(network: Evaluation, baseline: Baseline, seed: int) -> Comparison:
    truth = np.asarray(network.targets, np.float64).reshape(network.n, -1)
    squared = [
        ((np.asarray(answers, np.float64).reshape(truth.shape) - truth) ** 2).mean(1)
        for answers in (baseline.decoded, network.decoded)
    ]

    def lead(places: NDArray[np.int64]) -> float:
        theirs, ours = (float(np.sqrt(errors[places].mean())) for errors in squared)
        return theirs - ours

    return _from_bootstrap(network, baseline, lead, _Words("RMSE", "lower", "higher"), seed)


def _compare_masks(network: Evaluation, baseline: Baseline, seed: int) -> Comparison:
    count = len(network.classes)
    theirs, ours = (_overlaps(answers, network.targets, count) for answers in (baseline.decoded, network.decoded))

    def lead(places: NDArray[np.int64]) -> float:
        return _mean_iou(ours[places].sum(0)) - _mean_iou(theirs[places].sum(0))

    return _from_bootstrap(network, baseline, lead, _Words("mean IoU", "higher", "lower", 100, " points"), seed)


def _overlaps(answers: NDArray[Any], targets: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """(N, 2, K): labeled pixels of each image in intersection and union, a column a class."""
    labeled = targets != _IGNORED
    counts = [
        [
            ((answers == k) & (targets == k) & labeled).sum((1, 2)),
            (((answers == k) | (targets == k)) & labeled).sum((1, 2)),
        ]
        for k in range(classes)
    ]
    return np.asarray(counts, np.int64).transpose(2, 1, 0)


def _mean_iou(overlap: NDArray[np.int64]) -> float:
    hits, union = overlap
    return float((hits[union > 0] / union[union > 0]).mean()) if (union > 0).any() else 0.0


def _from_bootstrap(
    network: Evaluation,
    baseline: Baseline,
    lead: Callable[[NDArray[np.int64]], float],
    words: _Words,
    seed: int,
) -> Comparison:
    """The difference on all samples, and the middle 95 % of those on samples drawn anew with replacement."""
    n, rng = network.n, np.random.default_rng(seed)
    difference = lead(np.arange(n))
    drawn = [lead(rng.integers(0, n, n)) for _ in range(_RESAMPLES)]
    low, high = (float(q) for q in np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2]))
    # One sample drawn again and again has no spread, which does not make it certain.
    certain = n > 1 and (low > 0 or high < 0)
    figure, unit = words.figure, words.unit
    how = f"{abs(words.scale * difference):.3g}{unit} {words.better if difference > 0 else words.worse}"
    ends = f"{_signed(words.scale * low)} to {_signed(words.scale * high)}{unit}"
    spread = f"95 % interval of its lead {ends}, paired bootstrap over {n:,} test samples"
    if difference > 0 and certain:
        sentence = f"The network's {figure} is {how} than that of {_called(baseline)}: more than noise ({spread})."
    elif difference == 0:
        sentence = f"The network does not beat {_called(baseline)}: the {figure} is the same."
    else:
        noise = "more than noise" if certain else "which noise alone may do"
        sentence = f"The network does not beat {_called(baseline)}: its {figure} is {how}, {noise} ({spread})."
    return Comparison(baseline.name, difference, None, (low, high), difference > 0 and certain, sentence)


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.3f}"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _called(baseline: Baseline) -> str:
    """A name within a sentence: `the mean`, but `ridge regression`."""
    return f"the {baseline.name}" if baseline.name.split()[0] in ("majority", "mean", "random") else baseline.name
