"""A learning curve: a plain record, its sentence and its text for a terminal."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from striate.errors import one_line
from striate.tasks.registry import metric_named, metric_text
from striate.wording import paragraph, several

_WIDTH = 80
_SHOWN_SEEDS = 3
_LAW_SIZES = 3


@dataclass(frozen=True)
class SizePoint:
    """One training: on `share` of the training samples, `n` of them, for `steps` steps; `value` is the headline metric
    of the test split. `seconds` of training; `of_run`: it is the run itself, not trained again."""

    share: float
    n: int
    seed: int
    steps: int
    value: float
    seconds: float
    of_run: bool


@dataclass(frozen=True)
class PowerLaw:
    """error = `scale` · n^−`exponent` + `floor`: the error falls with the number n of training samples toward a floor.

    The error is the share of wrong answers, or the RMSE.
    """

    scale: float
    exponent: float
    floor: float

    def error(self, n: float) -> float:
        """At n training samples."""
        return float(self.scale * n**-self.exponent + self.floor)


@dataclass(frozen=True)
class Gain:
    """By how much twice the training samples would lower the error, by a power law: `value` with its 95 % `interval`
    (bootstrap over test samples and seeds). `told`: the interval lies above 0, for classes
    by at least half a test sample."""

    law: PowerLaw
    value: float
    interval: tuple[float, float]
    told: bool


@dataclass(frozen=True)
class SizeGain:
    """By how much pretrained weights are better with `n` training samples: the mean over the seeds (`by_seed`), above 0
    where they lead, with its 95 % `interval`; `told`: the interval leaves out 0. `luck`: whether the interval holds the
    chance of a training, which takes two seeds or more."""

    n: int
    value: float
    interval: tuple[float, float]
    by_seed: tuple[float, ...]
    luck: bool
    told: bool


@dataclass(frozen=True)
class PretrainingGain:
    """`weights`: the run or file that the trainings of `points` began with; `gains` has an entry a size."""

    weights: str
    points: tuple[SizePoint, ...]
    gains: tuple[SizeGain, ...]
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        """The part of learning-curve.json under `pretrained`."""
        gains = [asdict(gain) | {"interval": list(gain.interval)} for gain in self.gains]
        return {
            "weights": self.weights,
            "points": [asdict(point) for point in self.points],
            "gains": gains,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class LearningCurve:
    """How good the network of a run is after learning from parts of its training samples.

    `metric` is `accuracy` or `rmse` of the `n_test` test samples; `points` are ordered by size and seed; `gain` is None
    where nothing is left to gain or a law cannot be fitted; `sentence` says what more labels would bring. `pretrained`
    has the same trainings from pretrained weights, where such were named.
    """

    data: str
    metric: str
    n_test: int
    seeds: tuple[int, ...]
    points: tuple[SizePoint, ...]
    gain: Gain | None
    sentence: str
    pretrained: PretrainingGain | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of learning-curve.json."""
        gain = None
        if self.gain is not None:
            gain = asdict(self.gain) | {"interval": list(self.gain.interval)}
        return {
            "data": self.data,
            "split": "test",
            "metric": self.metric,
            "n_test": self.n_test,
            "seeds": list(self.seeds),
            "points": [asdict(point) for point in self.points],
            "gain": gain,
            "sentence": self.sentence,
            "pretrained": None if self.pretrained is None else self.pretrained.to_json(),
        }

    def __str__(self) -> str:
        return render(self)


def share_text(share: float) -> str:
    """`1/8`, `all`."""
    if share == 1:
        return "all"
    return f"1/{round(1 / share)}" if abs(1 / share - round(1 / share)) < 0.01 / share else f"{100 * share:.3g} %"


def told(curve: LearningCurve) -> str:
    """What twice the labels would bring, or that it cannot be told."""
    n = max(point.n for point in curve.points)
    if curve.gain is None and (sizes := len({point.n for point in curve.points})) < _LAW_SIZES:
        return f"An estimate of what more labels would bring takes {_LAW_SIZES} sizes or more; these are {sizes}."
    if curve.gain is None:
        return (
            f"What more labels would bring is unknown: with all {several(n, 'training sample')} hardly any of the"
            f" {several(curve.n_test, 'test sample is', 'test samples are')} wrong."
        )
    low, high = (_amount(end, curve.metric) for end in curve.gain.interval)
    gain, shown = _amount(curve.gain.value, curve.metric), f"(95 %: {low} to {high})"
    metric = metric_named(curve.metric)
    points = metric.is_share
    luck = (
        ""
        if len(curve.seeds) > 1
        else " One training each: the interval does not include the variation between trainings."
    )
    if curve.gain.told:
        brings = (
            f"bring about {gain} points of test {metric.name}"
            if points
            else f"lower the test {metric.name} by about {gain}"
        )
        return f"Twice the labels ({several(2 * n, 'training sample')}) would {brings} {shown}, by a power law.{luck}"
    near = f"too little for {several(curve.n_test, 'test sample')}"
    doubt = "not significantly more than nothing" if curve.gain.interval[0] <= 0 else near
    amount = (
        f"{gain} points of test {metric.name}" if points else f"{_article(metric.name)} {metric.name} lower by {gain}"
    )
    return (
        f"What twice the labels ({several(2 * n, 'training sample')}) would bring is uncertain: by a power law "
        f"{amount} {shown}, {doubt}.{luck}"
    )


def _article(name: str) -> str:
    return "an" if name[0] in "aeiouAEIOUR" else "a"


def _amount(value: float, metric: str) -> str:
    text = f"{100 * value:.1f}" if metric_named(metric).is_share else f"{value:.3g}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def render(curve: LearningCurve) -> str:
    """A row a size: samples, steps, the figure of each seed, their mean; then the sentence. Where weights were named,
    the same table of the trainings that began with them."""
    title = (
        f"{one_line(curve.data)}: {metric_named(curve.metric).name} of {several(curve.n_test, 'test sample')} after "
        "learning from parts of the training samples"
    )
    if (found := curve.pretrained) is None:
        return "\n".join([paragraph(title, _WIDTH), "", *_table(curve, curve.points), "", *_said(curve.sentence)])
    tables = [*_table(curve, curve.points), "", f"from the weights of {one_line(found.weights)}:", ""]
    tables += _table(curve, found.points)
    random = "from random weights:"
    after = [*_said(found.sentence), *_said(f"From random weights: {curve.sentence}")]
    return "\n".join([paragraph(title, _WIDTH), "", random, "", *tables, "", *after])


def _said(sentence: str) -> list[str]:
    return [paragraph(sentence, _WIDTH)]


def _table(curve: LearningCurve, every: tuple[SizePoint, ...]) -> list[str]:
    repeated = len(curve.seeds) > 1
    mean = f"mean of {len(curve.seeds)}" if len(curve.seeds) > _SHOWN_SEEDS else "mean"
    head = ["part", "samples", "steps", *(f"seed {seed}" for seed in curve.seeds[:_SHOWN_SEEDS])]
    rows = [[*head, *([mean] if repeated else [])]]
    for n in sorted({point.n for point in every}):
        points = [point for point in every if point.n == n]
        values = [point.value for point in points]
        row = [share_text(points[0].share), f"{n:,}", f"{points[0].steps:,}"]
        row += [metric_text(curve.metric, value) for value in values[:_SHOWN_SEEDS]]
        rows.append([*row, *([metric_text(curve.metric, statistics.fmean(values))] if repeated else [])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
