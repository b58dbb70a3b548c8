"""A learning curve: its record, its sentence, and its text for a terminal."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from striate.errors import one_line
from striate.tasks.registry import metric_named, metric_text
from striate.wording import filled, formatted, several

_WIDTH = 80
_SHOWN_SEEDS = 3
_LAW_SIZES = 3


@dataclass(frozen=True)
class SizePoint:
    """One training of the learning curve."""

    share: float
    """Share of the training samples, above 0 up to 1."""
    n: int
    """Number of these samples."""
    seed: int
    """Seed of the training, and of the choice of its samples."""
    steps: int
    """Optimizer steps."""
    value: float
    """The headline metric of the test split."""
    seconds: float
    """Seconds of training."""
    of_run: bool
    """Whether it is the run itself, which was not trained again."""


@dataclass(frozen=True)
class PowerLaw:
    """error = scale · n^−exponent + floor: with the number n of training samples, the error falls toward the floor. The
    error is the share of wrong predictions, or the RMSE."""

    scale: float
    """In the unit of the error, at n = 1, above the floor."""
    exponent: float
    """Between −0.5 (the error rises) and 2."""
    floor: float
    """The error with endless samples."""

    def error(self, n: float) -> float:
        """At n training samples."""
        return float(self.scale * n**-self.exponent + self.floor)


@dataclass(frozen=True)
class DoublingGain:
    """By how much twice the training samples would lower the error, by a power law."""

    law: PowerLaw
    value: float
    """Share of wrong predictions, or RMSE."""
    interval: tuple[float, float]
    """Its 95 % interval: bootstrap over test samples and seeds."""
    told: bool
    """Whether the interval lies above 0; for classes, above half a test sample."""


@dataclass(frozen=True)
class SizeGain:
    """By how much pretrained weights improve the headline metric with a given number of training samples."""

    n: int
    """Training samples."""
    value: float
    """Mean over the seeds; above 0 where pretrained weights are better."""
    interval: tuple[float, float]
    """Its 95 % interval."""
    by_seed: tuple[float, ...]
    """The gain of each seed."""
    luck: bool
    """Whether the interval includes the variation between trainings, which takes two seeds or more."""
    told: bool
    """Whether the interval excludes 0."""


@dataclass(frozen=True)
class PretrainingGain:
    """The same trainings from pretrained weights, and what these bring."""

    weights: str
    """The run or file with the weights."""
    points: tuple[SizePoint, ...]
    """The trainings, ordered by size and seed."""
    gains: tuple[SizeGain, ...]
    """One entry per size."""
    sentence: str = ""
    """What the weights bring, in words."""

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
    """How good the network of a run is when it learns from parts of its training samples."""

    data: str
    """Name of the data set."""
    metric: str
    """Key of the headline metric, such as `accuracy` or `rmse`, measured on the test split."""
    n_test: int
    """Test samples."""
    seeds: tuple[int, ...]
    """Seeds of the trainings of each size."""
    points: tuple[SizePoint, ...]
    """The trainings from random weights, ordered by size and seed."""
    gain: DoublingGain | None
    """What twice the labels would bring. None: hardly any prediction is wrong, or there are fewer than three sizes."""
    sentence: str
    """What more labels would bring, in words."""
    pretrained: PretrainingGain | None = None
    """The same trainings from pretrained weights. None: no weights were given."""

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


def gain_of_labels(curve: LearningCurve) -> str:
    """What twice the labels would bring, or that it is unknown, in words."""
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
    return formatted(100 * value, ".1f") if metric_named(metric).is_share else formatted(value, ".3g")


def render(curve: LearningCurve) -> str:
    """A table with one row per size: samples, steps, the metric of each seed, their mean; then the sentence. With
    pretrained weights, a second table of the trainings that began with them."""
    title = (
        f"{one_line(curve.data)}: {metric_named(curve.metric).name} of {several(curve.n_test, 'test sample')} after "
        "learning from parts of the training samples"
    )
    if (found := curve.pretrained) is None:
        return "\n".join([filled(title, _WIDTH), "", *_table(curve, curve.points), "", *_wrapped(curve.sentence)])
    tables = [*_table(curve, curve.points), "", f"from the weights of {one_line(found.weights)}:", ""]
    tables += _table(curve, found.points)
    random = "from random weights:"
    after = [*_wrapped(found.sentence), *_wrapped(f"From random weights: {curve.sentence}")]
    return "\n".join([filled(title, _WIDTH), "", random, "", *tables, "", *after])


def _wrapped(sentence: str) -> list[str]:
    return [filled(sentence, _WIDTH)]


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
