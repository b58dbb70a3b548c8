"""The comparison of trained networks: a plain record, its sentences and its text for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from striate import notebook
from striate.errors import one_line
from striate.records import Interval
from striate.statistics.paired import LEVEL, Difference, p_text
from striate.tasks.registry import metric_named, metric_text
from striate.wording import duration, filled, formatted, number, scaled, shorten_middle

_WIDTH = 80
_NAME = 24
_PAIRS = 6
"""Up to this number of pairs, each has a sentence; of more, those of the best run."""
_MOST = 10_000_000


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison, with its metric and its costs. A cost is None where metrics.json lacks it, as of a run
    that is not complete."""

    name: str
    """Short name that distinguishes the run from the others."""
    path: str
    """Folder of the run."""
    model: str
    """The model, as in the run's configuration."""
    value: float
    """The headline metric."""
    interval: Interval | None
    """95 % interval of the metric: Wilson of an accuracy, else by bootstrap; None for fewer than 20 samples."""
    params: int | None
    """Number of parameters."""
    macs: int | None
    """Multiply–accumulates of one input."""
    train_seconds: float | None
    """Duration of the training on `device`."""
    images_per_second: float | None
    """Throughput of the training on `device`."""
    device: str | None
    """The device that the run was trained on."""

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
    """Two runs, and whether the difference of their metrics is more than noise."""

    better: str
    """Name of the run with the better metric."""
    other: str
    """Name of the other run."""
    difference: Difference
    """By how much `better` leads; its value is 0 or more."""
    p_corrected: float
    """The p-value after Holm's correction for all pairs; that of the difference where there is one pair."""
    more_than_noise: bool
    """Whether `p_corrected` is below 0.05."""
    needed: int | None
    """About how many samples would show such a difference with a power of 80 %; None where `more_than_noise`, or where
    it cannot be computed."""
    sentence: str
    """All of this in words."""

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
    """Runs that were measured on the same samples of one split."""

    data: str
    """Name of the data set."""
    split: str
    """Name of the split."""
    n: int
    """Number of samples."""
    things: str
    """What the samples are, in words: `images`, `samples`."""
    task: str
    """Name of the task."""
    metric: str
    """Key of the headline metric: `accuracy`, `rmse`, `iou`, …"""
    runs: tuple[ComparedRun, ...]
    """The runs in the order given."""
    pairs: tuple[Pair, ...]
    """All pairs of runs."""
    notes: tuple[str, ...] = ()
    """Sentences on what else to know."""

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
        return render(self)


def sentence_of(
    better: str,
    other: str,
    difference: Difference,
    *,
    corrected: float,
    pairs: int,
    needed: int | None,
    metric: str,
    things: str,
) -> str:
    """Whether a difference is more than noise: `A is better than B by 1.2 points (95 %: 0.4 to 2.0; McNemar p = 0.003):
    more than noise.`"""
    test = _test(difference, corrected, pairs, metric)
    lead = _amount(difference, metric)
    if corrected < LEVEL:
        return f"{better} is better than {other} by {lead} ({test}): more than noise."
    beginning = f"{better} and {other} do not differ significantly on {difference.n:,} {things}"
    if difference.value == 0:
        same = f"both have the same {metric_named(metric).name}"
        if difference.differing:
            same += f", with different predictions for {difference.differing:,} {things}"
        return f"{beginning}: {same} ({test})."
    return f"{beginning}: {better} leads by {lead} ({test}){_needed(needed)}."


def _needed(needed: int | None) -> str:
    if needed is None:
        return ""
    count = "more than 10 million" if needed > _MOST else f"about {_rounded(needed):,}"
    return f"; detecting such a difference with a power of 80 % takes {count}"


def _rounded(count: int) -> int:
    """Two significant digits: the count is an estimate."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def _amount(difference: Difference, metric: str) -> str:
    if not metric_named(metric).is_share:
        return f"{difference.value:.3g} of {metric_named(metric).name}"
    points = _points(difference.value, difference.n)
    unit = "point" if float(points) == 1 else "points"
    return f"{points} {unit}" + ("" if metric == "accuracy" else f" of {metric_named(metric).name}")


def _points(share: float, n: int) -> str:
    """In points, with as many digits as `n` samples can resolve."""
    return formatted(100 * share, f".{1 if n <= 1000 else 2}f")


def _test(difference: Difference, corrected: float, pairs: int, metric: str) -> str:
    parts = []
    if (interval := difference.interval) is not None:
        ends = (interval.low, interval.high)
        low, high = (_points(end, difference.n) if metric_named(metric).is_share else number(end, 3) for end in ends)
        parts.append(f"95 %: {low} to {high}")
    parts.append(f"{difference.test} p {p_text(corrected)}" + (" after Holm" if pairs > 1 else ""))
    return "; ".join(parts)


def render(comparison: Comparison) -> str:
    """The samples, a row for each run with its costs, and a sentence for each pair."""
    title = (
        f"{one_line(comparison.data)}, {comparison.split} split: {comparison.n:,} {comparison.things}, the same for all"
    )
    lines = [filled(title, _WIDTH), "", *_table(comparison), ""]
    pairs, rest = comparison.pairs, ""
    if len(pairs) > _PAIRS:
        best = _best(comparison)
        pairs = tuple(pair for pair in pairs if best.name in (pair.better, pair.other))
        rest = f"… and {len(comparison.pairs) - len(pairs)} pairs without {one_line(best.name)}: --json lists them."
    lines += [filled(one_line(pair.sentence), _WIDTH) for pair in pairs]
    return "\n".join([*lines, *([rest] if rest else [])])


def _best(comparison: Comparison) -> ComparedRun:
    sign = 1 if metric_named(comparison.metric).higher_is_better else -1
    return max(comparison.runs, key=lambda run: sign * run.value)


def _table(comparison: Comparison) -> list[str]:
    head = ("run", metric_named(comparison.metric).name, "95 % interval", "params", "MACs", "train time", "train img/s")
    rows = [head, *(_row(run, comparison.metric) for run in comparison.runs)]
    if not any(row[2] for row in rows[1:]):
        rows = [(*row[:2], *row[3:]) for row in rows]
    if comparison.things != "images":
        rows[0] = (*rows[0][:-1], "train samples/s")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    ]


def _row(run: ComparedRun, metric: str) -> tuple[str, ...]:
    interval = ""
    if run.interval is not None:
        ends = (run.interval.low, run.interval.high)
        share = metric_named(metric).is_share
        interval = "–".join(f"{100 * end:.2f}" for end in ends) if share else " to ".join(map(number, ends))
    return (
        shorten_middle(run.name, _NAME),
        metric_text(metric, run.value),
        interval,
        "–" if run.params is None else scaled(run.params),
        "–" if run.macs is None else scaled(run.macs),
        "–" if run.train_seconds is None else _time(run.train_seconds),
        "–" if run.images_per_second is None else scaled(run.images_per_second),
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
