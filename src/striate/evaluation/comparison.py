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
FEW = 20
"""Of fewer samples a bootstrap's interval is too narrow: it is not given."""


Lead = Callable[[NDArray[Any], NDArray[Any]], float]
"""How far the network leads, from a row a sample of the baseline and of the network."""


@dataclass(frozen=True)
class BaselineComparison:
    """How a network stands against one baseline on the same test samples.

    `difference` is in the network's favor where positive: samples that it alone has right minus those that the
    baseline alone has right (classes), how much lower its RMSE is (numbers), how much higher its mean IoU (masks).
    `p_value` of McNemar's exact test for classes, of a paired permutation test for numbers and masks; `interval` (95 %)
    of the difference by a paired bootstrap for numbers and masks of 20 samples or more, else None. `beats`: the
    difference is positive and more than noise.
    """

    baseline: str
    difference: float
    p_value: float
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


def compare_with(network: Evaluation, baseline: Baseline, seed: int = 0) -> BaselineComparison:
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


def _compare_classes(network: Evaluation, baseline: Baseline) -> BaselineComparison:
    ours = network.decoded.argmax(1) == network.targets
    theirs = baseline.decoded.argmax(1) == network.targets
    ahead, behind = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p, lead = mcnemar(ahead, behind), ahead - behind
    test = f"McNemar's exact test, p {p_text(p)}"
    samples = f"{network.n:,} test {_samples(network)}"
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
    return BaselineComparison(baseline.name, lead, p, None, lead > 0 and p < LEVEL, sentence)


def _compare_numbers(network: Evaluation, baseline: Baseline, seed: int) -> BaselineComparison:
    theirs, ours = (squared_errors(answers, network.targets) for answers in (baseline.decoded, network.decoded))
    return _from_samples(network, baseline, theirs, ours, rmse_lead, _Words("RMSE", "lower", "higher"), seed)


def _compare_masks(network: Evaluation, baseline: Baseline, seed: int) -> BaselineComparison:
    count = len(network.classes)
    theirs, ours = (overlaps(answers, network.targets, count) for answers in (baseline.decoded, network.decoded))
    words = _Words("mean IoU", "higher", "lower", 100, " points")
    return _from_samples(network, baseline, theirs, ours, iou_lead, words, seed)


def squared_errors(answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) squared error of each sample, the mean over its numbers."""
    truth = np.asarray(targets, np.float64).reshape(len(targets), -1)
    errors: NDArray[np.float64] = ((np.asarray(answers, np.float64).reshape(truth.shape) - truth) ** 2).mean(1)
    return errors


def rmse_lead(theirs: NDArray[Any], ours: NDArray[Any]) -> float:
    """How much lower our RMSE is, from squared errors (N,)."""
    return float(np.sqrt(theirs.mean())) - float(np.sqrt(ours.mean()))


def iou_lead(theirs: NDArray[Any], ours: NDArray[Any]) -> float:
    """How much higher our mean IoU is, from `overlaps` (N, 2, K)."""
    return _mean_iou(ours.sum(0)) - _mean_iou(theirs.sum(0))


def overlaps(answers: NDArray[Any], targets: NDArray[Any], classes: int) -> NDArray[np.int64]:
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


def _from_samples(
    network: Evaluation,
    baseline: Baseline,
    theirs: NDArray[Any],
    ours: NDArray[Any],
    lead: Lead,
    words: _Words,
    seed: int,
) -> BaselineComparison:
    """The comparison of a figure that `lead` computes from a row a sample of each method."""
    rng = np.random.default_rng(seed)
    difference = lead(theirs, ours)
    p = permutation_p(theirs, ours, lead, rng)
    interval = bootstrap_interval(theirs, ours, lead, rng) if network.n >= FEW else None
    certain, figure, unit = p < LEVEL, words.figure, words.unit
    how = f"{abs(words.scale * difference):.3g}{unit} {words.better if difference > 0 else words.worse}"
    test = f"paired permutation test over {network.n:,} test {_samples(network)}, p {p_text(p)}"
    if interval is not None:
        low, high = (signed(words.scale * end) for end in interval)
        test += f"; 95 % interval of its lead {low} to {high}{unit}, paired bootstrap"
    if difference > 0 and certain:
        sentence = f"The network's {figure} is {how} than that of {_called(baseline)}: more than noise ({test})."
    elif difference == 0:
        sentence = f"The network does not beat {_called(baseline)}: the {figure} is the same."
    else:
        noise = "more than noise" if certain else "which noise alone may do"
        sentence = f"The network does not beat {_called(baseline)}: its {figure} is {how}, {noise} ({test})."
    return BaselineComparison(baseline.name, difference, p, interval, difference > 0 and certain, sentence)


def permutation_p(theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, rng: np.random.Generator) -> float:
    """The two-sided p-value of the difference: were the two methods alike, each sample's pair could as well be the
    other way round. All ways for few samples, drawn ones (which include what was seen) for many, so that the chance of
    p < 0.05 without a difference is at most 0.05 for any n.

    Source: R. A. Fisher, "The Design of Experiments", 1935, section 21.
    """
    n = len(ours)
    every = 2**n <= _RESAMPLES
    rounds = 2**n if every else _RESAMPLES
    seen = abs(lead(theirs, ours)) * (1 - 1e-9)  # the sum of the same numbers in another order is the same sum
    axes = (slice(None), *[None] * (ours.ndim - 1))
    count = 0
    for k in range(rounds):
        swap = (k >> np.arange(n)) & 1 if every else rng.integers(0, 2, n)
        chosen = swap.astype(bool)[axes]
        count += abs(lead(np.where(chosen, ours, theirs), np.where(chosen, theirs, ours))) >= seen
    return count / rounds if every else (count + 1) / (rounds + 1)


def bootstrap_interval(
    theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, rng: np.random.Generator
) -> tuple[float, float]:
    """The middle 95 % of the differences on samples drawn anew with replacement."""
    n = len(ours)
    draws = (rng.integers(0, n, n) for _ in range(_RESAMPLES))
    drawn = [lead(theirs[places], ours[places]) for places in draws]
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _samples(network: Evaluation) -> str:
    return "sample" if network.n == 1 else "samples"


def p_text(p: float) -> str:
    """`= 0.031`, `= 0.0042`, `< 0.0001`."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.3f}"


def signed(value: float) -> str:
    """Three digits, with a minus sign as it is printed."""
    return f"{value:.3g}".replace("-", "−")


def _called(baseline: Baseline) -> str:
    """A name within a sentence: `the mean`, but `ridge regression`."""
    return f"the {baseline.name}" if baseline.name.split()[0] in ("majority", "mean", "random") else baseline.name
