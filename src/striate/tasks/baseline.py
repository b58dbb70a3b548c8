"""Baselines, which a network should beat: methods, their measured results, and the comparison with a network.
Is a network better than a baseline, or is the difference noise? Both predict the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from striate.data.dataset import Dataset
from striate.records import Finding
from striate.statistics.intervals import drawn_count
from striate.statistics.paired import LEVEL, p_text, paired_test
from striate.tasks.headline import Headline, Rows
from striate.wording import number, several


@dataclass(frozen=True, eq=False)
class Baseline:
    """A method other than a network, fitted on the training split and measured on the test split."""

    name: str
    """Name of the method."""
    what: str
    """What it does, as a sentence."""
    features: str
    """What its inputs are, in words."""
    hyperparameters: dict[str, Any]
    """Those chosen on the validation split, never on the test split; `{}` where there are none."""
    n_train: int
    """Number of training samples that it is fitted to; pixels, for masks, as `features` says."""
    seconds: float
    """Duration of features, choice of hyperparameters, fit and predictions together."""
    metrics: dict[str, Any]
    """Under the keys of a network's metrics of the same split, without `loss`; `top5` only with probabilities."""
    note: str
    """What was left out or cut short; empty where nothing was."""
    decoded: NDArray[Any] = field(repr=False)
    """Its predictions, as `Evaluation.decoded`."""

    def to_json(self) -> dict[str, Any]:
        """The baseline as one JSON object of plain values, its metrics on the same level, without predictions."""
        return {
            "name": self.name,
            **self.metrics,
            "what": self.what,
            "features": self.features,
            "hyperparameters": dict(self.hyperparameters),
            "n_train": self.n_train,
            "seconds": round(self.seconds, 3),
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class DataBaselines:
    """The baselines of one data set."""

    data: str
    """Name of the data set."""
    baselines: tuple[Baseline, ...]
    """The baselines, the simplest first."""
    notes: tuple[str, ...]
    """How the data were read, in sentences."""
    findings: tuple[Finding, ...]
    """What is wrong with the data."""

    def to_json(self) -> dict[str, Any]:
        """One JSON object of plain values; all metrics are those of the test split."""
        return {
            "data": self.data,
            "split": "test",
            "baselines": [entry.to_json() for entry in self.baselines],
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
        }


CHOICE = 5_000
"""Largest number of training and of validation samples while hyperparameters are chosen."""
MOST = 60_000
"""Largest number of training samples with the chosen hyperparameters."""

Value = TypeVar("Value")
Model = TypeVar("Model")


@dataclass(frozen=True, eq=False)
class Fitted:
    """The predictions of a fitted method for the test split, and how they were computed."""

    decoded: torch.Tensor
    """Predictions as `Task.decode` gives them."""
    features: str
    """What the method's inputs are, in words."""
    n_train: int
    """Number of training samples that it is fitted to."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """Those chosen on the validation split."""
    note: str = ""
    """What was left out or cut short; empty where nothing was."""
    ranked: bool = True
    """Whether the order of the classes in `decoded` means anything beyond the first."""


@dataclass(frozen=True)
class Method:
    """A baseline before it is fitted; `fit(data, task, seed)` fits on train, chooses by val, and predicts test."""

    name: str
    what: str
    fit: Callable[[Dataset, Any, int], Fitted]


def stratified_sample(targets: ArrayLike, count: int, seed: int) -> NDArray[np.int64]:
    """(min(count, N),) positions in rising order, drawn at random so that each class, or each range of a number, keeps
    its share; all positions where there are no more than `count`."""
    values = np.asarray(targets).reshape(len(np.asarray(targets)), -1)[:, 0]
    total = len(values)
    if total <= count:
        return np.arange(total)
    order = np.random.default_rng(seed).permutation(total)
    order = order[np.argsort(values[order], kind="stable")]
    return np.sort(order[np.arange(count) * total // count])


def choose_by_validation(
    grid: Sequence[Value],
    fit: Callable[[Value, NDArray[np.int64]], Model],
    score: Callable[[Model], float],
    few: NDArray[np.int64],
    many: NDArray[np.int64],
) -> tuple[Value, Model]:
    """The value of `grid` with the highest `score`, the first of equal ones, and its model.

    `fit(value, positions)` fits a model to the samples at `positions`: `few` for each value, `many` for the chosen one.
    """
    best, chosen, model = -np.inf, None, None
    for value in grid:
        tried = fit(value, few)
        reached = score(tried)
        if model is None or reached > best:
            best, chosen, model = reached, value, tried
    assert chosen is not None and model is not None, "an empty grid"
    return chosen, model if len(few) == len(many) else fit(chosen, many)


def sampling_note(n_train: int, total: int, chosen_on: int) -> str:
    """A note where a method was fitted, or its hyperparameters were chosen, on part of the samples; else empty."""
    notes = []
    if n_train < total:
        drawn_from = several(total, "training sample")
        notes.append(f"Fitted on {n_train:,} of the {drawn_from}, a stratified sample.")
    if chosen_on < n_train:
        notes.append(f"Hyperparameters were chosen on {chosen_on:,} of them.")
    return " ".join(notes)


@dataclass(frozen=True)
class BaselineComparison:
    """How a network compares with one baseline on the same test samples."""

    baseline: str
    """Name of the baseline."""
    difference: float
    """Positive in the network's favor. Classes: samples that only the network predicts correctly minus those that only
    the baseline does. Other tasks: by how much the network's headline metric is better."""
    p_value: float
    """Of McNemar's exact test for classes, of a paired permutation test for other tasks."""
    interval: tuple[float, float] | None
    """95 % interval of the difference by `paired_test`, as (low, high); None where there is none."""
    beats: bool
    """Whether the difference is positive and more than noise."""
    sentence: str
    """All of this in words."""

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values, without the baseline's name."""
        return {
            "difference": self.difference,
            "p_value": self.p_value,
            "interval": None if self.interval is None else list(self.interval),
            "beats": self.beats,
            "sentence": self.sentence,
        }


def compare_rows(
    headline: Headline, baseline: str, theirs: Rows, ours: Rows, seed: int = 0, thing: str = "test sample"
) -> BaselineComparison:
    """The comparison of a network with the baseline of this name, from the row of each sample (`thing`): a paired
    permutation test and a paired bootstrap, of whole groups where the headline is over groups."""
    n, metric = len(ours), headline.metric
    difference = headline.lead(theirs, ours)
    p, interval = paired_test(theirs, ours, headline.lead, np.random.default_rng(seed), headline.groups)
    certain, figure = p < LEVEL, metric.name
    scale, unit = metric.lead
    better, worse = ("higher", "lower") if metric.higher_is_better else ("lower", "higher")
    how = f"{number(abs(scale * difference), 3)}{unit} {better if difference > 0 else worse}"
    of = f" in {several(drawn_count(headline.groups, n), 'group')}" if any(headline.groups) else ""
    test = f"paired permutation test over {several(n, thing)}{of}, p {p_text(p)}"
    if interval is not None:
        low, high = (number(scale * end, 3) for end in (interval.low, interval.high))
        test += f"; 95 % interval of its lead {low} to {high}{unit}, {interval.method}"
    if difference > 0 and certain:
        sentence = f"The network's {figure} is {how} than that of {in_sentence(baseline)}: more than noise ({test})."
    elif difference == 0:
        sentence = f"The network does not beat {in_sentence(baseline)}: the {figure} is the same."
    else:
        noise = "more than noise" if certain else "within noise"
        sentence = f"The network does not beat {in_sentence(baseline)}: its {figure} is {how}, {noise} ({test})."
    ends = None if interval is None else (interval.low, interval.high)
    return BaselineComparison(baseline, difference, p, ends, difference > 0 and certain, sentence)


def samples_word(n: int) -> str:
    """`sample` or `samples`."""
    return "sample" if n == 1 else "samples"


def in_sentence(baseline: str) -> str:
    """The name of a baseline within a sentence: `the mean`, but `ridge regression`."""
    return f"the {baseline}" if baseline.split()[0] in ("majority", "mean", "random") else baseline
