"""Trained networks beside each other: a plain record, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from striate import notebook
from striate.records import Interval
from striate.statistics.difference import Difference


@dataclass(frozen=True)
class ComparedRun:
    """One run: `value` of the headline metric, with its `interval` for an accuracy (95 %, Wilson), and what it costs.

    `params`; `macs` of one input; `train_seconds` and `images_per_second` of its training on the `device` it ran on.
    Costs are None where the run does not say (one that is not complete). `name` tells it from the others.
    """

    name: str
    path: str
    model: str
    value: float
    interval: Interval | None
    params: int | None
    macs: int | None
    train_seconds: float | None
    images_per_second: float | None
    device: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; the interval as `[low, high]`."""
        return {
            "run": self.path,
            "name": self.name,
            "model": self.model,
            "value": self.value,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "params": self.params,
            "macs": self.macs,
            "train_seconds": self.train_seconds,
            "images_per_second": self.images_per_second,
            "device": self.device,
        }


@dataclass(frozen=True)
class Pair:
    """Two runs: `better` leads `other` by `difference` (0 or more, as `Difference.value`).

    `p_corrected` is the p-value after Holm's correction for all pairs, equal to that of the difference where there is
    one pair. `more_than_noise`: it is below 0.05. Where it is not, about `needed` samples would show such a difference
    four times in five; None where that cannot be said. `sentence` says all this.
    """

    better: str
    other: str
    difference: Difference
    p_corrected: float
    more_than_noise: bool
    needed: int | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, the interval as `[low, high]` with its method."""
        interval = self.difference.interval
        return {
            "better": self.better,
            "other": self.other,
            "difference": self.difference.value,
            "interval": None if interval is None else [interval.low, interval.high],
            "interval_method": None if interval is None else interval.method,
            "test": self.difference.test,
            "p_value": self.difference.p_value,
            "p_corrected": self.p_corrected,
            "more_than_noise": self.more_than_noise,
            "differing": self.difference.differing,
            "needed": self.needed,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Comparison:
    """Runs on the same `n` samples of one split.

    `metric` is the headline of the task: `accuracy`, `rmse` or `iou`; `things` what the samples are, in words
    (`images`, `samples`). `runs` are in the order they were given, `pairs` of all two of them, `notes` what should be
    known.
    """

    data: str
    split: str
    n: int
    things: str
    task: str
    metric: str
    runs: tuple[ComparedRun, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One JSON object of plain values."""
        return {
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "task": self.task,
            "metric": self.metric,
            "runs": [run.to_json() for run in self.runs],
            "pairs": [pair.to_json() for pair in self.pairs],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return notebook.page(
            f"{self.data}, {self.split} split, n = {self.n:,}",
            *(notebook.line(pair.sentence) for pair in self.pairs),
            notebook.table(
                ("run", "model", self.metric, "parameters", "MACs", "images/s", "training, s", "device"),
                (
                    (r.name, r.model, r.value, r.params, r.macs, r.images_per_second, r.train_seconds, r.device)
                    for r in self.runs
                ),
            ),
            notebook.items(self.notes),
        )

    def __str__(self) -> str:
        from striate.evaluation.comparing.text import render

        return render(self)
